"""Sessions of people who signed in: kept in the database, so that restarts keep them and every process ends them."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement

from dicom_node.core.errors import IndexUnavailable
from dicom_node.core.principal import Principal
from dicom_node.index.database import Database
from dicom_node.index.people import sessions as rows
from dicom_node.index.people.accounts import Account, account_of
from dicom_node.index.people.sessions import OpenedBy, ProviderSession, Session
from dicom_node.index.tables import sessions as table

#: For so long a process may not have seen that another one ended a session or revoked a key.
REMEMBERED_S = 5.0
#: Not every request is written down.
_SEEN_EVERY = timedelta(seconds=60)
_SECRET_LENGTH = len(secrets.token_urlsafe(32))
_NOBODY = OpenedBy()


def now_utc() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def digest_of(secret: str) -> str:
    """Return the sha256 of a secret of at least 256 random bits, in hexadecimal: nothing slower is needed for these."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """How long a session lasts without being used, and at most."""

    idle: timedelta = timedelta(minutes=30)
    longest: timedelta = timedelta(hours=12)


class Sessions:
    """Open sessions, by the secret that a browser shows. Safe to share between threads."""

    def __init__(
        self, database: Database, limits: SessionLimits | None = None, clock: Callable[[], datetime] = now_utc
    ) -> None:
        self.limits = limits or SessionLimits()
        self._database = database
        self._clock = clock
        self._remembered: Remembered[Session] = Remembered()

    def open(
        self,
        principal: Principal,
        provider: ProviderSession | None = None,
        opened_by: OpenedBy = _NOBODY,
        until: datetime | None = None,
    ) -> str:
        """Open a session of somebody and return its secret; it ends at `until`, if that is before its own limit."""
        secret = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            rows.add_session(connection, self._new(secret, principal, provider, opened_by, until))
        return secret

    def open_for(self, account: Account, browser_digest: str = "") -> str | None:
        """Open a session of a person; `None` when the account has changed since it was read."""
        secret = secrets.token_urlsafe(32)
        opened_by = OpenedBy(account_id=account.id, browser_digest=browser_digest)
        with self._database.write() as connection:
            if account_of(connection, account.id) != account:
                return None
            rows.add_session(connection, self._new(secret, account.principal, None, opened_by, None))
        return secret

    def find(self, secret: str, *, is_used: bool = True) -> Session | None:
        """Return the open session of this secret; `None` when it has ended or never was.

        `is_used` is false where a page asks by itself: that keeps no session open. Raises `IndexUnavailable`.
        """
        if len(secret) != _SECRET_LENGTH or not secret.isascii():
            return None
        digest, now = digest_of(secret), self._clock()
        clears, session = self._remembered.clears, self._remembered.get(digest)
        if session is None:
            with self._database.read() as connection:
                session = rows.find_session(connection, digest)
        if session is None or not session.is_open(now):
            return None
        if is_used and now - session.last_seen_at >= min(_SEEN_EVERY, timedelta(seconds=session.idle_s / 4)):
            session = self._seen(session, now)
        self._remembered.keep(digest, session, clears)
        return session

    def close(self, secret: str) -> None:
        """End a session."""
        self._end(table.c.secret_digest == digest_of(secret))

    def end(self, session: Session) -> None:
        """End this session."""
        self._end(table.c.secret_digest == session.secret_digest)

    def end_for_account(self, account_id: int) -> int:
        """Sign a person out everywhere; return how many sessions ended."""
        return self._end(table.c.account_id == account_id)

    def end_for_key(self, key_digest: str) -> int:
        """End what was opened with this key; return how many sessions ended. No key has opened none."""
        return 0 if not key_digest else self._end(table.c.key_digest == key_digest)

    def end_for_provider(self, issuer: str, *, session_id: str = "", subject: str = "") -> int:
        """End what an identity provider says is over: one session there, or all of a subject (OpenID Connect
        Back-Channel Logout 1.0, 2.4); return how many ended."""
        if not issuer or not (session_id or subject):
            return 0
        which = table.c.provider_issuer == issuer
        if session_id:
            which &= table.c.provider_session_id == session_id
        if subject:
            which &= table.c.provider_subject == subject
        return self._end(which)

    def forget(self) -> None:
        """Look into the database again at the next request, whatever was seen there before."""
        self._remembered.clear()

    def _end(self, which: ColumnElement[bool]) -> int:
        with self._database.write() as connection:
            ended = rows.end_sessions(connection, which, self._clock())
        self._remembered.clear()
        return ended

    def _seen(self, session: Session, now: datetime) -> Session:
        with suppress(IndexUnavailable), self._database.write() as connection:
            rows.note_seen(connection, session.secret_digest, now)
        return replace(session, last_seen_at=now)

    def _new(
        self,
        secret: str,
        principal: Principal,
        provider: ProviderSession | None,
        opened_by: OpenedBy,
        until: datetime | None,
    ) -> Session:
        now = self._clock()
        ends_at = now + self.limits.longest
        return Session(
            secret_digest=digest_of(secret), principal=principal, opened_by=opened_by, opened_at=now,
            last_seen_at=now, idle_s=int(self.limits.idle.total_seconds()),
            expires_at=min(ends_at, until) if until else ends_at, provider=provider,
        )  # fmt: skip


_Kept = TypeVar("_Kept")


class Remembered(Generic[_Kept]):
    """What was read a moment ago, by its key; bounded, and safe to share between threads."""

    def __init__(
        self, for_s: float = REMEMBERED_S, most: int = 1024, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._for_s = for_s
        self._most = most
        self._clock_s = clock_s
        #: How often everything was forgotten; what was read before the last time is not kept after it.
        self.clears = 0
        self._kept: OrderedDict[str, tuple[_Kept, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> _Kept | None:
        """Return what is kept, as long as it is fresh."""
        with self._lock:
            value, until_s = self._kept.get(key, (None, 0.0))
        return value if until_s > self._clock_s() else None

    def keep(self, key: str, value: _Kept, clears: int) -> None:
        """Keep what was read when there had been so many `clears`; what is fresh grows no fresher by being asked for.

        Without their number somebody who reads while another ends a session would have it last on.
        """
        now_s = self._clock_s()
        with self._lock:
            if clears != self.clears:
                return
            _, until_s = self._kept.pop(key, (None, 0.0))
            self._kept[key] = (value, until_s if until_s > now_s else now_s + self._for_s)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.clears += 1
            self._kept.clear()

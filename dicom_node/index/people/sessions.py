"""Rows of sessions: opened by whoever signed in, ended by them, by time, or by what changed about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from dicom_node.core.principal import Principal, UserRole, key_at_provider
from dicom_node.index.tables import sessions

#: Of one principal; the oldest end.
_MOST_OPEN = 64
#: How long an ended session is remembered: by it, a browser that somebody has used before is known.
_REMEMBERED = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSession:
    """What an identity provider said when it vouched for somebody. `token` is encrypted: with it, it is asked again."""

    issuer: str
    subject: str
    session_id: str = ""
    token: str = field(default="", repr=False)
    checked_at: datetime | None = None


_NO_PROVIDER = ProviderSession(issuer="", subject="")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBy:
    """What opened a session: an account, the digest of a key, or neither (a provider); and in which browser."""

    account_id: int | None = None
    key_digest: str = field(default="", repr=False)
    browser_digest: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session. It ends `idle_s` seconds after it was seen last, and at `expires_at` whatever happens."""

    secret_digest: str = field(repr=False)
    principal: Principal
    opened_by: OpenedBy
    opened_at: datetime
    last_seen_at: datetime
    idle_s: int
    expires_at: datetime
    provider: ProviderSession | None = None

    def is_open(self, now: datetime) -> bool:
        """Tell whether neither limit is reached."""
        return now < min(self.expires_at, self.last_seen_at + timedelta(seconds=self.idle_s))


def add_session(connection: Connection, session: Session) -> None:
    """Add a session; of too many of one principal the oldest end, and what is long over is forgotten."""
    now, provider = session.opened_at, session.provider or _NO_PROVIDER
    forget_sessions(connection, sessions.c.expires_at < now - _REMEMBERED)
    connection.execute(
        insert(sessions).values(
            secret_digest=session.secret_digest, principal=session.principal.name,
            principal_key=session.principal.key,
            account_id=session.opened_by.account_id, key_digest=session.opened_by.key_digest,
            browser_digest=session.opened_by.browser_digest, roles=sorted(session.principal.roles),
            opened_at=now, last_seen_at=session.last_seen_at, idle_s=session.idle_s, expires_at=session.expires_at,
            provider_issuer=provider.issuer, provider_subject=provider.subject,
            provider_session_id=provider.session_id, provider_token=provider.token,
            provider_checked_at=provider.checked_at,
        )
    )  # fmt: skip
    _end_the_oldest(connection, session)


def _end_the_oldest(connection: Connection, newest: Session) -> None:
    provider = newest.provider or _NO_PROVIDER
    open_ones = (
        select(sessions.c.secret_digest)
        .where(
            # A provider's names may be shared, and change.
            *(() if newest.provider else (sessions.c.principal == newest.principal.name,)),
            sessions.c.provider_issuer == provider.issuer,
            sessions.c.provider_subject == provider.subject,
            sessions.c.ended_at.is_(None),
        )
        .order_by(sessions.c.opened_at.desc())
        .offset(_MOST_OPEN)
    )
    too_many = list(connection.execute(open_ones).scalars())
    if too_many:
        end_sessions(connection, sessions.c.secret_digest.in_(too_many), newest.opened_at)


def find_session(connection: Connection, secret_digest: str) -> Session | None:
    """Return the session of this digest that nobody has ended; whether its time is over, `is_open` tells."""
    query = select(sessions).where(sessions.c.secret_digest == secret_digest, sessions.c.ended_at.is_(None))
    row = connection.execute(query).one_or_none()
    return _session(row) if row else None


def note_seen(connection: Connection, secret_digest: str, now: datetime) -> None:
    """Keep when a session was used."""
    connection.execute(update(sessions).where(sessions.c.secret_digest == secret_digest).values(last_seen_at=now))


def end_sessions(connection: Connection, which: ColumnElement[bool], now: datetime) -> int:
    """End these sessions; return how many were open."""
    still = sessions.c.ended_at.is_(None)
    # What a provider gave us is of no use to an ended session.
    ended = update(sessions).where(which, still).values(ended_at=now, provider_token="")
    return connection.execute(ended).rowcount


def forget_sessions(connection: Connection, which: ColumnElement[bool]) -> None:
    """Remove these sessions without a trace."""
    connection.execute(delete(sessions).where(which))


def has_used(connection: Connection, account_id: int, browser_digest: str) -> bool:
    """Tell whether this person has had a session in this browser before."""
    if not browser_digest:
        return False
    query = select(sessions.c.secret_digest).where(
        sessions.c.browser_digest == browser_digest, sessions.c.account_id == account_id
    )
    return connection.execute(query.limit(1)).first() is not None


def claim_check(connection: Connection, secret_digest: str, checked_before: datetime, now: datetime) -> str | None:
    """Take it upon oneself to ask the provider about a session, and return what it is asked with.

    `None` where another has done so since, in this process or another: what it is asked with may be good only once.
    """
    which = (sessions.c.secret_digest == secret_digest, sessions.c.ended_at.is_(None))
    due = update(sessions).where(*which, sessions.c.provider_checked_at < checked_before)
    if connection.execute(due.values(provider_checked_at=now)).rowcount == 0:
        return None
    return str(connection.execute(select(sessions.c.provider_token).where(*which)).scalar_one())


def note_vouched(connection: Connection, secret_digest: str, principal: Principal, token: str) -> None:
    """Keep what the provider said of a session when it was asked: who it is by now, and what it is asked with next."""
    which = (sessions.c.secret_digest == secret_digest, sessions.c.ended_at.is_(None))
    said = {"principal": principal.name, "roles": sorted(principal.roles), "provider_token": token}
    connection.execute(update(sessions).where(*which).values(**said))


def _session(row: Row[Any]) -> Session:
    provider = ProviderSession(
        issuer=row.provider_issuer, subject=row.provider_subject, session_id=row.provider_session_id,
        token=row.provider_token, checked_at=row.provider_checked_at,
    )  # fmt: skip
    # A session from before 0022 has no key of its own.
    key = row.principal_key or (key_at_provider(provider.issuer, provider.subject) if provider.issuer else "")
    return Session(
        secret_digest=row.secret_digest,
        principal=Principal(row.principal, frozenset(map(UserRole, row.roles)), key),
        opened_by=OpenedBy(
            account_id=row.account_id, key_digest=row.key_digest, browser_digest=row.browser_digest
        ),
        opened_at=row.opened_at, last_seen_at=row.last_seen_at, idle_s=row.idle_s, expires_at=row.expires_at,
        provider=provider if row.provider_issuer else None,
    )  # fmt: skip

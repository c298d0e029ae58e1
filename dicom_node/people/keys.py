"""Keys of programs: made here and shown once, known again by their digest."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from dicom_node.core.errors import IndexUnavailable
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.database import Database
from dicom_node.index.people import keys as rows
from dicom_node.index.people.keys import ApiKey
from dicom_node.people.accounts import require_name, require_roles
from dicom_node.people.sessions import Remembered, digest_of, now_utc

#: By it scanners for secrets know one that was published by mistake.
_PREFIX = "dnk_"
_SECRET = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
_USED_EVERY = timedelta(minutes=5)
#: How long a key may last.
MAX_DAYS = 3650


class Keys:
    """The keys of one node. Safe to share between threads."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = now_utc) -> None:
        self._database = database
        self._clock = clock
        self._remembered: Remembered[ApiKey] = Remembered()

    def add(self, name: str, roles: Collection[UserRole], days: int, by: Principal) -> tuple[str, ApiKey]:
        """Make a key that lasts so many days; return its secret, which is nowhere kept, and the key.

        Raises `AccountRefused` for a name that cannot be taken, and `Conflict` for one that is taken.
        """
        require_name(name)
        require_roles(roles)
        secret, now = _PREFIX + secrets.token_urlsafe(32), self._clock()
        key = ApiKey(
            name=name, roles=frozenset(roles), created_by=by.name, created_at=now,
            expires_at=now + timedelta(days=days), secret_digest=digest_of(secret),
        )  # fmt: skip
        with self._database.write() as connection:
            rows.add_key(connection, key)
        return secret, key

    def all(self) -> Sequence[ApiKey]:
        """Return every key, also those that are revoked."""
        with self._database.read() as connection:
            return rows.all_keys(connection)

    def revoke(self, name: str) -> ApiKey:
        """End a key and what was opened with it. Raises `NotFound`."""
        with self._database.write() as connection:
            key = rows.revoke_key(connection, name, self._clock())
        self._remembered.clear()
        return key

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of this secret; `None` when it is revoked, expired or none. Raises `IndexUnavailable`."""
        if not _SECRET.fullmatch(secret):
            return None
        digest, now = digest_of(secret), self._clock()
        clears, key = self._remembered.clears, self._remembered.get(digest)
        if key is None:
            with self._database.read() as connection:
                key = rows.key_of_digest(connection, digest)
        if key is None or not key.is_good(now):
            return None
        if key.last_used_at is None or now - key.last_used_at >= _USED_EVERY:
            key = self._used(key, now)
        self._remembered.keep(digest, key, clears)
        return key

    def _used(self, key: ApiKey, now: datetime) -> ApiKey:
        with suppress(IndexUnavailable), self._database.write() as connection:
            rows.note_use(connection, key.secret_digest, now)
        return replace(key, last_used_at=now)

"""Rows of keys that programs show; the secret itself is nowhere kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from dicom_node.core.errors import Conflict, NotFound
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.database import insert_of
from dicom_node.index.people.accounts import key_of
from dicom_node.index.people.sessions import end_sessions
from dicom_node.index.tables import api_keys, sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key. `last_used_at` is right to some minutes."""

    name: str
    roles: frozenset[UserRole]
    created_by: str
    created_at: datetime
    expires_at: datetime
    #: sha256 of the secret, in hexadecimal.
    secret_digest: str = field(repr=False)
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Who acts when this key is shown; no account can be named so."""
        return Principal(f"key:{self.name}", self.roles)

    def is_good(self, now: datetime) -> bool:
        """Tell whether the key opens anything now."""
        return self.revoked_at is None and now < self.expires_at


def add_key(connection: Connection, key: ApiKey) -> None:
    """Add a key. Raises `Conflict` when a key of this name is in use."""
    added = connection.execute(
        insert_of(connection)(api_keys)
        .values(
            name=key.name, name_key=key_of(key.name), secret_digest=key.secret_digest, roles=sorted(key.roles),
            created_by=key.created_by[:128], created_at=key.created_at, expires_at=key.expires_at,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    if not added.rowcount:
        raise Conflict(f"There is a key {key.name} already. Choose another name, or revoke that one first.")


def all_keys(connection: Connection) -> Sequence[ApiKey]:
    """Return every key, also those that are revoked, by name and age."""
    return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.name_key, api_keys.c.id))]


def key_of_digest(connection: Connection, secret_digest: str) -> ApiKey | None:
    """Return the key whose secret has this digest."""
    row = connection.execute(select(api_keys).where(api_keys.c.secret_digest == secret_digest)).one_or_none()
    return _key(row) if row else None


def note_use(connection: Connection, secret_digest: str, now: datetime) -> None:
    """Keep when a key was used."""
    connection.execute(update(api_keys).where(api_keys.c.secret_digest == secret_digest).values(last_used_at=now))


def revoke_key(connection: Connection, name: str, now: datetime) -> ApiKey:
    """End a key, and the sessions that were opened with it. Raises `NotFound`."""
    in_use = (api_keys.c.name_key == key_of(name), api_keys.c.revoked_at.is_(None))
    row = connection.execute(select(api_keys).where(*in_use)).one_or_none()
    if row is None:
        raise NotFound(f"There is no key {name} in use. `dicom-node keys list` shows those there are.")
    connection.execute(update(api_keys).where(*in_use).values(revoked_at=now))
    end_sessions(connection, sessions.c.key_digest == row.secret_digest, now)
    return _key(row)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        name=row.name, roles=frozenset(map(UserRole, row.roles)), created_by=row.created_by,
        created_at=row.created_at, expires_at=row.expires_at, secret_digest=row.secret_digest,
        last_used_at=row.last_used_at, revoked_at=row.revoked_at,
    )  # fmt: skip

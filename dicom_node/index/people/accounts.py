"""Rows of people who sign in with a password; whatever changes what they may ends their sessions with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from dicom_node.core.errors import Conflict, NotFound
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.database import insert_of
from dicom_node.index.people.sessions import end_sessions, forget_sessions
from dicom_node.index.tables import accounts, sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person. Without `password_hash` they cannot sign in with a password.

    `display_name` is what they are called in what they review, a person name as DICOM writes it (``Family^Given``), and
    `identifier` what the hospital calls them; empty where that is not told.
    """

    id: int
    name: str
    roles: frozenset[UserRole]
    created_at: datetime
    password_hash: str | None = None
    password_changed_at: datetime | None = None
    disabled_at: datetime | None = None
    display_name: str = ""
    identifier: str = ""

    @property
    def principal(self) -> Principal:
        """Who acts when this person does."""
        return Principal(self.name, self.roles)

    @property
    def administers(self) -> bool:
        """Tell whether this person can sign in and administer the node."""
        return UserRole.ADMIN in self.roles and self.disabled_at is None and self.password_hash is not None


def key_of(name: str) -> str:
    """Return what names are compared by: ALICE is alice."""
    return name.casefold()


def add_account(
    connection: Connection, name: str, roles: Collection[UserRole], password_hash: str | None, now: datetime
) -> Account:
    """Add a person. Raises `Conflict` when the name is taken."""
    added = connection.execute(
        insert_of(connection)(accounts)
        .values(
            name=name, name_key=key_of(name), password_hash=password_hash, roles=sorted(roles), created_at=now,
            password_changed_at=now if password_hash else None,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    if not added.rowcount:
        raise Conflict(f"There is an account {name} already. Choose another name, or change that one.")
    return account(connection, name)


def account(connection: Connection, name: str) -> Account:
    """Return the account of this name. Raises `NotFound`."""
    found = find_account(connection, name)
    if found is None:
        raise NotFound(f"There is no account {name}. `dicom-node users list` shows those there are.")
    return found


def find_account(connection: Connection, name: str) -> Account | None:
    """Return the account of this name, `None` where there is none."""
    row = connection.execute(select(accounts).where(accounts.c.name_key == key_of(name))).one_or_none()
    return _account(row) if row else None


def account_of(connection: Connection, id_: int) -> Account | None:
    """Return the account of this number; a transaction that writes has it for itself from here on."""
    row = connection.execute(select(accounts).where(accounts.c.id == id_).with_for_update()).one_or_none()
    return _account(row) if row else None


def all_accounts(connection: Connection) -> Sequence[Account]:
    """Return everybody, by name."""
    return [_account(row) for row in connection.execute(select(accounts).order_by(accounts.c.name_key))]


def administrators(connection: Connection) -> Sequence[Account]:
    """Return who can sign in and administer the node; a transaction that writes has them for itself from here on."""
    rows = connection.execute(select(accounts).order_by(accounts.c.id).with_for_update())
    return [one for one in map(_account, rows) if one.administers]


def set_password(connection: Connection, id_: int, password_hash: str, now: datetime) -> None:
    """Give a person another password. All their sessions end."""
    _change(connection, id_, now, password_hash=password_hash, password_changed_at=now)


def set_roles(connection: Connection, id_: int, roles: Collection[UserRole], now: datetime) -> None:
    """Let a person be something else here. All their sessions end."""
    _change(connection, id_, now, roles=sorted(roles))


def set_disabled(connection: Connection, id_: int, disabled_at: datetime | None, now: datetime) -> None:
    """Shut a person out, or (none) let them in again. All their sessions end."""
    _change(connection, id_, now, disabled_at=disabled_at)


def set_named(connection: Connection, id_: int, display_name: str, identifier: str) -> None:
    """Say what a person is called in what they review; sessions go on."""
    values = {"display_name": display_name, "identifier": identifier}
    connection.execute(update(accounts).where(accounts.c.id == id_).values(**values))


def replace_hash(connection: Connection, id_: int, old: str, new: str) -> None:
    """Keep the same password under stronger parameters; sessions go on."""
    connection.execute(
        update(accounts).where(accounts.c.id == id_, accounts.c.password_hash == old).values(password_hash=new)
    )


def remove_account(connection: Connection, id_: int) -> None:
    """Remove a person, and what is known of their sessions: the number may be given to somebody else."""
    forget_sessions(connection, sessions.c.account_id == id_)
    connection.execute(delete(accounts).where(accounts.c.id == id_))


def _change(connection: Connection, id_: int, now: datetime, **values: Any) -> None:
    connection.execute(update(accounts).where(accounts.c.id == id_).values(**values))
    end_sessions(connection, sessions.c.account_id == id_, now)


def _account(row: Row[Any]) -> Account:
    return Account(
        id=row.id, name=row.name, roles=frozenset(map(UserRole, row.roles)), created_at=row.created_at,
        password_hash=row.password_hash, password_changed_at=row.password_changed_at, disabled_at=row.disabled_at,
        display_name=row.display_name, identifier=row.identifier,
    )  # fmt: skip

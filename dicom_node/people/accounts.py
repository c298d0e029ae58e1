"""Accounts of people: who may be added, how they sign in, and that somebody always administers the node."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from dicom_node.core.calls.limits import network_of
from dicom_node.core.errors import AccountRefused, Conflict
from dicom_node.core.principal import UserRole
from dicom_node.index.database import Database
from dicom_node.index.people import accounts as rows
from dicom_node.index.people.accounts import Account
from dicom_node.index.people.sessions import has_used
from dicom_node.people.limits import FailureLimit, LockOut, delayed
from dicom_node.people.passwords import Passwords, require_good
from dicom_node.people.sessions import now_utc

#: No colon: it ends the name in basic authentication (RFC 7617 2), and begins the names of keys and commands.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
#: Whom timelines and the audit trail call so is no person.
_TAKEN = {"node", "api-token"}
#: One group of components of a person name; alphabets are the reader's affair.
_PERSON_NAME = re.compile("[^\\\\=\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_LONGEST_PERSON_NAME, _MOST_CARETS = 64, 4
_log = logging.getLogger(__name__)


def require_name(name: str) -> None:
    """Raise `AccountRefused` for a name that nobody can have."""
    if not _NAME.fullmatch(name) or name.casefold() in _TAKEN:
        raise AccountRefused(
            f"{name!r} cannot be a name: 1 to 64 letters, digits and . _ @ - of ASCII, first a letter or a digit; "
            f"not {' or '.join(sorted(_TAKEN))}."
        )


def require_roles(roles: Collection[UserRole]) -> None:
    """Raise `AccountRefused` for nobody's role."""
    if not roles:
        raise AccountRefused(f"At least one role is needed: {', '.join(UserRole)}.")


def require_person_name(name: str) -> None:
    """Raise `AccountRefused` for what cannot stand in a report as one person's name (VR PN, PS3.5 6.2)."""
    if len(name) > _LONGEST_PERSON_NAME or name.count("^") > _MOST_CARETS or not _PERSON_NAME.fullmatch(name):
        raise AccountRefused(
            f"{name!a:.80} cannot stand in a report: at most {_LONGEST_PERSON_NAME} characters, Family^Given as DICOM "
            "writes names, without backslash, equals sign and control characters."
        )


@dataclass(frozen=True, slots=True)
class TriedFrom:
    """Where a sign-in comes from: a network address, and the digest of what the browser is known by, if it is."""

    address: str
    browser_digest: str = field(default="", repr=False)


class Accounts:
    """The accounts of one node. Safe to share between threads."""

    def __init__(
        self, database: Database, passwords: Passwords | None = None, clock: Callable[[], datetime] = now_utc
    ) -> None:
        self._database = database
        self._passwords = passwords or Passwords()
        self._clock = clock
        self._lock_out = LockOut()
        self._failures = FailureLimit(per_minute=30)

    def sign_in(self, name: str, password: str, tried: TriedFrom) -> Account | None:
        """Return whose name and password these are; `None` when they are wrong, whatever of it is.

        Raises `SignInDelayed` where too many failed before: of this name at this address, or of any name at it. A
        browser in which this person has signed in before has a count of its own, so that whoever guesses behind the
        same proxy does not shut them out. Raises `IndexUnavailable`.
        """
        account, is_known = self._looked_up(name, tried)
        place = tried.browser_digest if is_known else network_of(tried.address)
        if not is_known and (wait_s := self._failures.wait_s(tried.address)) > 0:
            raise delayed(wait_s)
        self._lock_out.begin(name.casefold(), place)
        usable = account.password_hash if account and account.disabled_at is None else None
        if not self._passwords.match(password, usable, is_known=is_known) or account is None:
            self._failures.failed(tried.address)
            _log.warning("sign-in failed", extra={"address": tried.address})
            return None
        self._lock_out.succeeded(name.casefold(), place)
        return self._with_hash_of_today(account, password)

    def known_name(self, name: str) -> str:
        """Return the name as the account of it has it, "" where there is none."""
        if not _NAME.fullmatch(name):
            return ""
        with self._database.read() as connection:
            account = rows.find_account(connection, name)
        return account.name if account else ""

    def _looked_up(self, name: str, tried: TriedFrom) -> tuple[Account | None, bool]:
        if not _NAME.fullmatch(name):
            return None, False
        with self._database.read() as connection:
            account = rows.find_account(connection, name)
            # Looked for whether there is somebody or not, so that it takes as long.
            is_known = has_used(connection, account.id if account else 0, tried.browser_digest)
        return account, is_known

    def _with_hash_of_today(self, account: Account, password: str) -> Account:
        old = account.password_hash
        if old is None or not self._passwords.are_outdated(old):
            return account
        new = self._passwords.hashed(password)
        with self._database.write() as connection:
            rows.replace_hash(connection, account.id, old, new)
        return replace(account, password_hash=new)

    # --- what administrators do ----------------------------------------------------------------------------------

    def all(self) -> Sequence[Account]:
        """Return everybody, by name."""
        with self._database.read() as connection:
            return rows.all_accounts(connection)

    def get(self, name: str) -> Account:
        """Return the account of this name. Raises `NotFound`."""
        with self._database.read() as connection:
            return rows.account(connection, name)

    def has_administrator(self) -> bool:
        """Tell whether anybody can sign in and administer the node."""
        return any(one.administers for one in self.all())

    def add(self, name: str, roles: Collection[UserRole], password: str | None) -> Account:
        """Add a person. Raises `AccountRefused`, or `Conflict` for a name that is taken."""
        require_name(name)
        require_roles(roles)
        hashed = None if password is None else self._hashed(password, name)
        with self._database.write() as connection:
            return rows.add_account(connection, name, roles, hashed, self._clock())

    def set_password(self, name: str, password: str) -> Account:
        """Give a person another password, and sign them out everywhere. Raises `AccountRefused`, `NotFound`."""
        hashed = self._hashed(password, name)
        with self._database.write() as connection:
            account = rows.account(connection, name)
            rows.set_password(connection, account.id, hashed, self._clock())
            return rows.account(connection, name)

    def set_roles(self, name: str, roles: Collection[UserRole]) -> Account:
        """Let a person be something else, and sign them out everywhere.

        Raises `NotFound`, `AccountRefused` (no role), or `Conflict` for the last administrator.
        """
        require_roles(roles)
        with self._database.write() as connection:
            account = _without_losing_the_last(connection, name, stays=UserRole.ADMIN in roles)
            rows.set_roles(connection, account.id, roles, self._clock())
            return rows.account(connection, name)

    def set_named(self, name: str, display_name: str, identifier: str) -> Account:
        """Say what a person is called in what they review, and by which number the hospital knows them.

        Raises `NotFound`, and `AccountRefused` for what no report can hold.
        """
        require_person_name(display_name)
        require_person_name(identifier)
        with self._database.write() as connection:
            account = rows.account(connection, name)
            rows.set_named(connection, account.id, display_name.strip(), identifier.strip())
            return rows.account(connection, name)

    def disable(self, name: str) -> Account:
        """Shut a person out. Raises `NotFound`, or `Conflict` for the last administrator."""
        with self._database.write() as connection:
            account = _without_losing_the_last(connection, name)
            now = self._clock()
            rows.set_disabled(connection, account.id, account.disabled_at or now, now)
            return rows.account(connection, name)

    def enable(self, name: str) -> Account:
        """Let a person in again. Raises `NotFound`."""
        with self._database.write() as connection:
            account = rows.account(connection, name)
            rows.set_disabled(connection, account.id, None, self._clock())
            return rows.account(connection, name)

    def remove(self, name: str) -> Account:
        """Remove a person. Raises `NotFound`, or `Conflict` for the last administrator."""
        with self._database.write() as connection:
            account = _without_losing_the_last(connection, name)
            rows.remove_account(connection, account.id)
            return account

    def _hashed(self, password: str, name: str) -> str:
        require_good(password, name)
        return self._passwords.hashed(password)


def _without_losing_the_last(connection: Connection, name: str, *, stays: bool = False) -> Account:
    """Return the account, unless it is the only one that administers the node and would no longer."""
    administrators = rows.administrators(connection)
    account = rows.account(connection, name)
    if not stays and [one.id for one in administrators] == [account.id]:
        raise Conflict(
            f"{account.name} is the last who can administer this node. Give somebody else the role admin first."
        )
    return account

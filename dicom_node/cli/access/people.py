"""`dicom-node users` and `dicom-node keys`: who may use the node. Passwords are asked for, or read from a file."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.cli.node import opened
from dicom_node.cli.terminal import actor, print_json, print_table, say
from dicom_node.config.settings import Settings
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent
from dicom_node.core.errors import AccountRefused, Conflict, SettingsError
from dicom_node.core.principal import UserRole
from dicom_node.index.people.accounts import Account
from dicom_node.people.accounts import Accounts
from dicom_node.people.directory import People
from dicom_node.people.views import KeyView, UserView
from dicom_node.roles.settings import load_settings

_MAX_FILE_BYTES = 4096


@contextmanager
def _people(options: argparse.Namespace, act: AuditedAct | None = None, **detail: object) -> Iterator[People]:
    with opened(options, act, None, **detail) as database:
        yield People.of(database, load_settings(options.config).people)


def _changed(
    options: argparse.Namespace, what: str, change: Callable[[Accounts], Account], told: str, **detail: object
) -> int:
    """Change an account, which is written down before it is done, and say of it what is `told`."""
    with _people(options, AuditedAct.ACCOUNT_CHANGED, account=options.name, what=what, **detail) as people:
        account = change(people.accounts)
    roles, called = ", ".join(sorted(account.roles)), account.display_name or account.name
    say(told.format(name=account.name, roles=roles, called=called))
    return 0


def _roles(options: argparse.Namespace) -> frozenset[UserRole]:
    return frozenset(map(UserRole, options.role))


# --- users -------------------------------------------------------------------------------------------------------


def add_user(options: argparse.Namespace) -> int:
    """Add a person with their first password."""
    password, roles = _new_password(options), _roles(options)
    return _changed(
        options, "added", lambda accounts: accounts.add(options.name, roles, password), "{name} can sign in now.",
        given=sorted(roles),
    )  # fmt: skip


def list_users(options: argparse.Namespace) -> int:
    """Show who may sign in."""
    with _people(options) as people:
        seen = [UserView.of(account) for account in people.accounts.all()]
    if options.json:
        print_json(seen)
    else:
        rows = [(one.name, ", ".join(one.roles), one.created_at, one.disabled_at) for one in seen]
        print_table(["name", "roles", "added", "disabled"], rows)
    return 0


def set_role(options: argparse.Namespace) -> int:
    """Let a person be something else; they are signed out."""
    roles = _roles(options)
    return _changed(
        options, "roles", lambda accounts: accounts.set_roles(options.name, roles),
        "{name} is {roles} from the next sign-in.", given=sorted(roles),
    )  # fmt: skip


def set_named(options: argparse.Namespace) -> int:
    """Say what a person is called in the reports that they verify."""
    return _changed(
        options, "named",
        lambda accounts: accounts.set_named(options.name, options.display_name, options.identifier),
        "{name} verifies reports as {called}.",
    )  # fmt: skip


def disable_user(options: argparse.Namespace) -> int:
    """Shut a person out."""
    told = "{name} is signed out and cannot sign in."
    return _changed(options, "disabled", lambda accounts: accounts.disable(options.name), told)


def enable_user(options: argparse.Namespace) -> int:
    """Let a person in again."""
    return _changed(options, "enabled", lambda accounts: accounts.enable(options.name), "{name} can sign in again.")


def reset_password(options: argparse.Namespace) -> int:
    """Give a person another password; they are signed out."""
    password = _new_password(options)
    told = "{name} is signed out and has a new password."
    return _changed(options, "password", lambda accounts: accounts.set_password(options.name, password), told)


def remove_user(options: argparse.Namespace) -> int:
    """Remove a person."""
    return _changed(options, "removed", lambda accounts: accounts.remove(options.name), "{name} is removed.")


# --- keys --------------------------------------------------------------------------------------------------------


def add_key(options: argparse.Namespace) -> int:
    """Make a key and show its secret, once."""
    roles = _roles(options)
    told = {"key": options.name, "what": "added", "given": sorted(roles)}
    with _people(options, AuditedAct.KEY_CHANGED, **told) as people:
        secret, key = people.keys.add(options.name, roles, options.expires, actor())
    sys.stderr.write(f"Key {key.name}, until {key.expires_at:%Y-%m-%d}. Its secret, shown only now:\n")
    sys.stdout.write(secret + "\n")
    return 0


def list_keys(options: argparse.Namespace) -> int:
    """Show the keys, never their secrets."""
    with _people(options) as people:
        seen = [KeyView.of(key) for key in people.keys.all()]
    if options.json:
        print_json(seen)
    else:
        rows = [(k.name, ", ".join(k.roles), k.created_by, k.expires_at, k.last_used_at, k.revoked_at) for k in seen]
        print_table(["name", "roles", "made by", "expires", "last used", "revoked"], rows)
    return 0


def revoke_key(options: argparse.Namespace) -> int:
    """End a key."""
    with _people(options, AuditedAct.KEY_CHANGED, key=options.name, what="revoked") as people:
        key = people.keys.revoke(options.name)
    say(f"Key {key.name} opens nothing any more.")
    return 0


# --- passwords ---------------------------------------------------------------------------------------------------


def _new_password(options: argparse.Namespace) -> str:
    return _password_in(options.password_file) if options.password_file else _asked_password()


def _asked_password() -> str:
    if not sys.stdin.isatty():
        raise SettingsError("Nobody can be asked for a password here. Run it on a terminal, or use --password-file.")
    password = getpass.getpass("New password: ")
    if password != getpass.getpass("The same again: "):
        raise AccountRefused("The two differ. Nothing was changed.")
    return password


def _password_in(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({type(error).__name__}). Name a text file that holds nothing but the password."
        ) from error
    return text.rstrip("\r\n")


def ask_first_administrator(people: People, settings: Settings, audit: Audit) -> None:
    """Ask whoever starts a node for the first time on a terminal who will administer it; an empty answer is none."""
    token_file = settings.api.token_file or settings.node.data_dir / "api-token"
    is_first = not token_file.exists() and not settings.people.first_admin_file
    if not (is_first and sys.stdin.isatty() and sys.stdout.isatty()) or people.accounts.has_administrator():
        return
    say("Who will administer this node? Enter alone: nobody yet; `dicom-node users add NAME --role admin` adds one.")
    with suppress(EOFError):
        while name := input("Name: ").strip():
            if _added_first(people, name, audit):
                return


def _added_first(people: People, name: str, audit: Audit) -> bool:
    try:
        people.accounts.add(name, [UserRole.ADMIN], _asked_password())
    except (AccountRefused, Conflict) as refused:
        say(str(refused))
        return False
    detail = {"account": name, "what": "added", "given": [UserRole.ADMIN]}
    audit.note(AuditedEvent(act=AuditedAct.ACCOUNT_CHANGED, actor=actor(), detail=detail))
    return True

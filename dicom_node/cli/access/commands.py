"""What the commands about people, keys and the audit trail take."""

from __future__ import annotations

import argparse
from pathlib import Path

from dicom_node.cli.command import Commands, add_command, days
from dicom_node.core.principal import UserRole


def users(commands: Commands) -> None:
    users = commands.add_parser("users", help="people who may sign in")
    below = users.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "show who may sign in", "access.people:list_users", json=True)
    command = _of_somebody(below, "add", "add a person; their password is asked for", "access.people:add_user")
    _add_roles(command)
    _add_password_file(command)
    _add_roles(_of_somebody(below, "set-role", "let a person be something else", "access.people:set_role"))
    command = _of_somebody(
        below, "set-name", "say what a person is called in reports they verify", "access.people:set_named"
    )
    command.add_argument("display_name", metavar="FAMILY^GIVEN", help='as DICOM writes names; "": the account\'s name')
    command.add_argument("--identifier", default="", metavar="TEXT", help="by which the hospital knows the person")
    _of_somebody(below, "disable", "shut a person out", "access.people:disable_user")
    _of_somebody(below, "enable", "let a person in again", "access.people:enable_user")
    _add_password_file(
        _of_somebody(below, "reset-password", "give a person another password", "access.people:reset_password")
    )
    _of_somebody(below, "remove", "remove a person", "access.people:remove_user")


def keys(commands: Commands) -> None:
    keys = commands.add_parser("keys", help="keys with which programs use the API")
    below = keys.add_subparsers(required=True, metavar="COMMAND")
    add_command(below, "list", "show the keys, never their secrets", "access.people:list_keys", json=True)
    command = _of_somebody(below, "add", "make a key and print its secret, once", "access.people:add_key")
    _add_roles(command)
    command.add_argument("--expires", type=days, default=365, metavar="DAYS", help="how long it lasts")
    _of_somebody(below, "revoke", "end a key", "access.people:revoke_key")


def audit(commands: Commands) -> None:
    audit = commands.add_parser("audit", help="who did what here: the audit trail")
    below = audit.add_subparsers(required=True, metavar="COMMAND")
    add_command(
        below, "verify", "see whether any record was changed or removed", "access.audit:verify_trail", json=True
    )
    command = add_command(below, "list", "show the latest records", "access.audit:list_records", json=True)
    command.add_argument("--limit", type=int, default=50, help="how many records")
    _add_audit_filter(command)
    command = add_command(below, "export", "write records into a file, one JSON object a line", "access.audit:export")
    command.add_argument("file", type=Path, metavar="FILE", help="new file, which only you can read")
    _add_audit_filter(command)
    command = add_command(
        below, "accept", "stand for a trail that is older than its anchor: a backup was put back", "access.audit:accept"
    )
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is written into the trail")
    add_command(below, "rotate-key", "seal what is new with a new key", "access.audit:rotate_key")


def _of_somebody(commands: Commands, name: str, text: str, target: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, text, target)
    command.add_argument("name", metavar="NAME", help="name, whatever its case")
    return command


def _add_roles(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--role",
        action="append",
        required=True,
        choices=tuple(map(str, UserRole)),
        help="what they are here (repeatable)",
    )


def _add_password_file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file with the password; default: asked for"
    )


def _add_audit_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--since", metavar="TIME", help="from this time on, as 2026-11-20 or 2026-11-20T08:00+01:00")
    command.add_argument("--until", metavar="TIME", help="before this time")
    command.add_argument("--actor", default="", metavar="NAME", help="only what this one did")
    command.add_argument("--act", default="", metavar="ACT", help="only this act, such as withdrawal")
    command.add_argument("--study", default="", metavar="UID", help="only about this study")
    command.add_argument("--patient", default="", metavar="ID", help="only about this PatientID")

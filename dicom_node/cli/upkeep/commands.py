"""What the commands that keep a node going take."""

from __future__ import annotations

import argparse
from pathlib import Path

from dicom_node.cli.command import Commands, add_command, late


def hold(commands: Commands) -> None:
    command = add_command(commands, "hold", "keep a study from being deleted", "upkeep.retention:hold")
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the timeline")


def release(commands: Commands) -> None:
    command = add_command(commands, "release", "let a held study go", "upkeep.retention:release")
    command.add_argument("study", help="Study Instance UID")


def purge(commands: Commands) -> None:
    command = add_command(
        commands, "purge", "delete now what [retention] says may go", "upkeep.retention:purge", json=True
    )
    command.add_argument("--dry-run", action="store_true", help="only say what would go, and why the rest stays")


def drift(commands: Commands) -> None:
    command = add_command(
        commands, "drift", "show what has changed in inputs and outputs since a model was taken into use",
        "upkeep.drift:show", json=True,
    )  # fmt: skip
    command.add_argument("--all", action="store_true", help="every comparison, also of what does not drift")
    below = command.add_subparsers(metavar="COMMAND")
    command = add_command(
        below, "restore", "let a route deliver again that was moved to shadow", "upkeep.drift:restore"
    )
    command.add_argument("name", metavar="ROUTE", help="name of the route")
    command.add_argument("--by", required=True, metavar="NAME", help="who answers for it")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept")
    command.add_argument("--new-reference", action="store_true",
                         help="compare with what comes from tomorrow on: the change was meant")  # fmt: skip


def reload(commands: Commands) -> None:
    command = add_command(
        commands, "reload", "have the running node read its settings again", "upkeep.reload:reload", json=True
    )
    command.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds the node may take to answer")


def alarms(commands: Commands) -> None:
    group = commands.add_parser("alarms", help="what people are told of", description="What people are told of.")
    inner = group.add_subparsers(required=True, metavar="COMMAND", title="commands")
    listed = add_command(inner, "list", "show the alarms that stand", "upkeep.alarms:list_alarms", json=True)
    listed.add_argument("--all", action="store_true", help="also those that are over")
    known = add_command(inner, "acknowledge", "say that you know of an alarm", "upkeep.alarms:acknowledge_alarm")
    known.add_argument("number", type=int, help="its number in the list")
    known.add_argument("--reason", default="", metavar="TEXT", help="what is done about it; shown on the page")
    add_command(inner, "test", "tell every receiver of alarms a test", "upkeep.alarms:test")


def backup(commands: Commands) -> None:
    command = add_command(
        commands,
        "backup",
        "copy all that the node knows into a folder, while it runs",
        "upkeep.backup:backup",
        json=True,
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where backups are; on another disk")
    command.add_argument("--keep", type=_count, default=0, metavar="N", help="remove all but the N latest afterwards")
    command.add_argument("--verify", action="store_true", help="read everything again that is in it")
    command.add_argument("--check", metavar="SNAPSHOT", help="make none, but read one again: its name, or `latest`")
    command.add_argument("--list", action="store_true", help="make none, but show those that are there")


def restore(commands: Commands) -> None:
    command = commands.add_parser(
        "restore",
        help="put a backup back into an empty data folder",
        description="Put a backup back into an empty data folder.",
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where backups are")
    command.add_argument("--to", type=Path, required=True, metavar="DATA_DIR", help="a new or empty folder")
    command.add_argument("--snapshot", default="", metavar="NAME", help="which; default: the latest")
    command.add_argument("--database", default="", metavar="URL", help="an empty database; default: SQLite in DATA_DIR")
    command.add_argument("--json", action="store_true", help="print JSON for scripts")
    command.set_defaults(run=late("upkeep.backup:restore"))


def smart_key(commands: Commands) -> None:
    keys = commands.add_parser("smart-key", help="keys with which the node signs in to EHRs (SMART)")
    below = keys.add_subparsers(required=True, metavar="COMMAND")
    command = add_command(
        below, "new", "make a private key, and print the public one to register", "upkeep.smart_key:new"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="new file, which only you can read")
    command.add_argument("--type", choices=("rsa", "ec"), default="rsa", help="RS384 (rsa, default) or ES384 (ec)")
    command = add_command(below, "show", "print public keys as a JWK Set", "upkeep.smart_key:show")
    command.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="private keys; default: those of the settings"
    )


def doctor(commands: Commands) -> None:
    command = add_command(
        commands, "doctor", "check the configuration against the real world", "upkeep.doctor:doctor", json=True
    )
    command.add_argument("--register", metavar="URL", help="address of an Orthanc that shall know this node")
    command.add_argument("--as", dest="alias", default="ainode", help="name of the node inside Orthanc")
    command.add_argument(
        "--address", default="", help="address at which Orthanc reaches the node; default: found by itself"
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of snapshots from 1 to 100000")
    return int(text)

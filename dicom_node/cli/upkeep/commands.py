"""What the commands that keep a node going take."""

from __future__ import annotations

import argparse
from pathlib import Path

from dicom_node.cli.command import add_command, late


def hold(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "hold", "keep a study from being deleted", "upkeep.retention:hold")
    command.add_argument("study", help="Study Instance UID")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the timeline")


def release(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "release", "let a held study go", "upkeep.retention:release")
    command.add_argument("study", help="Study Instance UID")


def purge(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(
        commands, "purge", "delete now what [retention] says may go", "upkeep.retention:purge", json=True
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only say what would go, and why the rest stays")


def drift(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def backup(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "backup", "copy all that the node knows into a folder, while it runs",
                       "upkeep.backup:backup", json=True)  # fmt: skip
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where backups are; on another disk")
    command.add_argument("--keep", type=_count, default=0, metavar="N", help="remove all but the N latest afterwards")
    command.add_argument("--verify", action="store_true", help="read everything again that is in it")
    command.add_argument("--check", metavar="SNAPSHOT", help="make none, but read one again: its name, or `latest`")
    command.add_argument("--list", action="store_true", help="make none, but show those that are there")


def restore(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("restore", help="put a backup back into an empty data folder",
                                  description="Put a backup back into an empty data folder.")  # fmt: skip
    command.add_argument("folder", type=Path, metavar="FOLDER", help="where backups are")
    command.add_argument("--to", type=Path, required=True, metavar="DATA_DIR", help="a new or empty folder")
    command.add_argument("--snapshot", default="", metavar="NAME", help="which; default: the latest")
    command.add_argument("--database", default="", metavar="URL", help="an empty database; default: SQLite in DATA_DIR")
    command.add_argument("--json", action="store_true", help="print JSON for scripts")
    command.set_defaults(run=late("upkeep.backup:restore"))


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of snapshots from 1 to 100000")
    return int(text)

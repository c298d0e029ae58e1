"""What the commands about routes and destinations take."""

from __future__ import annotations

from pathlib import Path

from dicom_node.cli.command import Commands, add_command, days


def rules(commands: Commands) -> None:
    rules = commands.add_parser("rules", help="why a study goes to a model, or does not")
    below = rules.add_subparsers(required=True, metavar="COMMAND")
    command = add_command(
        below, "explain", "evaluate every clause of every route", "routing.explained:explain", json=True
    )
    command.add_argument("subjects", nargs="+", metavar="STUDY|FILE", help="Study Instance UID, DICOM files or folders")
    command = add_command(
        below, "replay", "try routes on the studies that have come; nothing runs", "routing.rules:replay", json=True
    )
    command.add_argument("--days", type=days, metavar="N", help="studies of so many days; default: whatever is kept")
    command.add_argument("--studies", type=int, default=200, metavar="N", help="at most so many of the latest studies")
    command.add_argument(
        "--file",
        type=Path,
        metavar="TOML",
        help="[[route]] tables to hold against the present ones; "
        "default: the present ones against what was decided when the studies came",
    )
    add_command(
        below,
        "list",
        "show the routes, where they come from, and which are suspended",
        "routing.rules:list_routes",
        json=True,
    )
    _edits(below)
    _add_suspension(below, "route", "start no analysis by a route until somebody resumes it", "let a route go on")


def _edits(below: Commands) -> None:
    command = add_command(
        below, "save", "put routes over those of the configuration file, at once", "routing.rules:save"
    )
    command.add_argument("file", type=Path, metavar="TOML", help="one or more [[route]] tables")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept with the route")
    command = add_command(
        below, "revert", "let the configuration file's route be in force again", "routing.rules:revert"
    )
    command.add_argument("name", metavar="NAME", help="name of the route")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept with the route")


def destinations(commands: Commands) -> None:
    known = commands.add_parser("destinations", help="where results go")
    below = known.add_subparsers(required=True, metavar="COMMAND")
    add_command(
        below,
        "list",
        "show the destinations, and which are suspended",
        "routing.suspensions:list_destinations",
        json=True,
    )
    command = add_command(
        below,
        "hold",
        "suspend all of them, after a database was put back by other means",
        "routing.suspensions:hold_destinations",
    )
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; those who wait are told")
    _add_suspension(
        below, "destination", "send nothing to a destination until somebody resumes it", "send to a destination again"
    )


def _add_suspension(below: Commands, what: str, suspend: str, resume: str) -> None:
    command = add_command(below, "suspend", suspend, f"routing.suspensions:suspend_{what}")
    command.add_argument("name", metavar="NAME", help=f"name of the {what}")
    command.add_argument("--reason", required=True, metavar="TEXT", help="why; those who wait are told")
    command = add_command(below, "resume", resume, f"routing.suspensions:resume_{what}")
    command.add_argument("name", metavar="NAME", help=f"name of the {what}")

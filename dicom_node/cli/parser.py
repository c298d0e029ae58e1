"""Which commands there are, in the order in which they are shown; each room of commands says what its own take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from dicom_node import __version__
from dicom_node.cli.access import commands as access
from dicom_node.cli.command import Commands, add_command
from dicom_node.cli.models import commands as models
from dicom_node.cli.routing import commands as routing
from dicom_node.cli.studies import commands as studies
from dicom_node.cli.upkeep import commands as upkeep
from dicom_node.roles import ROLES


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command sets `run`."""
    parser = argparse.ArgumentParser(
        prog="dicom-node", description="A DICOM AI node. Decision support only: every result is unverified AI."
    )
    parser.add_argument("--version", action="version", version=f"dicom-node {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for add in _COMMANDS:
        add(commands)
    return parser


def _serve(commands: Commands) -> None:
    command = add_command(commands, "serve", "run the node", "serve:serve")
    command.add_argument("--role", action="append", choices=tuple(ROLES),
                         help="run only this role (may be given several times); default: all")  # fmt: skip


def _demo(commands: Commands) -> None:
    command = add_command(commands, "demo", "send sample studies through a node and show what came back", "demo:demo")
    command.add_argument("--study", type=Path, help="folder with your own study instead of the phantoms")
    command.add_argument("--folder", type=Path, default=Path("demo-data"), help="where the demo keeps its data")
    command.add_argument("--once", action="store_true", help="end when the results are there, also on a terminal")


_COMMANDS: tuple[Callable[[Commands], None], ...] = (
    _serve, _demo,
    studies.send, studies.echo, studies.retrieve, studies.status,
    routing.rules, routing.destinations,
    studies.retry, studies.rerun, studies.withdraw, studies.discard,
    upkeep.hold, upkeep.release, upkeep.purge, upkeep.drift,
    studies.export, studies.export_results, studies.export_cases,
    models.models, models.run, models.evaluate,
    studies.agreement, studies.concordance, studies.inspect,
    access.users, access.keys, access.audit,
    upkeep.smart_key, upkeep.reload, upkeep.alarms, upkeep.backup, upkeep.restore, upkeep.doctor,
)  # fmt: skip

"""One command of the command line: its options that all have, and its module, imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

#: Where commands are added: those of the command line, or those below a command such as `models`.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands,
    name: str,
    text: str,
    target: str,
    *,
    json: bool = False,
) -> argparse.ArgumentParser:
    """Add a command; `target` is ``module:function`` below `dicom_node.cli`."""
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("--config", type=Path, help="configuration file (TOML); default: built-in defaults")
    if json:
        command.add_argument("--json", action="store_true", help="print JSON for scripts")
    command.set_defaults(run=late(target))
    return command


def late(target: str) -> Callable[[argparse.Namespace], int]:
    """Import a command's module only when the command runs."""
    module_name, _, function_name = target.partition(":")

    def run(options: argparse.Namespace) -> int:
        module = importlib.import_module(f"dicom_node.cli.{module_name}")
        return int(getattr(module, function_name)(options))

    return run


def days(text: str) -> int:
    """Read a number of days, of ten years at most."""
    if not (text.isdecimal() and 1 <= int(text) <= 3650):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from 1 to 3650")
    return int(text)

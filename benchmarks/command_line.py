"""The command line of every measurement: sizes, `--quick` for the smallest of each, `--json` for the figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class _Quick(argparse.Action):
    """Puts the smallest sizes in place; what is named after it is kept."""

    def __call__(self, _: object, namespace: argparse.Namespace, *__: object) -> None:
        for name, size in self.const.items():
            setattr(namespace, name, size)


def parser_of(description: str | None, quick: Mapping[str, int | Sequence[object]]) -> argparse.ArgumentParser:
    """Return a parser with `--json FILE` and with `--quick`, which stands for these values of other options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = " ".join(f"--{name} {_written(size)}" for name, size in quick.items())
    parser.add_argument(
        "--quick", action=_Quick, nargs=0, const=quick, help=f"only see that it runs: {told}; name others after it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures into this file")
    return parser


def keep(figures: Any, file: Path | None) -> None:
    """Write the figures as JSON, if a file was named."""
    if file:
        file.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def _written(size: int | Sequence[object]) -> str:
    return str(size) if isinstance(size, int) else " ".join(map(str, size))

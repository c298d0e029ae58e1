"""The command line: `dicom-node …` or `python -m dicom_node …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from dicom_node.cli.parser import make_parser
from dicom_node.core.errors import NodeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 it failed and said why, 2 wrongly called."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except NodeError as error:
        _tell(error, as_json=getattr(options, "json", False))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _tell(error: NodeError, *, as_json: bool) -> None:
    """Say why a command failed: to whoever reads, and to a script in the place of the answer."""
    if as_json:
        told = {"error": {"kind": type(error).__name__, "text": str(error)}}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    sys.stderr.write(f"dicom-node: {error}\n")


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `dicom-node …` or `python -m dicom_node …`."""

from __future__ import annotations

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
        print(f"dicom-node: {error}", file=sys.stderr)  # noqa: T201 - the user is reading
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())

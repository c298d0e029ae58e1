"""Runs a node that is killed, as by `kill -9`, at a named step of the first deletion that it does:

python -m tests.integration.dying_deletion STEP python -m dicom_node serve …
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dicom_node.__main__ import main
from dicom_node.operate.retention import deleter
from dicom_node.operate.retention.deleter import Deleter
from dicom_node.storage.spool import Spool

#: Where the process ends: before or behind which call of what, and at the how manieth.
STEPS: dict[str, tuple[Any, str, str, int]] = {
    "intent noted": (Deleter, "_mark", "behind", 1),
    "files named, not committed": (deleter, "next_files", "behind", 1),
    "some files gone": (Spool, "remove", "behind", 3),
    "all files gone, not durably": (Deleter, "_remove_files", "behind", 1),
    "before the rows shrink": (Deleter, "_shrink", "before", 1),
    "rows shrunk, not told": (Deleter, "_tell", "before", 1),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(called: Callable[..., Any], where: str, times: int) -> Callable[..., Any]:
    counted = [0]

    def call(*given: Any, **named: Any) -> Any:
        counted[0] += 1
        if where == "before" and counted[0] == times:
            die()
        answer = called(*given, **named)
        if counted[0] == times:
            die()
        return answer

    return call


if __name__ == "__main__":
    owner, name, where, times = STEPS[sys.argv[1]]
    setattr(owner, name, dying(getattr(owner, name), where, times))
    sys.exit(main(sys.argv[5:]))

"""How long the machine itself keeps a program waiting: what a test adds to a limit that it demands of the node."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_EVERY_S = 0.05


@contextmanager
def watched_machine(folder: Path) -> Iterator[Callable[[], float]]:
    """Write and synchronise a few bytes again and again beside the block, as the node does for each object.

    Gives a function that tells by how many seconds the slowest time was late: processors and disk were with others.
    """
    lateness, over = [0.0], threading.Event()
    due = [time.monotonic() + _EVERY_S]

    def watch() -> None:
        with (folder / "machine-stalls").open("wb", buffering=0) as file:
            while not over.wait(_EVERY_S):
                os.pwrite(file.fileno(), bytes(512), 0)
                os.fdatasync(file.fileno())
                lateness.append(time.monotonic() - due[0])
                due[0] = time.monotonic() + _EVERY_S

    def longest_s() -> float:
        return max(*lateness, time.monotonic() - due[0])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield longest_s
    finally:
        over.set()
        thread.join()

"""The end of a program that serves: asked for by a signal, or by one of its own threads."""

from __future__ import annotations

import contextlib
import os
import signal


class End:
    """What the main thread waits for: SIGTERM, SIGINT, or a thread that asks.

    The kernel's own handler writes into the pipe (`signal.set_wakeup_fd`). A handler in Python runs between two steps
    of the main thread, which an Event or a Queue keeps waiting for ever when the signal comes just before it waits.
    """

    def __init__(self) -> None:
        """Must be made in the main thread."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def ask(self) -> None:
        """End the wait."""
        with contextlib.suppress(BlockingIOError):  # full of signals: it is asked for already
            os.write(self._write, b"\0")

    def wait(self) -> None:
        """Return when the end is asked for, or has been before."""
        os.read(self._read, 1)

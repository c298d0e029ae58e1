"""The end of a program that serves: asked for by a signal, or by the death of a thread it cannot do without."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class VitalThread(threading.Thread):
    """A thread of the node's own: when it dies the program ends, so that a supervisor starts it again; half a node is
    worse than none.

    What serves one peer runs in a plain `threading.Thread`: whatever a peer sends must never end the node.
    """

    def __init__(self, target: Callable[..., None], name: str, *args: object) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)


def watch_threads(on_vital_death: Callable[[], None]) -> None:
    """Log whatever ends a thread of this process by an exception, and call `on_vital_death` for a `VitalThread`."""

    def on_death(death: threading.ExceptHookArgs) -> None:
        exc_info = (death.exc_type, death.exc_value or death.exc_type(), death.exc_traceback)
        is_vital = isinstance(death.thread, VitalThread)
        who = {"who": death.thread.name if death.thread else "?", "ends_the_program": is_vital}
        _log.critical("thread died", extra=who, exc_info=exc_info)
        if is_vital:
            on_vital_death()

    threading.excepthook = on_death


class Hangup:
    """SIGHUP: somebody wants the settings read again; or the terminal that the program was started on is gone, and then
    it ends, as any program there does."""

    def __init__(self) -> None:
        """Must be made in the main thread; from now on the signal ends the program no more."""
        # Under nohup it is not to end with its terminal.
        is_tied = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._had_terminal = is_tied and _has_terminal()
        self._count = 0
        signal.signal(signal.SIGHUP, self._note)

    def count(self) -> int:
        """Return how often it came. Counted by the main thread alone, so none is lost to another that looks."""
        return self._count

    @property
    def is_of_the_terminal(self) -> bool:
        """Tell whether it came because the terminal is gone."""
        return self._had_terminal and not _has_terminal()

    def _note(self, *_: object) -> None:
        self._count += 1


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class End:
    """What the main thread waits for: SIGTERM, SIGINT, or a thread that asks; SIGHUP where that means the end.

    The kernel's own handler writes into the pipe (`signal.set_wakeup_fd`). A handler in Python runs between two steps
    of the main thread, which an Event or a Queue keeps waiting for ever when the signal comes just before it waits.
    """

    def __init__(self, hangup: Hangup | None = None) -> None:
        """Must be made in the main thread."""
        self._hangup = hangup
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        #: Whether a vital thread died; the program then ends with a failure.
        self.is_failure = False
        watch_threads(self._fail)

    def ask(self) -> None:
        """End the wait."""
        with contextlib.suppress(BlockingIOError):  # full of signals: it is asked for already
            os.write(self._write, b"\0")

    def wait(self) -> None:
        """Return when the end is asked for, or has been before."""
        while os.read(self._read, 1)[0] == signal.SIGHUP:
            if self._hangup is None or self._hangup.is_of_the_terminal:
                return

    def _fail(self) -> None:
        self.is_failure = True
        self.ask()

"""Ends a process that works too long or holds too much memory, and remembers which of the two it was."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_POLL_S = 0.1
_MEGABYTE = 1 << 20
_PAGES_RESIDENT = 1  # field of /proc/PID/statm, proc(5)


class Watchdog:
    """Watches `process` while the block runs. `broke` is ``""``, ``time`` or ``memory``; 0 MB means no limit."""

    def __init__(self, process: subprocess.Popen[bytes], time_limit_s: float, resident_limit_mb: int) -> None:
        self._process = process
        self._deadline = time.monotonic() + time_limit_s
        self._limit_bytes = resident_limit_mb * _MEGABYTE
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watchdog-{process.pid}", daemon=True)
        self.broke = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._pause_s()):
            if self._limit_bytes and resident_bytes(self._process.pid) > self._limit_bytes:
                self.broke = "memory"
            elif time.monotonic() >= self._deadline:
                self.broke = "time"
            if self.broke:
                self._process.kill()
                return

    def _pause_s(self) -> float:
        left_s = max(0.0, self._deadline - time.monotonic())
        return min(left_s, _POLL_S) if self._limit_bytes else left_s


def resident_bytes(process_id: int | str = "self") -> int:
    """Return the resident memory of a process; 0 where the system does not tell (no /proc)."""
    try:
        fields = Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[_PAGES_RESIDENT]) * resource.getpagesize()

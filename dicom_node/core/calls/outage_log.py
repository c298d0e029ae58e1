"""What a door cannot do for a while is told once, and counted until it can again: a day without a database is no log of
a million lines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

#: So many different reasons of one outage are told.
_REASONS = 5


class OutageLog:
    """Tells the first failure of a door in full, one of another reason too, and at the end how many there were.

    Thread-safe.
    """

    def __init__(self, log: logging.Logger, failed: str, over: str) -> None:
        """`failed` and `over` are the events of the lines (ERROR, INFO)."""
        self._log = log
        self._failed, self._over = failed, over
        self._count = 0
        self._reasons: set[str] = set()
        self._lock = threading.Lock()

    def failed(self, why: str, who: Mapping[str, object]) -> None:
        """Note that the door could not do something; `who` says more of the first."""
        with self._lock:
            self._count += 1
            is_new = why not in self._reasons and len(self._reasons) < _REASONS
            if is_new:  # what is not told is not kept: reasons may name an object each
                self._reasons.add(why)
        if is_new:
            self._log.error(self._failed, extra={**who, "why": why})

    def worked(self, **who: object) -> None:
        """Note that the door could; where it could not before, say how often that was."""
        if not self._count:
            return
        with self._lock:
            count, self._count = self._count, 0
            self._reasons.clear()
        if count:
            self._log.info(self._over, extra={**who, "failures": count})

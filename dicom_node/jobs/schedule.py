"""Wakes the sweeps by the clock. Nothing is remembered here: the truth stays in the database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.core.errors import NodeError

_log = logging.getLogger(__name__)


class SweepSchedule:
    """Runs sweeps at intervals in threads of its own; one sweep never overlaps itself."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def every(self, interval_s: float, name: str, sweep: Callable[[], None]) -> None:
        """Run `sweep` now and then every `interval_s` seconds."""
        self._scheduler.add_job(
            _guarded(name, sweep), "interval", seconds=interval_s, id=name, next_run_time=datetime.now(UTC)
        )

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` once, in the background."""
        self._scheduler.add_job(_guarded(name, work), id=name)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """End after what runs now."""
        self._scheduler.shutdown(wait=True)


def _guarded(name: str, sweep: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            sweep()
        except NodeError as error:  # the next run tries again
            _log.error("sweep failed", extra={"sweep": name, "why": str(error)})

    return run

"""Wakes the sweeps by the clock. Nothing is remembered here: the truth stays in the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.core.errors import NodeError
from dicom_node.roles.role import Sweep

_log = logging.getLogger(__name__)


class SweepSchedule:
    """Runs sweeps at intervals in threads of its own; one sweep never overlaps itself."""

    def __init__(self, sweeps: Iterable[Sweep]) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        for sweep in sweeps:
            again = {"trigger": "interval", "seconds": sweep.every_s} if sweep.every_s else {}
            self._scheduler.add_job(_guarded(sweep), id=sweep.name, next_run_time=datetime.now(UTC), **again)

    def start(self) -> None:
        """Begin: every sweep runs now, and those with an interval again and again."""
        self._scheduler.start()

    def stop(self) -> None:
        """End after what runs now."""
        self._scheduler.shutdown(wait=True)


def _guarded(sweep: Sweep) -> Callable[[], None]:
    def run() -> None:
        try:
            sweep.run()
        except NodeError as error:  # the next run tries again
            _log.error("sweep failed", extra={"sweep": sweep.name, "why": str(error)})

    return run

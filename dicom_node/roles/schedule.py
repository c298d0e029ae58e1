"""Wakes the sweeps by the clock. Nothing is remembered here: the truth stays in the database."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import NodeError
from dicom_node.end import VitalThread
from dicom_node.roles.role import Sweep

_CLOCK_EVERY_S, _CLOCK_STEP_S = 1.0, 1.0
_log = logging.getLogger(__name__)


class SweepSchedule:
    """Runs sweeps at intervals in threads of its own; one sweep never overlaps itself."""

    def __init__(self, sweeps: Iterable[Sweep], wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._stopping = threading.Event()
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        for sweep in sweeps:
            again = {"trigger": "interval", "seconds": sweep.every_s} if sweep.every_s else {}
            self._scheduler.add_job(_guarded(sweep), id=sweep.name, next_run_time=datetime.now(UTC), **again)

    def start(self) -> None:
        """Begin: every sweep runs now, and those with an interval again and again."""
        self._scheduler.start()
        VitalThread(self._watch_clock, "clock").start()

    def stop(self) -> None:
        """End after what runs now."""
        self._stopping.set()
        self._scheduler.shutdown(wait=True)

    def _watch_clock(self) -> None:
        """Begin anew when the clock is set back: the scheduler would wait until it has caught up, a day if need be."""
        ahead_s = self._wall_s() - time.monotonic()
        while not self._stopping.wait(_CLOCK_EVERY_S):
            before_s, ahead_s = ahead_s, self._wall_s() - time.monotonic()
            if ahead_s < before_s - _CLOCK_STEP_S:
                _log.warning("clock was set back", extra={"by_s": round(before_s - ahead_s)})
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))


def _guarded(sweep: Sweep) -> Callable[[], None]:
    outage = OutageLog(_log, "sweep failed", "sweep runs again")

    def run() -> None:
        try:
            sweep.run()
        except NodeError as error:  # the next run tries again
            outage.failed(str(error), {"sweep": sweep.name})
        else:
            outage.worked(sweep=sweep.name)

    return run

"""Sweeps go on when the clock does not."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from dicom_node.roles import schedule
from dicom_node.roles.role import Sweep
from dicom_node.roles.schedule import SweepSchedule


def test_a_clock_set_back_a_day_does_not_stop_the_sweeps_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_CLOCK_EVERY_S", 0.05)
    back_s = [0.0]
    has_run = threading.Event()
    one = SweepSchedule([Sweep("one", has_run.set, 0.5)], lambda: time.time() - back_s[0])
    one.start()
    try:
        assert has_run.wait(60)
        # The same as the clock's step, seen from the scheduler: what it waits for is a day and more away.
        job = one._scheduler.get_job("one")
        job.modify(next_run_time=job.next_run_time + timedelta(days=1))
        has_run.clear()
        back_s[0] = 86400.0
        assert has_run.wait(60)
        has_run.clear()
        assert has_run.wait(60)  # and again and again
    finally:
        one.stop()

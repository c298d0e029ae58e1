"""A target for `workers.Workers` whose tasks really occupy their process: what to do stands in the route's name."""

from __future__ import annotations

import ctypes
import os
import time

from dicom_node.tasks import Task


def perform(task: Task) -> object:
    """Do what the route's name says and tell which process did it, where, and when."""
    deed, _, argument = task.request.context.route_name.partition(" ")
    started = time.monotonic()
    if deed == "sleep":
        time.sleep(float(argument))
    if deed == "segfault":
        ctypes.string_at(0)
    told = {"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS", "")}
    return told | {"place": task.place, "started": started, "ended": time.monotonic()}

"""A target for `workers.Workers` whose tasks really occupy their process: what to do stands in the route's name."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from dicom_node.jobs.tasks import Task


def _meet(count: str, folder: str) -> None:
    """Wait in a folder until so many processes have come there."""
    Path(folder, str(os.getpid())).touch()
    while len(list(Path(folder).iterdir())) < int(count):
        time.sleep(0.02)


def perform(task: Task) -> object:
    """Do what the route's name says and tell which process did it, where, and when."""
    action, _, argument = task.request.context.route_name.partition(" ")
    started = time.monotonic()
    if action == "sleep":
        time.sleep(float(argument))
    if action == "meet":
        _meet(*argument.split(" ", 1))
    if action == "segfault":
        ctypes.string_at(0)
    told = {"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS", "")}
    return told | {"worker": task.place.worker_number, "started": started, "ended": time.monotonic()}

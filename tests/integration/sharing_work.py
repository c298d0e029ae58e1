"""The real worker's work; routes ``slow`` and ``crash`` do what they say first; each notes how many came along.

What is slow takes until it is told to go on, by a file ``go`` beside its results.
"""

from __future__ import annotations

import ctypes
import time

from dicom_node.jobs.tasks import Task
from dicom_node.jobs.worker_process import work as really_work


def work(request: Task | tuple[Task, ...]) -> object:
    """Work, after what the route's name asks for."""
    tasks = request if isinstance(request, tuple) else (request,)
    for task in tasks:
        (task.request.out_dir / "shared-by").write_text(str(len(tasks)))
        if task.request.context.route_name == "slow":
            while not (task.request.out_dir / "go").exists():
                time.sleep(0.02)
        if task.request.context.route_name == "crash":
            ctypes.string_at(0)
    return really_work(request)

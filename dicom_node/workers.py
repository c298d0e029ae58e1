"""Several worker processes, each with its own device, memory and time; a task goes where its model is warm already.

Processes start when the first task needs them. Standard library only; nothing here loads torch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from dicom_node.inference.place import Place, may_use_gpu, worker_count
from dicom_node.inference.sandbox import Limits, Sandbox
from dicom_node.tasks import Task

TARGET = "dicom_node.worker_process:perform"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How many workers there are and what each may use; `count` 0 means one for each device."""

    device: str = "auto"
    count: int = 0
    model_budget_mb: int = 4096
    memory_limit_mb: int = 12288
    time_limit_s: float = 600


@dataclass(slots=True)
class _Worker:
    place: Place
    sandbox: Sandbox
    #: Folders of the models this process has run, and the process that ran them.
    models: set[Path] = field(default_factory=set)
    process_id: int | None = None

    def knows(self, model_dir: Path) -> bool:
        return self.process_id == self.sandbox.process_id and model_dir in self.models

    def remember(self, model_dir: Path) -> None:
        if self.process_id != self.sandbox.process_id:
            self.models.clear()
        self.process_id = self.sandbox.process_id
        self.models.add(model_dir)


class Workers:
    """Runs tasks, as many at a time as there are workers; further callers wait."""

    def __init__(self, settings: WorkerSettings, target: str = TARGET) -> None:
        count = worker_count(settings.count, settings.device)
        self._all = [_worker(settings, number, count, target) for number in range(count)]
        self._free = list(self._all)
        self._freed = threading.Condition()

    @property
    def count(self) -> int:
        """How many tasks can run at once."""
        return len(self._all)

    @property
    def process_ids(self) -> list[int]:
        """The processes that run now."""
        return [one.sandbox.process_id for one in self._all if one.sandbox.process_id is not None]

    def run(self, task: Task) -> object:
        """Run a task on the free worker that suits it best. Raises what `Sandbox.run` raises."""
        model_dir = task.request.model_dir
        with self._taken(model_dir) as worker:
            answer = worker.sandbox.run(replace(task, place=worker.place))
            worker.remember(model_dir)
            return answer

    def close(self) -> None:
        """End every process; what runs is cut off and raises `WorkerDied`."""
        for one in self._all:
            one.sandbox.close()

    @contextmanager
    def _taken(self, model_dir: Path) -> Iterator[_Worker]:
        with self._freed:
            self._freed.wait_for(lambda: bool(self._free))
            worker = min(self._free, key=lambda one: _reluctance(one, model_dir))
            self._free.remove(worker)
        try:
            yield worker
        finally:
            with self._freed:
                self._free.append(worker)
                self._freed.notify()


def _reluctance(worker: _Worker, model_dir: Path) -> tuple[bool, bool, int]:
    """Order the free workers: the model is warm there, a process runs there at all, the lower number."""
    return not worker.knows(model_dir), worker.sandbox.process_id is None, worker.place.worker_number


def _worker(settings: WorkerSettings, number: int, count: int, target: str) -> _Worker:
    place = Place(device=settings.device, worker_number=number, model_budget_mb=settings.model_budget_mb)
    on_gpu = may_use_gpu(settings.device)
    limits = Limits(
        time_s=settings.time_limit_s,
        memory_mb=settings.memory_limit_mb if on_gpu else 0,
        address_space_mb=0 if on_gpu else settings.memory_limit_mb,
    )
    return _Worker(place, Sandbox(target, limits=limits, environment=_share_of_cores(count)))


def _share_of_cores(count: int) -> dict[str, str]:
    """Keep several workers from each starting a thread for every core; a site's own number stands."""
    if count == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}

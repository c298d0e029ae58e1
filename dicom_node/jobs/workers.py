"""Several worker processes, each with its own device, memory and time; a task goes where its model is warm already.

Processes start when the first task needs them. Standard library only; nothing here loads torch.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

from dicom_node.core.errors import InferenceError, NodeError
from dicom_node.inference.workers.place import ComputePlace, worker_count, worker_limits
from dicom_node.jobs.tasks import GAVE_UP, Performed, Task
from dicom_node.sandbox.child import Answer
from dicom_node.sandbox.host import Sandbox, unwrapped

_log = logging.getLogger(__name__)

TARGET = "dicom_node.jobs.worker_process:work"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How many workers there are and what each may use; `count` 0 means one for each device."""

    device: str = "auto"
    count: int = 0
    model_budget_mb: int = 4096
    memory_limit_mb: int = 12288
    time_limit_s: float = 600
    #: How many tasks of one model may go to a worker together.
    batch_studies: int = 1


@dataclass(slots=True, eq=False)
class _Request:
    """A task that waits for a worker, and how it ended."""

    task: Task
    taken: bool = False
    done: bool = False
    answer: object = None
    error: NodeError | None = None

    def resolve(self, run: Callable[[], object]) -> None:
        try:
            self.answer = run()
        except NodeError as error:
            self.error = error


@dataclass(slots=True)
class _Worker:
    place: ComputePlace
    sandbox: Sandbox
    #: Folders of the models this process has run, the code it has loaded with them, and the process itself.
    models: set[Path] = field(default_factory=set)
    code: dict[str, str] = field(default_factory=dict)
    process_id: int | None = None

    def knows(self, model_dir: Path) -> bool:
        return self.process_id == self.sandbox.process_id and model_dir in self.models

    def prepare(self, task: Task) -> None:
        """End the process if it has loaded the model's code in another state: Python does not import it again; or if a
        notice is wanted of a study that a model failed on, perhaps by what it did to the process."""
        gave_up = task.declined is not None and task.declined.reason == GAVE_UP
        if gave_up or any(self.code.get(name, digest) != digest for name, digest in task.code.items()):
            self.sandbox.end_process()

    def remember(self, task: Task) -> None:
        if self.process_id != self.sandbox.process_id:
            self.models.clear()
            self.code.clear()
        self.process_id = self.sandbox.process_id
        self.models.add(task.request.model_dir)
        self.code.update(task.code)


class Workers:
    """Runs tasks, as many at a time as there are workers; further callers wait.

    Tasks that may share go to a worker together: its first free moment takes what waits for the same model.
    """

    def __init__(self, settings: WorkerSettings, target: str = TARGET, answer: object = Performed | None) -> None:
        count = worker_count(settings.count, settings.device)
        self._all = [_worker(settings, number, count, (target, answer)) for number in range(count)]
        self._free = list(self._all)
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._batch_studies = settings.batch_studies

    @property
    def capacity(self) -> int:
        """How many tasks it is worth to bring at once."""
        return len(self._all) * self._batch_studies

    @property
    def process_ids(self) -> list[int]:
        """The processes that run now."""
        return [one.sandbox.process_id for one in self._all if one.sandbox.process_id is not None]

    def run(self, task: Task) -> object:
        """Run a task on the free worker that suits it best. Raises what `Sandbox.run` raises."""
        request = _Request(task)
        with self._changed:
            self._waiting.append(request)
            self._changed.wait_for(lambda: request.taken or self._is_next(request))
            worker, together = (None, []) if request.taken else self._take(request)
        if worker is None:
            return self._answer_of(request)
        try:
            _work_off(worker, together)
        finally:
            with self._changed:
                self._free.append(worker)
                for one in together:
                    one.done = True
                self._changed.notify_all()
        return self._answer_of(request)

    def close(self) -> None:
        """End every process; what runs is cut off and raises `WorkerDied`."""
        for one in self._all:
            one.sandbox.close()

    def _is_next(self, request: _Request) -> bool:
        return bool(self._free) and self._waiting[0] is request

    def _take(self, request: _Request) -> tuple[_Worker, list[_Request]]:
        """Take the best free worker for a request, and what may share it."""
        model_dir = request.task.request.model_dir
        worker = min(self._free, key=lambda one: _reluctance(one, model_dir))
        self._free.remove(worker)
        alike = [one for one in self._waiting if one is not request and _share(one.task, request.task)]
        together = [request, *alike[: self._batch_studies - 1]]
        for one in together:
            one.taken = True
            self._waiting.remove(one)
        self._changed.notify_all()  # another worker may be free for whoever is next now
        return worker, together

    def _answer_of(self, request: _Request) -> object:
        with self._changed:
            self._changed.wait_for(lambda: request.done)
        if request.error is not None:
            raise request.error
        return request.answer


def _share(one: Task, other: Task) -> bool:
    alike = one.request.model_dir == other.request.model_dir and one.code == other.code
    return one.may_share and other.may_share and alike


def _work_off(worker: _Worker, together: Sequence[_Request]) -> None:
    """Run requests in one go; if that fails as a whole, each alone, so that it fails only for whom it must."""
    first = together[0].task
    worker.prepare(first)
    tasks = [replace(one.task, place=worker.place) for one in together]
    answers: Sequence[object] = ()
    if len(tasks) > 1:
        try:
            answers = cast("Sequence[object]", worker.sandbox.run(tuple(tasks)))
        except InferenceError as error:
            _log.warning("tasks that shared a worker run again one by one", extra={"why": str(error)})
    if answers:
        for one, answer in zip(together, answers, strict=True):
            one.resolve(partial(unwrapped, answer))
    else:
        for one, task in zip(together, tasks, strict=True):
            one.resolve(partial(worker.sandbox.run, task))
    worker.remember(first)


def _reluctance(worker: _Worker, model_dir: Path) -> tuple[bool, bool, int]:
    """Order the free workers: the model is warm there, a process runs there at all, the lower number."""
    return not worker.knows(model_dir), worker.sandbox.process_id is None, worker.place.worker_number


def _worker(settings: WorkerSettings, number: int, count: int, runs: tuple[str, object]) -> _Worker:
    """Make a worker that runs a target, which has an answer of this type."""
    target, answer = runs
    place = ComputePlace(device=settings.device, worker_number=number, model_budget_mb=settings.model_budget_mb)
    limits = worker_limits(settings.device, settings.time_limit_s, settings.memory_limit_mb)
    one_or_many = answer | list[Answer[answer]]  # type: ignore[valid-type]
    return _Worker(place, Sandbox(target, answer=one_or_many, limits=limits, environment=_share_of_cores(count)))


def _share_of_cores(count: int) -> dict[str, str]:
    """Keep several workers from each starting a thread for every core; a site's own number stands."""
    if count == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}

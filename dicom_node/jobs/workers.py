"""Several worker processes, each with its own device, memory and time; a task goes where its model is warm already.

Processes start when the first task needs them. Standard library only; nothing here loads torch.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from dicom_node.core.entities import JobStage
from dicom_node.core.errors import InferenceError, NodeError
from dicom_node.core.progress import Listener, listener, told_to
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.workers.handover import handed_over
from dicom_node.inference.workers.place import ComputePlace, worker_count, worker_limits
from dicom_node.jobs.tasks import GAVE_UP, Performed, Task
from dicom_node.sandbox.child import Answer
from dicom_node.sandbox.confinement import Confinement
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
    #: Whether workers are confined, where each has a folder of its own (none: a temporary one), and which folders of
    #: models they may read.
    confined: bool = True
    folder: Path | None = None
    models_dirs: tuple[Path, ...] = ()


@dataclass(slots=True, eq=False)
class _Request:
    """A task that waits for a worker, and how it ended."""

    task: Task
    #: Who hears how far it has come.
    hears: Listener
    taken: bool = False
    done: bool = False
    answer: object = None
    error: NodeError | None = None

    def resolve(self, run: Callable[[], object]) -> None:
        try:
            with told_to(self.hears):
                self.answer = run()
        except NodeError as error:
            self.error = error


@dataclass(slots=True)
class _Process:
    """One worker process, and what it has loaded: folders of models, and the code that came with them."""

    sandbox: Sandbox
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


@dataclass(slots=True)
class _Worker:
    """A place to compute, and its two processes: one for models that run here, one for the node's own code alone.

    The second asks models on servers, for which it needs the network, and tells what people reviewed: what a person
    answers for is made where no model's code has ever run. It is not confined, nor is the first where `confinement` is
    `None`.
    """

    place: ComputePlace
    computes: _Process
    own: _Process
    confinement: Confinement | None

    def process_for(self, task: Task) -> _Process:
        return self.own if task.is_without_model else self.computes

    @contextmanager
    def handed_over(self, task: Task) -> Iterator[Task]:
        """Give the process a task, with all files in the process's own folder, and take what it made."""
        task = replace(task, place=self.place)
        if self.confinement is None or task.is_without_model:
            yield task
            return
        with handed_over(self.confinement) as given:
            known = {given.link(path): digest for path, digest in task.sha256_of.items()}
            request, beside = given.request(task.request), given.links(task.beside)
            yield replace(task, request=request, beside=beside, sha256_of=known)
            given.move_results(task.request.out_dir)


class Workers:
    """Runs tasks, as many at a time as there are workers; further callers wait.

    Tasks that may share go to a worker together: its first free moment takes what waits for the same model.
    """

    def __init__(self, settings: WorkerSettings, target: str = TARGET, answer: object = Performed | None) -> None:
        count = worker_count(settings.count, settings.device)
        new = partial(Sandbox, target, answer=answer | list[Answer[answer]])  # type: ignore[valid-type]
        self._folder = settings.folder or Path(tempfile.mkdtemp(prefix="dicom-node-workers-"))
        settings = replace(settings, folder=self._folder)
        self._all = [_worker(settings, number, count, new) for number in range(count)]
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
        found = (process.sandbox.process_id for one in self._all for process in (one.computes, one.own))
        return [process_id for process_id in found if process_id is not None]

    def run(self, task: Task) -> object:
        """Run a task on the free worker that suits it best. Raises what `Sandbox.run` raises."""
        request = _Request(task, listener())
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
            one.computes.sandbox.close()
            one.own.sandbox.close()
            if one.confinement is not None:
                shutil.rmtree(one.confinement.folder, ignore_errors=True)
        with suppress(OSError):  # it may be another's, with more in it
            self._folder.rmdir()

    def _is_next(self, request: _Request) -> bool:
        return bool(self._free) and self._waiting[0] is request

    def _take(self, request: _Request) -> tuple[_Worker, list[_Request]]:
        """Take the best free worker for a request, and what may share it."""
        worker = min(self._free, key=lambda one: _reluctance(one, request.task))
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
    process = worker.process_for(first)
    process.prepare(first)
    if first.asks_model and not process.knows(first.request.model_dir):
        for one in together:
            one.hears(JobStage.LOADING)
    if len(together) == 1 or not _answered_together(worker, together):
        for one in together:
            one.resolve(partial(_run, worker, one.task))
    process.remember(first)


def _run(worker: _Worker, task: Task) -> object:
    with worker.handed_over(task) as given:
        return worker.process_for(task).sandbox.run(given)


def _answered_together(worker: _Worker, together: Sequence[_Request]) -> bool:
    sandbox = worker.process_for(together[0].task).sandbox
    try:
        with ExitStack() as stack:
            tasks = tuple(stack.enter_context(worker.handed_over(one.task)) for one in together)
            with told_to(partial(_pass_on, together)):
                answers = sandbox.run(tasks)
    except InferenceError as error:
        _log.warning("tasks that shared a worker run again one by one", extra={"why": str(error)})
        return False
    if not isinstance(answers, list) or len(answers) != len(together):
        return False
    for one, answer in zip(together, answers, strict=True):
        one.resolve(partial(unwrapped, answer))
    return True


def _pass_on(together: Sequence[_Request], step: str) -> None:
    """Tell whoever asked for one of several; which it is stands before the step."""
    place, _, name = step.partition(" ")
    if place.isdecimal() and int(place) < len(together):
        together[int(place)].hears(name)


def _reluctance(worker: _Worker, task: Task) -> tuple[bool, bool, int]:
    """Order the free workers: the model is warm there, a process runs there at all, the lower number."""
    process = worker.process_for(task)
    knows = process.knows(task.request.model_dir)
    return not knows, process.sandbox.process_id is None, worker.place.worker_number


def _worker(settings: WorkerSettings, number: int, count: int, new: Callable[..., Sandbox]) -> _Worker:
    """Make one of so many workers; `new` makes its processes."""
    place = ComputePlace(device=settings.device, worker_number=number, model_budget_mb=settings.model_budget_mb)
    new = partial(
        new,
        limits=worker_limits(settings.device, settings.time_limit_s, settings.memory_limit_mb),
        environment=_share_of_cores(count),
    )
    confinement = None
    if settings.confined and settings.folder is not None:
        confinement = Confinement(settings.folder / f"worker-{number}", (SHIPPED_MODELS, *settings.models_dirs))
    return _Worker(place, _Process(new(confinement=confinement)), _Process(new()), confinement)


def _share_of_cores(count: int) -> dict[str, str]:
    """Keep several workers from each starting a thread for every core; a site's own number stands."""
    if count == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}

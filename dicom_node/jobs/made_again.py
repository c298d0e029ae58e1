"""Files of known answers that the disk has lost, written again: equal inputs give equal bytes, under the same names.

Where a person has reviewed the answer, what the model said lies beside it and is looked after, too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.index.damage import note_damaged, note_repaired, objects_at
from dicom_node.index.database import Database
from dicom_node.index.decided.reviews import ClaimedReview, review_told_by
from dicom_node.index.due import now_in
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.results import first_started_at, kept_keys
from dicom_node.jobs.keeping import Worker, contents_of, performed_by
from dicom_node.jobs.planning import JobSettings, Plan, Planner
from dicom_node.jobs.review_planning import ReviewPlanner
from dicom_node.jobs.tasks import Performed, Task
from dicom_node.sandbox.answers import file_left
from dicom_node.storage.spool import Spool, object_key

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Lost:
    """Which files of one result are lost, and what makes them again: it is planned only when it is needed."""

    keys: Collection[str]
    task: Callable[[], Task]


class LostFiles:
    """Looks after the files of answers that are told again."""

    def __init__(self, database: Database, spool: Spool, worker: Worker, settings: JobSettings) -> None:
        self._database = database
        self._spool = spool
        self._worker = worker
        self._settings = settings

    def make_good(self, job: ClaimedJob, plan: Plan, planner: Planner) -> None:
        """Write again what is lost of the answer that a plan leads to, and note what could not be made again.

        Raises `SourceDamaged` where images are, `NodeError` where they are gone, and what `Workers.run` raises.
        """
        for lost in self._lost(job, plan, planner):
            try:
                task = lost.task()
                performed = performed_by(self._worker, replace(task, may_share=False))
                self._put_back(performed, task.request.out_dir, lost.keys)
            finally:
                self._tell(job, lost.keys)

    def _lost(self, job: ClaimedJob, plan: Plan, planner: Planner) -> Iterator[_Lost]:
        with self._database.read() as connection:
            told = review_told_by(connection, plan.key)
        if told is None:
            yield from self._lost_of(plan.key, lambda: self._as_first(plan))
            return
        before = told.review.of_job_key
        folder = plan.task.request.out_dir
        yield from self._lost_of(before, lambda: self._as_the_model(job, planner, plan, before))
        yield from self._lost_of(plan.key, lambda: self._as_reviewed(told, folder))

    def _lost_of(self, job_key: str, task: Callable[[], Task]) -> Iterator[_Lost]:
        with self._database.read() as connection:
            keys = [key for key in kept_keys(connection, job_key) if not self._spool.is_whole(key)]
        if keys:
            yield _Lost(keys, task)

    def _as_first(self, plan: Plan, answer: str = "") -> Task:
        """Return the task with the time of the analysis that made the result: the times in its objects come from it.

        `answer` is where jobs lead that made it, if that is another result by now.
        """
        request = plan.task.request
        with self._database.read() as connection:
            started_at = first_started_at(connection, answer or plan.key) or request.context.started_at
        return replace(plan.task, request=replace(request, context=replace(request.context, started_at=started_at)))

    def _as_the_model(self, job: ClaimedJob, planner: Planner, plan: Plan, job_key: str) -> Task:
        with self._database.read() as connection:
            again = planner.plan(connection, job, _emptied(plan.task.request.out_dir, "model"), again=job_key)
        return self._as_first(again or plan, plan.key)

    def _as_reviewed(self, told: ClaimedReview, folder: Path) -> Task:
        planner = ReviewPlanner(self._spool, self._settings.with_present_routes(self._settings))
        with self._database.read() as connection:
            return planner.plan_review(connection, told, _emptied(folder, "reviewed")).task

    def _put_back(self, performed: Performed, folder: Path, lost: Collection[str]) -> None:
        for name, suffix in (one for file in performed.files for one in contents_of(file)):
            content = file_left(folder, name)
            if object_key(hashlib.sha256(content).hexdigest(), suffix) in lost:
                self._spool.put([content], suffix)

    def _tell(self, job: ClaimedJob, lost: Collection[str]) -> None:
        missing = [key for key in lost if not self._spool.is_whole(key)]
        with self._database.write() as connection:
            note_repaired(connection, [key for key in lost if key not in missing], now_in(connection))
            note_damaged(connection, objects_at(connection, missing), now_in(connection))
        what = {"study": job.study_instance_uid, "route": job.route, "made_again": len(lost) - len(missing)}
        if missing:
            advice = f"Restore these files from a backup, then: dicom-node retry {job.study_instance_uid}"
            _log.error("objects lost", extra=what | {"objects": missing, "advice": advice})
        else:
            _log.warning("lost objects made again", extra=what)


def _emptied(folder: Path, name: str) -> Path:
    """Return a folder of its own for the files of one result."""
    own = folder / name
    own.mkdir()
    return own

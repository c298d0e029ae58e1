"""Takes queued jobs one by one, has the worker process analyse them, and saves what came back in one transaction."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from dicom_node.analysis.answer import Declined, ReportContext
from dicom_node.core.entities import Artifact, JobOutcome, JobState
from dicom_node.core.errors import IndexUnavailable, InferenceError, NotAnalysable, SourceDamaged, SpoolUnavailable
from dicom_node.index import jobs
from dicom_node.index.damage import (
    SOURCE_DAMAGED,
    note_damaged,
    note_repaired,
    objects_at,
    run_again_if_whole,
)
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.lineage import LINE
from dicom_node.index.outbox.deliveries import resend
from dicom_node.index.results import answer_again, first_started_at, has_result, kept_keys, save_result, taken_uids
from dicom_node.index.transitions import record
from dicom_node.inference.cards.card import ModelCard
from dicom_node.jobs.planning import JobSettings, Plan, Planner
from dicom_node.jobs.tasks import REASON_LENGTH, Performed, ProducedFile, Task, performed_of
from dicom_node.sandbox.answers import file_left
from dicom_node.storage.folder import room_in
from dicom_node.storage.spool import Spool, object_key

_RETRY_WAIT_S = 5.0
#: No analysis begins on a disk with less: its result would not fit.
_ROOM_BYTES = 32 << 20
#: So many damaged images are named in a sentence; the log names all.
_NAMED = 3
_log = logging.getLogger(__name__)


class Worker(Protocol):
    """What does the work in another process; `workers.Workers` in production."""

    def run(self, task: Task, /) -> object: ...


class JobRunner:
    """Works off the queue; several threads may call one instance, and several instances share a database."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        cards: Mapping[str, ModelCard],
        worker: Worker,
        settings: JobSettings,
    ) -> None:
        self._database = database
        self._spool = spool
        self._planner = Planner(spool, cards, settings)
        self._worker = worker
        self._settings = settings
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Say that the worker process is about to be closed: what that interrupts is no failure of the study."""
        self._stopping.set()

    def work_once(self) -> bool:
        """Do the next job, if there is one; `False` when the queue is empty.

        Raises `IndexUnavailable` and, when the disk has no room for a result, `SpoolUnavailable`: that costs no study
        an attempt.
        """
        self._require_room()
        with self._database.write() as connection:
            job = jobs.claim(connection, self._settings.owner, now_in(connection), self._settings.lease_s)
        if job is None:
            return False
        try:
            gone = self._planner.gone(job)
            with self._lease_kept(job):
                if gone:
                    self._hand_back(job, gone)
                else:
                    self._work(self._decided(job))
        except IndexUnavailable:
            raise  # the lease runs out and the job is done again, with the same result
        except SpoolUnavailable:
            self._give_back(job)  # the study is innocent of the disk
            raise
        except Exception as error:  # noqa: BLE001 - the worker's door: one bad study must not stop the others
            if self._stopping.is_set():
                self._give_back(job)
                return True
            _log.exception("job failed unexpectedly", extra={"job": job.id, "study": job.study_instance_uid})
            self._attempt_failed(job, f"Unexpected {type(error).__name__}; see the log of the node.")
        return True

    def _decided(self, job: ClaimedJob) -> ClaimedJob:
        if job.series_instance_uid:
            return job
        with self._database.write() as connection:
            return self._planner.decided(connection, job)

    def _require_room(self) -> None:
        free = self._spool.free_bytes()
        if free < _ROOM_BYTES:
            raise SpoolUnavailable(
                f"Only {free >> 20} MB are free below {self._spool.folder}, too little for a result. Free space; the "
                "studies that wait are analysed then."
            )

    def _work(self, job: ClaimedJob) -> None:
        if job.attempt > self._settings.max_attempts + 1:
            told = f"Even the notice of the failure could not be written. {job.last_failure}".rstrip()
            self._quarantine(job, "ANALYSIS_FAILED", told)
            return
        work_dir = self._settings.work_dir
        with room_in(work_dir), tempfile.TemporaryDirectory(dir=work_dir, prefix="job-") as folder:
            try:
                self._perform(job, self._plan(job, Path(folder)))
            except SourceDamaged as damage:
                self._perform(job, self._plan(job, Path(folder), self._note_damage(job, damage)))
                with self._database.write() as connection:  # the images may have come again meanwhile
                    run_again_if_whole(connection, job.study_instance_uid, now_in(connection))

    def _perform(self, job: ClaimedJob, plan: Plan | None) -> None:
        """Run what is planned and save what came back. Raises `SourceDamaged`."""
        if plan is None:
            return self._give_back(job)
        try:
            if self._answered_before(job, plan):
                return None
            self._save(job, plan, self._ask(plan.task))
        except NotAnalysable as refusal:  # not even a refusal may be written: whose study is it?
            return self._quarantine(job, refusal.reason[:REASON_LENGTH], str(refusal))
        except InferenceError as error:
            return self._give_back(job) if self._stopping.is_set() else self._attempt_failed(job, str(error))
        return None

    def _ask(self, task: Task) -> Performed:
        """Have a worker perform a task. Raises what `Workers.run` raises.

        Nothing is taken at its word: the code of a model may say what it likes.
        """
        try:
            return performed_of(self._worker.run(task), task)
        except SourceDamaged as damage:
            named = {path.name for path in damage.paths}  # in the worker's own folder, perhaps
            damaged = task.damaged(path for path in task.sha256_of if path.name in named)
            if not damaged:
                raise InferenceError("The worker process called images damaged that are whole.") from damage
            raise SourceDamaged(damaged) from damage

    # --- before the run ---

    def _plan(self, job: ClaimedJob, folder: Path, damaged: Declined | None = None) -> Plan | None:
        with self._database.read() as connection:
            return self._planner.plan(connection, job, folder, damaged)

    def _note_damage(self, job: ClaimedJob, damage: SourceDamaged) -> Declined:
        """Note which images are damaged; return why the study is not analysed."""
        keys = [self._spool.key_of(path) for path in damage.paths]
        with self._database.write() as connection:
            found = objects_at(connection, keys)
            note_damaged(connection, found, now_in(connection))
        uids = sorted({one.uid for one in found})
        advice = "Send them again; look at the disk."
        _log.error("images damaged", extra={"study": job.study_instance_uid, "route": job.route, "images": uids,
                                            "objects": keys, "advice": advice})  # fmt: skip
        named = ", ".join(uids[:_NAMED]) + (f" and {len(uids) - _NAMED} more" if len(uids) > _NAMED else "")
        return Declined(
            SOURCE_DAMAGED,
            f"On the node's disk {len(uids)} of the images are damaged (sha256 differs): {named}. Send them again; the "
            "analysis then runs by itself.",
        )

    def _answered_before(self, job: ClaimedJob, plan: Plan) -> bool:
        """Tell the answer again that is known. Raises `NotAnalysable` when the study has another patient's images now,
        which the answer does not depend on, but whose it is."""
        keys = plan.delivery_plan.output_keys
        with self._database.read() as connection:
            known = has_result(connection, plan.key, keys)
        if known and plan.task.beside:
            self._worker.run(replace(plan.task, only_identity=True, may_share=False))
        if known:
            self._make_good(job, plan)
        with self._database.write() as connection:
            if not has_result(connection, plan.key, keys):
                return False
            answered = answer_again(connection, job, plan.key, plan.delivery_plan.destinations, now_in(connection))
            if answered and job.earlier_job_key == plan.key:
                resend(connection, plan.key, plan.delivery_plan.destinations, now_in(connection))
        return True

    def _make_good(self, job: ClaimedJob, plan: Plan) -> None:
        """Write again what the disk has lost of a known answer: equal inputs give equal bytes, under the same names."""
        with self._database.read() as connection:
            lost = [key for key in kept_keys(connection, plan.key) if not self._spool.is_whole(key)]
            started_at = first_started_at(connection, plan.key) or job.started_at
        if not lost:
            return
        request = plan.task.request
        request = replace(request, context=replace(request.context, started_at=started_at))
        try:
            performed = self._ask(replace(plan.task, request=request, may_share=False))
        except SourceDamaged as damage:
            self._note_damage(job, damage)
        else:
            self._put_back(performed, request.out_dir, lost)
        self._tell_lost(job, lost)

    def _put_back(self, performed: Performed, folder: Path, lost: Collection[str]) -> None:
        for name, suffix in (one for file in performed.files for one in _contents(file)):
            content = file_left(folder, name)
            if object_key(hashlib.sha256(content).hexdigest(), suffix) in lost:
                self._spool.put([content], suffix)

    def _tell_lost(self, job: ClaimedJob, lost: Collection[str]) -> None:
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

    # --- after the run ---

    def _save(self, job: ClaimedJob, plan: Plan, performed: Performed) -> None:
        for one in performed.not_made:
            _log.error("kind of object not made", extra={
                "study": job.study_instance_uid, "route": job.route, "job": job.id, "model": job.model,
                "kind": one.kind.value, "made": one.made, "error": one.error, "where": one.where})  # fmt: skip
        folder = plan.task.request.out_dir
        self._check_own(plan.key, performed)
        gave_up = plan.task.declined is not None and plan.task.declined.reason == "ANALYSIS_FAILED"
        outcome = JobOutcome(
            state=JobState.FAILED if gave_up else performed.state,
            reason=performed.reason,
            message=performed.message,
            artifacts=tuple(self._keep(file, folder) for file in performed.files),
            summary=_with_line(performed.summary, plan.task.request.context),
            output_keys=plan.delivery_plan.output_keys,
        )
        with self._database.write() as connection:
            saved = save_result(connection, job, plan.key, outcome, plan.delivery_plan.destinations)
            if saved and plan.delivery_plan.notes:
                text = " ".join(plan.delivery_plan.notes)
                record(connection, job.study_instance_uid, now_in(connection), ("outputs", text), route=job.route)
        state = outcome.state.value if saved else "taken over by another worker"
        _log.info("job ended", extra={"study": job.study_instance_uid, "route": job.route, "state": state,
                                      "took_s": performed.summary.get("took_s")})  # fmt: skip
        if saved and gave_up:
            _log_given_up(job, outcome.message)

    def _check_own(self, job_key: str, performed: Performed) -> None:
        """Raise `InferenceError` where an object has the UID of one of another result."""
        with self._database.read() as connection:
            taken = taken_uids(connection, job_key, [file.uid for file in performed.files])
        if taken:
            raise InferenceError(f"The model gave an object the UID of another result ({taken[0]}); nothing was kept.")

    def _keep(self, file: ProducedFile, folder: Path) -> Artifact:
        stored, *pictures = (self._spool.put([file_left(folder, name)], suffix) for name, suffix in _contents(file))
        return Artifact(
            uid=file.uid, kind=file.kind, media_type=file.media_type, object_key=stored.key, sha256=stored.sha256,
            size_bytes=stored.size_bytes, order=file.order, description=file.description,
            sop_class_uid=file.sop_class_uid, series_instance_uid=file.series_instance_uid,
            preview_key=pictures[0].key if pictures else "", output_keys=file.output_keys,
        )  # fmt: skip

    def _attempt_failed(self, job: ClaimedJob, message: str) -> None:
        _log.warning("attempt failed", extra={"study": job.study_instance_uid, "route": job.route,
                                              "attempt": job.attempt, "why": message})  # fmt: skip
        with self._database.write() as connection:
            now = now_in(connection)
            jobs.release(connection, job, message, now + timedelta(seconds=_RETRY_WAIT_S * job.attempt), now)

    def _give_back(self, job: ClaimedJob) -> None:
        with self._database.write() as connection:
            jobs.give_back(connection, job, now_in(connection))

    def _hand_back(self, job: ClaimedJob, gone: str) -> None:
        _log.warning("route or model gone", extra={"study": job.study_instance_uid, "route": job.route, "why": gone})
        with self._database.write() as connection:
            jobs.hand_back_to_routes(connection, job, ("ROUTE_GONE", gone), now_in(connection))

    def _quarantine(self, job: ClaimedJob, reason: str, message: str) -> None:
        with self._database.write() as connection:
            if not jobs.finish(connection, job, JobState.FAILED, ("", reason, message), now_in(connection)):
                return
        _log_given_up(job, message)

    @contextmanager
    def _lease_kept(self, job: ClaimedJob) -> Iterator[None]:
        """Renew the claim beside the work, so that only a dead node's jobs are taken over."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._settings.lease_s / 3):
                try:
                    with self._database.write() as connection:
                        jobs.renew(connection, job, now_in(connection), self._settings.lease_s)
                except IndexUnavailable as error:
                    _log.warning("lease not renewed", extra={"job": job.id, "why": str(error)})

        thread = threading.Thread(target=renew, name=f"lease-{job.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _contents(file: ProducedFile) -> list[tuple[str, str]]:
    """Return the files of a produced object, each with the suffix under which it is kept: itself, then its picture."""
    suffix = Path(file.name).suffix if file.media_type != "application/dicom" else ".result"
    return [(file.name, suffix), *([(file.preview_name, ".png")] if file.preview_name else [])]


def _with_line(summary: Mapping[str, object], context: ReportContext) -> Mapping[str, object]:
    return {**summary, LINE: asdict(context.line)} if context.line else summary


def _log_given_up(job: ClaimedJob, message: str) -> None:
    _log.error("job given up", extra={"study": job.study_instance_uid, "route": job.route, "job": job.id,
                                      "model": job.model, "why": message,
                                      "advice": f"dicom-node rerun {job.study_instance_uid}"})  # fmt: skip

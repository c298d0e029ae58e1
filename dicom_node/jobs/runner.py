"""Takes queued jobs one by one, has the worker process analyse them, and saves what came back in one transaction."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from dicom_node.analysis.answer import Declined
from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.drift.features import sound_features
from dicom_node.core.entities import JobOutcome, JobStage, JobState
from dicom_node.core.errors import IndexUnavailable, InferenceError, NotAnalysable, SourceDamaged, SpoolUnavailable
from dicom_node.core.metrics.table import ATTEMPTS_FAILED, JOB_SECONDS, RUNS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.progress import Listener, told_to
from dicom_node.index import jobs
from dicom_node.index.damage import SOURCE_DAMAGED, note_damaged, objects_at, run_again_if_whole
from dicom_node.index.database import Database
from dicom_node.index.drift.stops import deliverable
from dicom_node.index.due import now_in
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.outbox.deliveries import resend
from dicom_node.index.results import answer_again, has_result, save_result
from dicom_node.index.studies import requests_of
from dicom_node.index.transitions import record
from dicom_node.inference.cards.card import ModelCard
from dicom_node.jobs.keeping import Worker, kept, marked, performed_by, require_own
from dicom_node.jobs.lease import lease_kept
from dicom_node.jobs.made_again import LostFiles
from dicom_node.jobs.planning import JobSettings, Plan, Planner
from dicom_node.jobs.reviewed import ReviewedResults
from dicom_node.jobs.stage_times import StageTimes
from dicom_node.jobs.tasks import REASON_LENGTH, Performed
from dicom_node.storage.folder import room_in
from dicom_node.storage.spool import Spool

_RETRY_WAIT_S = 5.0
#: No analysis begins on a disk with less: its result would not fit.
_ROOM_BYTES = 32 << 20
#: So many damaged images are named in a sentence; the log names all.
_NAMED = 3
#: Stages that a worker process tells.
_OF_WORKERS = frozenset({JobStage.LOADING, JobStage.RUNNING, JobStage.BUILDING})
_log = logging.getLogger(__name__)


#: What an end is counted as.
_OUTCOMES = {JobState.DONE: "result", JobState.PARTIAL: "partial", JobState.NOT_ANALYSABLE: "not_analysed",
             JobState.FAILED: "failed"}  # fmt: skip


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
        self._cards = cards
        self._worker = worker
        self._settings = settings
        self._reviewed = ReviewedResults(database, spool, worker, settings)
        self._lost_files = LostFiles(database, spool, worker, settings)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Say that the worker process is about to be closed: what that interrupts is no failure of the study."""
        self._stopping.set()
        self._reviewed.stop()

    def work_once(self) -> bool:
        """Make the next reviewed result, or do the next job; `False` when nothing waits. A person waits for the first.

        Raises `IndexUnavailable` and, when the disk has no room for a result, `SpoolUnavailable`: that costs no study
        an attempt.
        """
        self._require_room()
        if self._reviewed.make_next():
            return True
        with self._database.write() as connection:
            job = jobs.claim(connection, self._settings.owner, now_in(connection), self._settings.lease_s)
            requests = requests_of(connection, job.study_instance_uid) if job else []
        if job is None:
            return False
        if job.waited_s is not None:
            TALLY.observe(JOB_SECONDS, job.waited_s, stage=JobStage.QUEUED, model=job.model)
        with on_behalf_of(requests):
            return self._do(job)

    def _do(self, job: ClaimedJob) -> bool:
        try:
            gone = self._planner().gone(job)
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
        planner = self._planner()
        with self._database.write() as connection:
            return planner.decided(connection, job)

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
            with StageTimes(job, plan.key) as times:
                with told_to(self._entering(job, times)):
                    performed = performed_by(self._worker, plan.task)
                times.begin(JobStage.SAVING)
                self._enter(job, JobStage.SAVING)
                self._save(job, plan, performed)
        except NotAnalysable as refusal:  # not even a refusal may be written: whose study is it?
            return self._quarantine(job, refusal.reason[:REASON_LENGTH], str(refusal))
        except InferenceError as error:
            return self._give_back(job) if self._stopping.is_set() else self._attempt_failed(job, str(error))
        return None

    def _entering(self, job: ClaimedJob, times: StageTimes) -> Listener:
        """Return what hears from the worker process how far it is; of what else that may say, nothing is believed."""
        told: list[str] = []

        def enter(step: str) -> None:
            if step in _OF_WORKERS and told[-1:] != [step]:
                told.append(step)
                times.begin(JobStage(step))
                self._enter(job, JobStage(step))

        return enter

    def _enter(self, job: ClaimedJob, stage: JobStage) -> None:
        """Tell how far the job is. Nobody's analysis waits or fails because that could not be told."""
        try:
            with self._database.write() as connection:
                jobs.note_stage(connection, job, stage)
        except IndexUnavailable as error:
            _log.warning("stage not told", extra={"job": job.id, "why": str(error)})

    # --- before the run ---

    def _planner(self) -> Planner:
        """Return a planner that knows the routes as they are now, and no others as long as it plans."""
        return Planner(self._spool, self._cards, self._settings.with_present_routes(self._settings))

    def _plan(self, job: ClaimedJob, folder: Path, damaged: Declined | None = None) -> Plan | None:
        planner = self._planner()
        with self._database.read() as connection:
            return planner.plan(connection, job, folder, damaged)

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
            self._reviewed.make_in_further_sets(plan)
        with self._database.write() as connection:
            if not has_result(connection, plan.key, keys):
                return False
            answered = answer_again(connection, job, plan.key, plan.delivery_plan.destinations, now_in(connection))
            if answered and job.earlier_job_key == plan.key:
                owed_to = deliverable(connection, job.route, plan.delivery_plan.destinations)
                resend(connection, plan.key, owed_to, now_in(connection))
        if answered:
            TALLY.count(RUNS, model=job.model, outcome="unchanged", reason="")
        return True

    def _make_good(self, job: ClaimedJob, plan: Plan) -> None:
        try:
            self._lost_files.make_good(job, plan, self._planner())
        except SourceDamaged as damage:
            self._note_damage(job, damage)

    # --- after the run ---

    def _save(self, job: ClaimedJob, plan: Plan, performed: Performed) -> None:
        for one in performed.not_made:
            _log.error("kind of object not made", extra={
                "study": job.study_instance_uid, "route": job.route, "job": job.id, "model": job.model,
                "kind": one.kind.value, "made": one.made, "error": one.error, "where": one.where})  # fmt: skip
        require_own(self._database, plan.key, performed)
        gave_up = plan.task.declined is not None and plan.task.declined.reason == "ANALYSIS_FAILED"
        outcome = JobOutcome(
            state=JobState.FAILED if gave_up else performed.state,
            reason=performed.reason,
            message=performed.message,
            artifacts=kept(self._spool, performed, plan.task),
            summary=marked(performed.summary, plan.task.request.context),
            output_keys=plan.delivery_plan.output_keys,
            features=sound_features(performed.features),
        )
        with self._database.write() as connection:
            saved = save_result(connection, job, plan.key, outcome, plan.delivery_plan.destinations)
            if saved and plan.delivery_plan.notes:
                text = " ".join(plan.delivery_plan.notes)
                record(connection, job.study_instance_uid, now_in(connection), ("outputs", text), route=job.route)
        if saved:
            TALLY.count(RUNS, model=job.model, outcome=_OUTCOMES[outcome.state], reason=outcome.reason)
        state = outcome.state.value if saved else "taken over by another worker"
        _log.info("job ended", extra={"study": job.study_instance_uid, "route": job.route, "state": state,
                                      "took_s": performed.summary.get("took_s")})  # fmt: skip
        if saved and gave_up:
            _log_given_up(job, outcome.message)

    def _attempt_failed(self, job: ClaimedJob, message: str) -> None:
        TALLY.count(ATTEMPTS_FAILED, model=job.model)
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
            if jobs.hand_back_to_routes(connection, job, ("ROUTE_GONE", gone), now_in(connection)):
                TALLY.count(RUNS, model=job.model, outcome="not_analysed", reason="ROUTE_GONE")

    def _lease_kept(self, job: ClaimedJob) -> AbstractContextManager[None]:
        """Renew the claim beside the work, so that only a dead node's jobs are taken over."""

        def renew() -> None:
            with self._database.write() as connection:
                jobs.renew(connection, job, now_in(connection), self._settings.lease_s)

        return lease_kept(renew, self._settings.lease_s, f"job {job.id}")

    def _quarantine(self, job: ClaimedJob, reason: str, message: str) -> None:
        with self._database.write() as connection:
            if not jobs.finish(connection, job, JobState.FAILED, ("", reason, message), now_in(connection)):
                return
        TALLY.count(RUNS, model=job.model, outcome="failed", reason=reason)
        _log_given_up(job, message)


def _log_given_up(job: ClaimedJob, message: str) -> None:
    _log.error("job given up", extra={"study": job.study_instance_uid, "route": job.route, "job": job.id,
                                      "model": job.model, "why": message,
                                      "advice": f"dicom-node rerun {job.study_instance_uid}"})  # fmt: skip

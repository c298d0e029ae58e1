"""Takes queued jobs one by one, has the worker process analyse them, and saves what came back in one transaction."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from dicom_node import __version__
from dicom_node.analysis import AnalysisRequest, Predecessor, ReportContext, SourceFile
from dicom_node.errors import IndexUnavailable, InferenceError, NodeError, NotAnalysable
from dicom_node.fhir.options import FhirOptions
from dicom_node.governance.admission import Admitted
from dicom_node.index import jobs
from dicom_node.index.database import Database
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.results import answer_again, earlier_report, has_result, resend, save_result
from dicom_node.index.studies import load_study
from dicom_node.inference.cards.card import ModelCard
from dicom_node.model import Artifact, Destination, Instance, JobOutcome, JobState, Study
from dicom_node.outputs import OutputSet, SrClass
from dicom_node.spool import Spool
from dicom_node.tasks import Declined, Performed, ProducedFile, Task
from dicom_node.uids import derived_uid, job_key

_RETRY_WAIT_S = 5.0
_log = logging.getLogger(__name__)


class Worker(Protocol):
    """What does the work in another process; `workers.Workers` in production."""

    def run(self, task: Task, /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalystSettings:
    """What shapes every job. `routes` maps a route's name to its destinations and its parameters for the model."""

    owner: str
    work_dir: Path
    ae_title: str
    intended_use: str
    institution: str
    sr_sop_class: SrClass
    time_zone_name: str = ""
    fhir: FhirOptions
    max_attempts: int
    lease_s: float
    destinations: Mapping[str, Sequence[Destination]]
    parameters: Mapping[str, Mapping[str, float]]
    #: Says whether a model may run, and as what, from its files as they are now.
    admit: Callable[[ModelCard, Mapping[str, float]], Admitted]


@dataclass(frozen=True, slots=True)
class _Plan:
    """One job made ready: its key, the task for the worker process, and where its results go."""

    key: str
    task: Task
    destinations: Sequence[Destination]


class Analyst:
    """Works off the queue; several threads may call one instance, and several instances share a database."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        cards: Mapping[str, ModelCard],
        worker: Worker,
        settings: AnalystSettings,
    ) -> None:
        self._database = database
        self._spool = spool
        self._cards = cards
        self._worker = worker
        self._settings = settings
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Say that the worker process is about to be closed: what that interrupts is no failure of the study."""
        self._stopping.set()

    def work_once(self) -> bool:
        """Do the next job, if there is one; `False` when the queue is empty. Raises `IndexUnavailable` only."""
        with self._database.write() as connection:
            job = jobs.claim(connection, self._settings.owner, _now(), self._settings.lease_s)
        if job is None:
            return False
        try:
            with self._lease_kept(job):
                self._work(job)
        except IndexUnavailable:
            raise  # the lease runs out and the job is done again, with the same result
        except Exception as error:  # noqa: BLE001 - the worker's door: one bad study must not stop the others
            if self._stopping.is_set():
                self._give_back(job)
                return True
            _log.exception("job failed unexpectedly", extra={"job": job.id, "study": job.study_instance_uid})
            self._attempt_failed(job, f"Unexpected {type(error).__name__}; see the log of the node.")
        return True

    def _work(self, job: ClaimedJob) -> None:
        if job.attempt > self._settings.max_attempts + 1:
            return self._quarantine(job, "ANALYSIS_FAILED", "Even the notice of the failure could not be written.")
        with tempfile.TemporaryDirectory(dir=self._settings.work_dir, prefix="job-") as folder:
            plan = self._plan(job, Path(folder))
            if plan is None:
                return self._give_back(job)
            if self._answered_before(job, plan):
                return None
            try:
                performed = self._worker.run(plan.task)
            except NotAnalysable as refusal:  # not even a refusal may be written: whose study is it?
                return self._quarantine(job, refusal.reason, str(refusal))
            except InferenceError as error:
                return self._give_back(job) if self._stopping.is_set() else self._attempt_failed(job, str(error))
            assert isinstance(performed, Performed)
            self._save(job, plan, performed)
        return None

    # --- before the run ---

    def _plan(self, job: ClaimedJob, folder: Path) -> _Plan | None:
        """Make the task ready; `None` when a late image came since the claim, which the next claim will see."""
        with self._database.read() as connection:
            study = load_study(connection, job.study_instance_uid)
            earlier = earlier_report(connection, job.study_instance_uid, job.route)
        if study is None:
            raise NodeError(f"Study {job.study_instance_uid} is not in the index any more.")
        if study.revision != job.revision:
            return None
        parameters = self._settings.parameters.get(job.route, {})
        admitted = self._settings.admit(self._cards[job.model], parameters)
        card, declined = admitted.card, admitted.declined or self._declined(job)
        inputs = _inputs(study, job)
        key = self._key(job, admitted, inputs, declined)
        context = ReportContext(
            job_key=key,
            route_name=job.route,
            started_at=job.started_at,
            ae_title=self._settings.ae_title,
            node_uid=derived_uid("node", self._settings.ae_title),
            institution=self._settings.institution,
            output_sets=(OutputSet(structured_report=self._settings.sr_sop_class),),
            intended_use=self._settings.intended_use,
            time_zone_name=self._settings.time_zone_name,
            study_partial=job.study_partial,
            predecessor=Predecessor(path=self._spool.path(earlier.object_key), instance_number=earlier.sequence)
            if earlier
            else None,
        )
        request = AnalysisRequest(
            context=context, model_dir=card.folder, files=tuple(self._source(i) for i in inputs), out_dir=folder,
            parameters=parameters, model_digest="" if declined else admitted.digest,
        )  # fmt: skip
        task = Task(
            request=request,
            fhir=self._settings.fhir,
            declined=declined,
            may_share=declined is None and card.input == "image",
        )
        return _Plan(key, task, self._settings.destinations[job.route])

    def _declined(self, job: ClaimedJob) -> Declined | None:
        if job.attempt > self._settings.max_attempts:
            return Declined(
                "ANALYSIS_FAILED", f"The analysis failed {self._settings.max_attempts} times and was given up."
            )
        if not job.series_instance_uid:
            return Declined("NO_SUITABLE_SERIES", str(job.decision.get("reason", "No series fits the model.")))
        return None

    def _key(self, job: ClaimedJob, admitted: Admitted, inputs: Sequence[Instance], declined: Declined | None) -> str:
        s = self._settings
        node = [
            __version__,
            s.ae_title,
            s.intended_use,
            s.institution,
            s.sr_sop_class,
            s.time_zone_name,
            asdict(s.fhir),
        ]
        parameters = admitted.card.config_digest(s.parameters.get(job.route, {}))
        shaped_by = [node, job.route, parameters, job.study_partial, asdict(declined) if declined else None]
        config_digest = hashlib.sha256(json.dumps(shaped_by, sort_keys=True, default=str).encode()).hexdigest()
        digests = [f"{instance.sop_instance_uid}:{instance.sha256}" for instance in inputs]
        return job_key(job.study_instance_uid, digests, admitted.digest, config_digest)

    def _source(self, instance: Instance) -> SourceFile:
        return SourceFile(
            path=self._spool.path(instance.object_key),
            sop_instance_uid=instance.sop_instance_uid,
            series_instance_uid=instance.series_instance_uid,
        )

    def _answered_before(self, job: ClaimedJob, plan: _Plan) -> bool:
        with self._database.write() as connection:
            if not has_result(connection, plan.key):
                return False
            if answer_again(connection, job, plan.key, plan.destinations, _now()) and job.earlier_job_key == plan.key:
                resend(connection, plan.key, _now())
        return True

    # --- after the run ---

    def _save(self, job: ClaimedJob, plan: _Plan, performed: Performed) -> None:
        folder = plan.task.request.out_dir
        gave_up = plan.task.declined is not None and plan.task.declined.reason == "ANALYSIS_FAILED"
        outcome = JobOutcome(
            state=JobState.FAILED if gave_up else performed.state,
            reason=performed.reason,
            message=performed.message,
            artifacts=tuple(self._keep(file, folder) for file in performed.files),
            summary=performed.summary,
        )
        with self._database.write() as connection:
            saved = save_result(connection, job, plan.key, outcome, plan.destinations)
        state = outcome.state.value if saved else "taken over by another worker"
        _log.info("job ended", extra={"study": job.study_instance_uid, "route": job.route, "state": state,
                                      "took_s": performed.summary.get("took_s")})  # fmt: skip

    def _keep(self, file: ProducedFile, folder: Path) -> Artifact:
        suffix = Path(file.name).suffix if file.media_type != "application/dicom" else ".result"
        stored = self._spool.put([(folder / file.name).read_bytes()], suffix)
        preview = self._spool.put([(folder / file.preview_name).read_bytes()], ".png") if file.preview_name else None
        return Artifact(
            uid=file.uid, kind=file.kind, media_type=file.media_type, object_key=stored.key, sha256=stored.sha256,
            size_bytes=stored.size_bytes, order=file.order, description=file.description,
            sop_class_uid=file.sop_class_uid, series_instance_uid=file.series_instance_uid,
            preview_key=preview.key if preview else "",
        )  # fmt: skip

    def _attempt_failed(self, job: ClaimedJob, message: str) -> None:
        _log.warning("attempt failed", extra={"study": job.study_instance_uid, "route": job.route,
                                              "attempt": job.attempt, "why": message})  # fmt: skip
        now = _now()
        with self._database.write() as connection:
            jobs.release(connection, job, message, now + timedelta(seconds=_RETRY_WAIT_S * job.attempt), now)

    def _give_back(self, job: ClaimedJob) -> None:
        with self._database.write() as connection:
            jobs.give_back(connection, job, _now())

    def _quarantine(self, job: ClaimedJob, reason: str, message: str) -> None:
        with self._database.write() as connection:
            jobs.finish(connection, job, JobState.FAILED, ("", reason, message), _now())

    @contextmanager
    def _lease_kept(self, job: ClaimedJob) -> Iterator[None]:
        """Renew the claim beside the work, so that only a dead node's jobs are taken over."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self._settings.lease_s / 3):
                try:
                    with self._database.write() as connection:
                        jobs.renew(connection, job, _now(), self._settings.lease_s)
                except IndexUnavailable as error:
                    _log.warning("lease not renewed", extra={"job": job.id, "why": str(error)})

        thread = threading.Thread(target=renew, name=f"lease-{job.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _inputs(study: Study, job: ClaimedJob) -> list[Instance]:
    """Return the chosen series' images; where none was chosen, those of the series that met the route."""
    wanted = {job.series_instance_uid} if job.series_instance_uid else _met_route(job)
    return [i for series in study.series if series.series_instance_uid in wanted for i in series.instances]


def _met_route(job: ClaimedJob) -> set[str]:
    return {c["series_instance_uid"] for c in job.decision.get("candidates", ()) if c["meets_route"]}


def _now() -> datetime:
    return datetime.now(UTC)

"""A claimed job made ready for the worker process: its key, its context, its images, and who gets the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection

from dicom_node import __version__
from dicom_node.analysis.answer import Declined
from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.core.calls.requests import requests_in_work
from dicom_node.core.entities import Destination, Instance, OrderContext, Route, StatedPatient, Study
from dicom_node.core.errors import NodeError
from dicom_node.core.outputs.artifact_kinds import HeatMaps
from dicom_node.core.series.routing import decide
from dicom_node.core.uids import derived_uid, job_key
from dicom_node.deliver.profiles import DeliveryPlan, Profiles
from dicom_node.fhir.options import FhirOptions
from dicom_node.governance.admission import Admitted
from dicom_node.index.database import store_id
from dicom_node.index.jobs import ClaimedJob, choose_series
from dicom_node.index.lineage import ReportLineage, earlier_reports, line_for, replaced_results, withdrawn_objects
from dicom_node.index.outbox.withdrawals import rejections_before, withdrawals_before
from dicom_node.index.received.orders import order_of_study
from dicom_node.index.received.patients import number_of_study, numbers_of_patient, stated_patient_of
from dicom_node.index.received.stated_requests import request_for
from dicom_node.index.results import is_reviewed, standing_key
from dicom_node.index.studies import load_study
from dicom_node.inference.cards.card import ModelCard
from dicom_node.jobs.channels import channel_missing, channel_series
from dicom_node.jobs.tasks import Task
from dicom_node.storage.spool import Spool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What shapes every job. `destinations` and `parameters` (for the model) are by the name of the route."""

    owner: str
    work_dir: Path
    ae_title: str
    intended_use: str
    institution: str
    time_zone_name: str = ""
    heat_maps: HeatMaps = "model"
    #: Who gave out the patient numbers of images that name nobody.
    patient_authority: str = ""
    fhir: FhirOptions
    max_attempts: int
    lease_s: float
    destinations: Mapping[str, Sequence[Destination]]
    parameters: Mapping[str, Mapping[str, float]]
    #: Says whether a model may run, and as what, from its files as they are now.
    admit: Callable[[ModelCard, Mapping[str, float]], Admitted]
    #: By which a job without a series is decided on, by name.
    routes: Mapping[str, Route] = field(default_factory=dict)
    #: What each destination gets.
    profiles: Profiles = field(default_factory=Profiles)
    #: Returns these settings with the routes as they are at that moment: people may write them anew.
    with_present_routes: Callable[[JobSettings], JobSettings] = lambda settings: settings


@dataclass(frozen=True, slots=True)
class Plan:
    """One job made ready: its key, the task for the worker process, and where its results go."""

    key: str
    task: Task
    delivery_plan: DeliveryPlan


@dataclass(frozen=True, slots=True)
class _Told:
    """What the hospital's information systems have said of a study, and people of what they want of it."""

    order: OrderContext | None = None
    patient: StatedPatient | None = None
    purpose: str = ""

    def by_name(self) -> Mapping[str, object]:
        """Return what was said as plain data; nothing where nothing was."""
        said = {name: asdict(one) for name, one in (("order", self.order), ("patient", self.patient)) if one}
        return said | ({"purpose": self.purpose} if self.purpose else {})


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a result depends on beside images, model and settings: why nothing is analysed, if so; how many results were
    withdrawn before, for what took an equal one back must not take back this one too; which node it is, for two may
    have one AE title, and must not give one UID to objects that each has made; and what was told of the study."""

    declined: Declined | None
    withdrawn: int
    node_id: str
    told: _Told


@dataclass(frozen=True, slots=True)
class _Question:
    """What a job asks: of which images of the study, channel by channel, which model; or why none is asked."""

    study: Study
    job: ClaimedJob
    admitted: Admitted
    declined: Declined | None
    channels: tuple[str, ...]
    inputs: Sequence[Instance]

    @property
    def card(self) -> ModelCard:
        return self.admitted.card

    def beside(self) -> list[Instance]:
        """Return the other images of the study.

        No result lies on a further channel: its patient is compared as that of the series beside.
        """
        further = set(self.channels[1:]) - {self.job.series_instance_uid}
        used = {one.sop_instance_uid for one in self.inputs if one.series_instance_uid not in further}
        return [one for series in self.study.series for one in series.instances if one.sop_instance_uid not in used]


class Planner:
    """Makes jobs ready; holds nothing that changes."""

    def __init__(self, spool: Spool, cards: Mapping[str, ModelCard], settings: JobSettings) -> None:
        self._spool = spool
        self._cards = cards
        self._settings = settings

    def gone(self, job: ClaimedJob) -> str:
        """Return which part of the settings that the job was queued by is there no more; "" when all is."""
        if job.route not in self._settings.destinations:
            return f"The route {job.route}, for which this analysis waited, is gone from the settings."
        if job.model not in self._cards:
            return f"The model {job.model}, for which this analysis of route {job.route} waited, is gone."
        return ""

    def decided(self, connection: Connection, job: ClaimedJob) -> ClaimedJob:
        """Return the job with the series that the present routes choose, where none is chosen: there was none that
        fitted, or its study is analysed again because that one could not be analysed."""
        route, study = self._settings.routes.get(job.route), load_study(connection, job.study_instance_uid)
        if job.series_instance_uid or route is None or study is None:
            return job
        card = self._cards[job.model]
        decision = decide(study, route, card.accepts, card.rank)
        chosen, told = decision.chosen or "", decision.as_dict()
        choose_series(connection, job, chosen, told)
        return replace(job, series_instance_uid=chosen, decision=told)

    def plan(
        self, connection: Connection, job: ClaimedJob, folder: Path, damaged: Declined | None = None, again: str = ""
    ) -> Plan | None:
        """Make the task ready; `None` when a late image came since the claim, which the next claim will see.

        `damaged` says which images turned out to be damaged: then the task is to tell that. `again` is the key of an
        earlier answer to the same question that is to be made again, where another stands by now.
        """
        study = load_study(connection, job.study_instance_uid)
        if study is None:
            raise NodeError(f"Study {job.study_instance_uid} is not in the index any more.")
        if study.revision != job.revision:
            return None
        asked = self._question(study, job, damaged)
        shaped_by = self._shaped_by(connection, job, asked.inputs, asked.declined)
        key = again or standing_key(connection, self._key(job, asked.admitted, asked.inputs, shaped_by))
        delivery_plan = self._settings.profiles.delivery_plan(connection, self._settings.destinations[job.route])
        if is_reviewed(connection, key):
            delivery_plan = delivery_plan.of_review()
        context = replace(
            self._context(connection, job, key, delivery_plan),
            withdrawn_before=shaped_by.withdrawn + rejections_before(connection, job.study_instance_uid, job.route),
            node_id=shaped_by.node_id, order=shaped_by.told.order, patient=shaped_by.told.patient,
            purpose=shaped_by.told.purpose,
        )  # fmt: skip
        return Plan(key, self._analysis(asked, self._request(asked, context, folder)), delivery_plan)

    def _question(self, study: Study, job: ClaimedJob, damaged: Declined | None) -> _Question:
        parameters = self._settings.parameters.get(job.route, {})
        admitted = self._settings.admit(self._cards[job.model], parameters)
        declined = damaged or admitted.declined or self._declined(job)
        route = self._settings.routes.get(job.route)
        channels = channel_series(study, route, admitted.card, job.series_instance_uid)
        declined = declined or channel_missing(admitted.card, channels)
        return _Question(study, job, admitted, declined, channels, _inputs(study, job, channels))

    def _request(self, asked: _Question, context: ReportContext, folder: Path) -> AnalysisRequest:
        return AnalysisRequest(
            context=context,
            model_dir=asked.card.folder,
            files=tuple(self._source(one) for one in asked.inputs),
            out_dir=folder,
            parameters=self._settings.parameters.get(asked.job.route, {}),
            model_digest="" if asked.declined else asked.admitted.digest,
            channel_series=asked.channels,
        )

    def _analysis(self, asked: _Question, request: AnalysisRequest) -> Task:
        card, is_asked, beside = asked.card, asked.declined is None, asked.beside()
        return Task(
            request=request, fhir=self._settings.fhir, declined=asked.declined,
            may_share=is_asked and card.input == "image", study_instance_uid=asked.job.study_instance_uid,
            beside=tuple(self._spool.path(one.object_key) for one in beside),
            code=card.loaded_code() if is_asked else {}, calls_server=is_asked and card.server is not None,
            requests=requests_in_work(),
            sha256_of={self._spool.path(one.object_key): one.sha256 for one in (*asked.inputs, *beside)},
        )  # fmt: skip

    def _context(self, connection: Connection, job: ClaimedJob, key: str, delivery_plan: DeliveryPlan) -> ReportContext:
        lineage = ReportLineage(
            study_instance_uid=job.study_instance_uid,
            line=line_for(connection, job, self._settings.destinations),
            job_key=key,
            destinations_of={
                one: [to.name for to in delivery_plan.destinations if to.output_key == one]
                for one in delivery_plan.output_keys
            },
        )
        noting = [one.key for one in delivery_plan.output_sets if one.rejection_note]
        earlier = earlier_reports(connection, lineage)
        return ReportContext(
            job_key=key,
            route_name=job.route,
            started_at=job.started_at,
            ae_title=self._settings.ae_title,
            node_uid=derived_uid("node", self._settings.ae_title),
            institution=self._settings.institution,
            output_sets=delivery_plan.output_sets,
            withdrawn=withdrawn_objects(connection, lineage, noting),
            intended_use=self._settings.intended_use,
            time_zone_name=self._settings.time_zone_name,
            heat_maps=self._settings.heat_maps,
            study_partial=job.study_partial,
            predecessor=earlier.get(delivery_plan.output_keys[0]),
            predecessors=earlier,
            replaced=replaced_results(connection, lineage),
            line=lineage.line,
        )

    def _shaped_by(
        self, connection: Connection, job: ClaimedJob, inputs: Sequence[Instance], declined: Declined | None
    ) -> _Beside:
        withdrawn = withdrawals_before(connection, job.study_instance_uid, job.route)
        return _Beside(declined, withdrawn, store_id(connection) or "", self._told(connection, job, inputs))

    def _told(self, connection: Connection, job: ClaimedJob, inputs: Sequence[Instance]) -> _Told:
        """Return what the hospital's information systems and people have said of the study by now; an indication that
        somebody stated stands before that of the order."""
        stated = request_for(connection, job.study_instance_uid, job.route)
        told = self._told_by_systems(connection, job, inputs)
        if not stated.indication:
            return replace(told, purpose=stated.purpose or "")
        order = replace(told.order or OrderContext(), reason=stated.indication)
        return replace(told, order=order, purpose=stated.purpose or "")

    def _told_by_systems(self, connection: Connection, job: ClaimedJob, inputs: Sequence[Instance]) -> _Told:
        uid, authority = job.study_instance_uid, self._settings.patient_authority
        number = number_of_study(connection, uid, authority)
        if number is None:
            return _Told()
        accession = next((one.attributes.get("accession_number", "") for one in inputs), "")
        order = order_of_study(connection, uid, accession, numbers_of_patient(connection, number))
        return _Told(order, stated_patient_of(connection, uid, authority))

    def _declined(self, job: ClaimedJob) -> Declined | None:
        if job.attempt > self._settings.max_attempts:
            return Declined("ANALYSIS_FAILED", _given_up(self._settings.max_attempts, job.last_failure))
        if not job.series_instance_uid:
            return Declined("NO_SUITABLE_SERIES", str(job.decision.get("reason", "No series fits the model.")))
        return None

    def _key(self, job: ClaimedJob, admitted: Admitted, inputs: Sequence[Instance], beside: _Beside) -> str:
        """Return what the result depends on, as one digest.

        Not on who gets what of it: an object that one destination does not take, or wants otherwise, must not give
        all the others new UIDs. Each output set is written once under the key (`results.output_keys`).
        """
        s = self._settings
        node = [__version__, s.ae_title, s.intended_use, s.institution, s.time_zone_name, asdict(s.fhir)]
        parameters = admitted.card.config_digest(s.parameters.get(job.route, {}))
        declined = asdict(beside.declined) if beside.declined else None
        shaped_by = [node, job.route, parameters, job.study_partial, declined]
        heat_maps = "" if s.heat_maps == "model" else f"heat_maps={s.heat_maps}"
        shaped_by += [one for one in (beside.withdrawn, beside.node_id, beside.told.by_name(), heat_maps) if one]
        config_digest = hashlib.sha256(json.dumps(shaped_by, sort_keys=True, default=str).encode()).hexdigest()
        digests = [f"{instance.sop_instance_uid}:{instance.sha256}" for instance in inputs]
        return job_key(job.study_instance_uid, digests, admitted.digest, config_digest)

    def _source(self, instance: Instance) -> SourceFile:
        return SourceFile(
            path=self._spool.path(instance.object_key),
            sop_instance_uid=instance.sop_instance_uid,
            series_instance_uid=instance.series_instance_uid,
        )


def _given_up(attempts: int, last_failure: str) -> str:
    """Say that a job is given up and why; an attempt that ended with the node itself has left no reason."""
    told = f"The analysis failed {attempts} {'time' if attempts == 1 else 'times'} and was given up."
    return f"{told} The last attempt: {last_failure}" if last_failure else told


def _inputs(study: Study, job: ClaimedJob, channels: Sequence[str]) -> list[Instance]:
    """Return the images of the chosen series and of further channels; where none was chosen, those of the series that
    met the route."""
    wanted = {job.series_instance_uid, *channels} if job.series_instance_uid else _met_route(job)
    return [i for series in study.series if series.series_instance_uid in wanted for i in series.instances]


def _met_route(job: ClaimedJob) -> set[str]:
    return {c["series_instance_uid"] for c in job.decision.get("candidates", ()) if c["meets_route"]}

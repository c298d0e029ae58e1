"""A run made ready: which model it is for; and one study for the worker process: which series, under which key, with
what written of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from dicom_node import __version__
from dicom_node.analysis.answer import Declined
from dicom_node.analysis.context import AnalysisRequest, ReportContext, SourceFile
from dicom_node.config.settings import Settings
from dicom_node.core.entities import Instance, Route, Study
from dicom_node.core.errors import ModelUnavailable, NotFound
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.core.series.routing import RouteDecision, decide
from dicom_node.core.uids import derived_uid, job_key
from dicom_node.deliver.profiles import profiles_of
from dicom_node.fhir.options import fhir_options
from dicom_node.governance.admission import Standing
from dicom_node.governance.standing import standing_so_far
from dicom_node.governance.verify import verify_folder
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.cards.folders import survey_models
from dicom_node.jobs.channels import channel_missing, channel_series
from dicom_node.jobs.tasks import Task
from dicom_node.storage.spool import Spool

#: Stands where a node has the name of the route and its own: a run and a node never give one UID to two objects.
ROUTE, NODE = "run", "run without a node"


def chosen_model(model: str, settings: Settings) -> ModelCard:
    """Return the card of a model. Raises `NotFound`, or `ModelUnavailable` for one that must not or cannot run.

    A name goes before a folder of that name; ``./NAME`` is the folder. Who names a folder vouches for its code, as far
    as that is not confined; a model that was added runs by what was decided on it.
    """
    cards = survey_models(settings.models_dirs).cards
    if model in cards:
        found = standing_so_far(cards[model], settings)
        if found.standing is not Standing.LIVE:
            raise ModelUnavailable(f"{model} is not run: {found.text}")
        return cards[model]
    folder = Path(model)
    if not folder.is_dir():
        raise NotFound(f"There is no model or folder {model}; there are the models: {', '.join(sorted(cards))}.")
    wrong = [f"{one.name}: {one.text}" for one in verify_folder(folder, settings.inference.confine) if not one.ok]
    if wrong:
        raise ModelUnavailable(f"The model in {folder} is not run. {' '.join(wrong)}")
    return load_card(folder.resolve())


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """A study made ready: its task, and why the series was chosen."""

    study: Study
    decision: RouteDecision
    task: Task

    @property
    def key(self) -> str:
        """From what every UID of its results comes."""
        return self.task.request.context.job_key


@dataclass(frozen=True, slots=True)
class RunPlanner:
    """Makes studies ready for one model; equal images, model, settings and `started_at` give equal bytes."""

    card: ModelCard
    settings: Settings
    spool: Spool
    started_at: datetime
    parameters: Mapping[str, float]

    def plan(self, study: Study, out_dir: Path) -> PlannedStudy:
        """Choose the series as a route without conditions does, and make the task."""
        route = Route(name=ROUTE, model=self.card.name, destinations=())
        decision = decide(study, route, self.card.accepts, self.card.rank)
        channels = channel_series(study, route, self.card, decision.chosen or "")
        declined = channel_missing(self.card, channels)
        if not decision.chosen:
            declined = Declined("NO_SUITABLE_SERIES", decision.reason)
        inputs = _inputs(study, decision.chosen, channels)
        beside = _beside(study, inputs, further=set(channels[1:]) - {decision.chosen})
        task = Task(
            request=self._request(study, inputs, declined, channels, out_dir),
            fhir=fhir_options(self.settings),
            declined=declined,
            study_instance_uid=study.study_instance_uid,
            beside=tuple(self.spool.path(one.object_key) for one in beside),
            code={} if declined else self.card.loaded_code(),
            calls_server=declined is None and self.card.server is not None,
            sha256_of={self.spool.path(one.object_key): one.sha256 for one in (*inputs, *beside)},
        )
        return PlannedStudy(study, decision, task)

    def _request(
        self,
        study: Study,
        inputs: Sequence[Instance],
        declined: Declined | None,
        channels: tuple[str, ...],
        out_dir: Path,
    ) -> AnalysisRequest:
        return AnalysisRequest(
            context=self._context(self._key(study, inputs, declined)),
            model_dir=self.card.folder,
            files=tuple(map(self._source, inputs)),
            out_dir=out_dir,
            parameters=self.parameters,
            model_digest="" if declined else self.card.digest,
            channel_series=channels,
        )

    def _context(self, key: str) -> ReportContext:
        node = self.settings.node
        return ReportContext(
            job_key=key,
            route_name=ROUTE,
            started_at=self.started_at,
            ae_title=node.ae_title,
            node_uid=derived_uid("node", NODE, node.ae_title),
            node_id=NODE,
            institution=node.institution,
            output_sets=(self._outputs(),),
            intended_use=node.intended_use,
            time_zone_name=node.time_zone,
            heat_maps=self.settings.results.heat_maps,
        )

    def _outputs(self) -> OutputSet:
        """Return what a destination without a profile gets, and the PDF."""
        return replace(profiles_of(self.settings).site.outputs, encapsulated_pdf=True)

    def _key(self, study: Study, inputs: Sequence[Instance], declined: Declined | None) -> str:
        node, heat_maps = self.settings.node, self.settings.results.heat_maps
        shaped_by = [
            __version__, NODE, node.ae_title, node.intended_use, node.institution, node.time_zone,
            asdict(fhir_options(self.settings)), self.card.config_digest(self.parameters), self._outputs().key,
            asdict(declined) if declined else None, *([heat_maps] if heat_maps != "model" else []),
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(shaped_by, sort_keys=True, default=str).encode()).hexdigest()
        images = [f"{one.sop_instance_uid}:{one.sha256}" for one in inputs]
        return job_key(study.study_instance_uid, images, self.card.digest, digest)

    def _source(self, instance: Instance) -> SourceFile:
        return SourceFile(
            path=self.spool.path(instance.object_key),
            sop_instance_uid=instance.sop_instance_uid,
            series_instance_uid=instance.series_instance_uid,
        )


def _inputs(study: Study, chosen: str | None, channels: Sequence[str]) -> Sequence[Instance]:
    """Return the images of the chosen series and of further channels; where none is chosen, all, to say of what."""
    given = {chosen, *channels}
    return [
        one for series in study.series if not chosen or series.series_instance_uid in given for one in series.instances
    ]


def _beside(study: Study, inputs: Sequence[Instance], further: Collection[str | None]) -> Sequence[Instance]:
    """Return what no result lies on, further channels with it: their patient is compared as that of other series."""
    used = {one.sop_instance_uid for one in inputs if one.series_instance_uid not in further}
    return [one for series in study.series for one in series.instances if one.sop_instance_uid not in used]

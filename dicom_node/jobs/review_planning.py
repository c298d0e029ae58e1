"""A decision made ready for the worker process: what was found and is to be told anew, and what of it stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from dicom_node.analysis.context import AnalysisRequest, ReportContext, ReviewedObject
from dicom_node.analysis.stored_findings import analysed_uids_in, findings_in, further_uids_in, model_in
from dicom_node.core.entities import ArtifactKind, Finding, Instance, JobState
from dicom_node.core.errors import NodeError
from dicom_node.core.uids import derived_uid, reviewed_job_key
from dicom_node.index.database import store_id
from dicom_node.index.decided.reviews import ClaimedReview, dicom_objects_of
from dicom_node.index.outbox.withdrawals import rejections_before, withdrawals_before
from dicom_node.index.studies import load_study
from dicom_node.jobs.planning import JobSettings, Plan, Planner
from dicom_node.jobs.tasks import ReviewedAnswer, Task
from dicom_node.storage.spool import Spool

#: What a review makes anew; all else of the reviewed result stays, and is referred to.
_MADE_ANEW = frozenset({
    ArtifactKind.STRUCTURED_REPORT, ArtifactKind.ENCAPSULATED_PDF, ArtifactKind.REJECTION_NOTE,
    ArtifactKind.FHIR_BUNDLE, ArtifactKind.HL7_MESSAGE,
})  # fmt: skip
#: Summary pages have these picture keys, then numbers.
_SUMMARY, _MOST_PAGES = "summary", 20


class ReviewPlanner(Planner):
    """Makes decisions ready; no model is looked at, nor any pixel."""

    def __init__(self, spool: Spool, settings: JobSettings) -> None:
        super().__init__(spool, {}, settings)

    def plan_review(self, connection: Connection, claimed: ClaimedReview, folder: Path) -> Plan:
        """Make the task ready that tells a decision. Raises `NodeError` where an image is not there any more."""
        job, inputs = claimed.job, _sources(connection, claimed)
        key = reviewed_job_key(claimed.review.of_job_key, claimed.digest)
        destinations = self._settings.destinations.get(job.route, ())
        delivery_plan = self._settings.profiles.delivery_plan(connection, destinations).of_review()
        told = self._told(connection, job, inputs)
        study, route = job.study_instance_uid, job.route
        context = replace(
            self._context(connection, job, key, delivery_plan),
            withdrawn_before=withdrawals_before(connection, study, route) + rejections_before(connection, study, route),
            node_id=store_id(connection) or "", order=told.order, patient=told.patient, purpose=told.purpose,
            withdrawn=(), review=claimed.review, kept=_kept_objects(connection, claimed),
        )  # fmt: skip
        return Plan(key, self._task(claimed, inputs, context, folder), delivery_plan)

    def _task(self, claimed: ClaimedReview, inputs: Sequence[Instance], context: ReportContext, folder: Path) -> Task:
        model = model_in(claimed.summary)
        return Task(
            request=AnalysisRequest(
                context=context, model_dir=Path(model.name), files=tuple(map(self._source, inputs)), out_dir=folder
            ),
            fhir=self._settings.fhir,
            study_instance_uid=claimed.study_instance_uid,
            sha256_of={self._spool.path(one.object_key): one.sha256 for one in inputs},
            reviewed=ReviewedAnswer(
                model=model, notes=tuple(map(str, claimed.summary.get("notes") or ())),
                partial=claimed.summary.get("state") == JobState.PARTIAL,
                further_uids=frozenset(further_uids_in(claimed.summary)),
            ),
        )  # fmt: skip


def _sources(connection: Connection, claimed: ClaimedReview) -> list[Instance]:
    """Return the images that the result was made from, in its order."""
    study = load_study(connection, claimed.study_instance_uid)
    series = study.series if study is not None else ()
    there = {one.sop_instance_uid: one for part in series for one in part.instances}
    wanted = analysed_uids_in(claimed.summary)
    if lacking := [uid for uid in wanted if uid not in there]:
        raise NodeError(f"{len(lacking)} of the images that the result was made from are not there any more.")
    return [there[uid] for uid in wanted]


def _kept_objects(connection: Connection, claimed: ClaimedReview) -> tuple[ReviewedObject, ...]:
    """Return what stays of the reviewed result."""
    job_key, findings = claimed.review.of_job_key, findings_in(claimed.summary)
    pictures = {derived_uid(job_key, "sc", key): key for key in _picture_keys(findings)}
    segments = {one.key: one.segment_number for one in findings if one.segment_number is not None}
    rows = dicom_objects_of(connection, job_key)
    return tuple(_kept(row, pictures, segments) for row in rows if row.kind not in _MADE_ANEW)


def _kept(row: Row[Any], pictures: Mapping[str, str], segments: Mapping[str, int]) -> ReviewedObject:
    return ReviewedObject(
        kind=ArtifactKind(row.kind), sop_class_uid=row.sop_class_uid, sop_instance_uid=row.uid,
        series_instance_uid=row.series_instance_uid, output_keys=tuple(row.output_keys),
        picture_key=pictures.get(row.uid, ""),
        segment_numbers=segments if row.kind == ArtifactKind.SEGMENTATION else {},
    )  # fmt: skip


def _picture_keys(findings: Sequence[Finding]) -> list[str]:
    """Return the keys of pictures that a report may name: summary pages, and what explains a finding."""
    pages = [_SUMMARY, *(f"{_SUMMARY}:{number}" for number in range(2, _MOST_PAGES))]
    return [*pages, *(one.explanation_key for one in findings if one.explanation_key)]

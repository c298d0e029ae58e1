"""Results that somebody has reviewed, rebuilt as the worker does: of findings and headers, without pixels or masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import ReportContext, ReviewedObject
from dicom_node.analysis.written import WrittenObject
from dicom_node.core import codes
from dicom_node.core.assessment.review import Review, ReviewedFinding, Reviewer, ReviewReason
from dicom_node.core.entities import ArtifactKind, Finding, Measurement, Presence, Region, ReviewState
from dicom_node.core.uids import tracking_uid
from tests.support.results import analysis_examples as examples

READER = Reviewer(account="aweiss", name="Weiß^Anna^^Dr.", organization="Radiology, Hospital", identifier="LANR-4711")
SECOND = Reviewer(account="bkoch", name="Koch^Bernd", organization="Radiology, Hospital")
DECIDED_AT = datetime(2026, 3, 14, 12, 30, 5, tzinfo=UTC)


def accepted(answer: Analysis, **changes: Any) -> Review:
    """Return the review of somebody who found everything right."""
    findings = tuple(ReviewedFinding(finding=one, said_by_model=one) for one in answer.findings)
    values: dict[str, Any] = {
        "of_job_key": examples.context().job_key, "state": ReviewState.ACCEPTED, "reviewer": READER,
        "decided_at": DECIDED_AT, "findings": findings,
    }  # fmt: skip
    return Review(**(values | changes))


def modified(answer: Analysis, **changes: Any) -> Review:
    """Return the review of somebody who let the first finding stand, removed the second, measured the others and drew
    one that the model had missed."""
    first, second, *others = answer.findings
    findings = (
        ReviewedFinding(finding=first, said_by_model=first),
        ReviewedFinding(finding=second, said_by_model=second, removed=True, text="An artefact of the tube."),
        *(ReviewedFinding(finding=measured(one), said_by_model=one) for one in others),
        ReviewedFinding(finding=drawn(answer.sources[0]), said_by_model=None, text="Größe 4 mm, Kontrolle"),
    )
    reasons = (ReviewReason.FALSE_POSITIVE, ReviewReason.FALSE_NEGATIVE, ReviewReason.WRONG_MEASUREMENT)
    values: dict[str, Any] = {
        "state": ReviewState.MODIFIED, "findings": findings, "reasons": reasons, "text": "Compared with the prior.",
        "second_reader": SECOND, "second_decided_at": datetime(2026, 3, 15, 8, 0, tzinfo=UTC),
    }  # fmt: skip
    return accepted(answer, **(values | changes))


def measured(finding: Finding) -> Finding:
    """Return the finding as present and with a diameter of a person."""
    diameter = Measurement(codes.DIAMETER, 12.5, codes.MILLIMETER)
    return replace(finding, presence=Presence.PRESENT, measurements=(diameter,))


def drawn(image: Dataset) -> Finding:
    """Return a nodule as a reader outlines it."""
    corners = ((20.0, 30.0), (28.0, 30.0), (28.0, 38.0), (20.0, 38.0), (20.0, 30.0))
    return Finding(
        key="reader-1", label="Nodule", code=codes.term_code("findings", "lung-nodule"), site=codes.LUNG,
        laterality=codes.RIGHT, presence=Presence.PRESENT,
        region=Region(sop_instance_uid=str(image.SOPInstanceUID), points_xy_px=corners),
        measurements=(Measurement(codes.DIAMETER, 4.0, codes.MILLIMETER),),
    )  # fmt: skip


def rebuilt(answer: Analysis) -> Analysis:
    """Return what is left of an answer when it is reviewed: findings, and headers of the images."""
    sources = tuple(map(_header, answer.sources))
    return replace(answer, sources=sources, segments=(), saliencies=(), histogram=None, key_slices=())


def _header(source: Dataset) -> Dataset:
    header = Dataset()
    for element in source:
        if element.keyword != "PixelData":
            header.add(element)
    return header


def reviewed_context(review: Review, written: Sequence[WrittenObject], **changes: Any) -> ReportContext:
    """Return the context of a review of the result that was `written`."""
    report = next(one.dataset for one in written if one.kind is ArtifactKind.STRUCTURED_REPORT)
    values: dict[str, Any] = {
        "job_key": "b2" * 32, "review": review, "kept": tuple(kept(one, review) for one in written),
        "predecessor": examples.predecessor(report, 1),
    }  # fmt: skip
    return examples.context(**(values | changes))


def kept(one: WrittenObject, review: Review) -> ReviewedObject:
    """Return what the index knows of an object of the reviewed result."""
    segments = {
        str(item.get("TrackingUID")): int(item.SegmentNumber) for item in one.dataset.get("SegmentSequence") or ()
    }
    by_key = {found.finding.key: tracking_uid(review.of_job_key, found.finding.key) for found in review.findings}
    return ReviewedObject(
        kind=one.kind, sop_class_uid=str(one.dataset.SOPClassUID), sop_instance_uid=str(one.dataset.SOPInstanceUID),
        series_instance_uid=str(one.dataset.SeriesInstanceUID), output_keys=one.output_keys,
        picture_key=one.picture_key, finding_key=one.finding_key,
        segment_numbers={key: segments[uid] for key, uid in by_key.items() if uid in segments},
    )  # fmt: skip

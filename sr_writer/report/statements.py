"""What a report says as a whole: what was done and asked for, and nothing found as a statement, never as silence."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

from highdicom.sr import CodeContentItem, CodedConcept, ContainerContentItem, ContentSequence, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import ReportContext
from dicom_node.core import codes
from dicom_node.core.entities import Code, Finding, ModelIdentity, Presence
from dicom_node.core.reasons import meaning_of
from dicom_node.sr_writer.overlays.segmentation import coded
from dicom_node.sr_writer.text import ascii_text, long_string

_TEXT_LIMIT = 1024


def statements_container(
    summary: Code | None, remarks: Sequence[str], of_review: Sequence[Any] = ()
) -> ContainerContentItem | None:
    """Return the statements about the whole study (TID 1500 row 12), `None` when there is nothing to say."""
    items: list[Any] = [*of_review]
    if summary is not None:
        name = coded(codes.FINDINGS_SUMMARY)
        items.append(CodeContentItem(name=name, value=coded(summary), relationship_type="CONTAINS"))
    items += [
        TextContentItem(
            name=dictionary.DCM.Comment, value=ascii_text(remark)[:_TEXT_LIMIT], relationship_type="CONTAINS"
        )
        for remark in remarks
    ]
    if not items:
        return None
    container = ContainerContentItem(name=coded(codes.QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence(items)
    return container


def request_items(context: ReportContext) -> list[TextContentItem]:
    """Return why the analysis was asked for, and what for, where anybody has said so.

    TID 1500 has no row for it and may be extended (PS3.16 TID 1500, extensible); the concept is that of TID 2000.
    """
    said = (
        (codes.INDICATIONS, context.order.reason if context.order else ""),
        (codes.PURPOSE_OF_ANALYSIS, context.purpose),
    )
    return [
        TextContentItem(name=coded(name), value=ascii_text(text)[:_TEXT_LIMIT], relationship_type="CONTAINS")
        for name, text in said
        if text
    ]


def summary_code(analysis: Analysis, *, partial: bool) -> Code | None:
    """Return in a code whether anything was found and all was evaluated; `None` for an answer that only measures."""
    answers = {finding.presence for finding in analysis.findings if finding.presence is not None}
    if not answers:
        return None
    return codes.SUMMARIES[not partial and Presence.UNDETERMINED not in answers, Presence.PRESENT in answers]


def summary_sentences(analysis: Analysis, context: ReportContext, *, partial: bool) -> Iterator[str]:
    """Say what must not be overread: nothing found, a class that could not be told, a number that is none."""
    if partial:
        yield "PARTIAL: only part of the study could be assessed."
    asked = [finding for finding in analysis.findings if finding.presence is not None]
    absent = [finding.label for finding in asked if finding.presence is Presence.ABSENT]
    untold = [finding.label for finding in asked if finding.presence is Presence.UNDETERMINED]
    if absent and len(absent) == len(asked):
        by_whom = "by this algorithm" if context.review is None else "in the review"
        what = "in what could be assessed" if partial else by_whom
        yield (
            f"NOTHING FOUND {what}: {', '.join(absent)} evaluated and absent. Nothing else was looked for, and this "
            "does not exclude disease."
        )
    if untold:
        yield f"UNDETERMINED: {', '.join(untold)} could not be told; this is neither present nor absent."
    for finding in analysis.findings:
        named = _uncomputed(finding, analysis.model)
        yield from (f"{finding.label}: {name} could not be computed." for name in named)


def _uncomputed(finding: Finding, model: ModelIdentity) -> Iterator[str]:
    if finding.probability is not None and not math.isfinite(finding.probability):
        yield codes.score_code(finding, model).meaning
    yield from (one.label for one in finding.measurements if not math.isfinite(one.value))


def coded_reason(reason: str) -> CodedConcept:
    """Return why a study was not analysed as a code of this project."""
    meaning = (meaning_of(reason) or reason.replace("_", " ").capitalize()).rstrip(".")
    return CodedConcept(value=reason, scheme_designator=codes.PRIVATE_SCHEME, meaning=long_string(meaning))


# --- what the source alone says: procedure, requests -----------------------------------------------------------------


def procedure_reported(source: Dataset) -> CodedConcept:
    """Return the imaging procedure: as the source codes it, else what its modality says."""
    for item in source.get("ProcedureCodeSequence") or ():
        value, scheme, meaning = (item.get(k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        if value and scheme and meaning and len(meaning) <= 64 and str(meaning).isascii():
            return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)
    return coded(codes.PROCEDURES.get(str(source.get("Modality")), codes.IMAGING_PROCEDURE))


def referenced_requests(source: Dataset) -> list[Dataset]:
    """Return one item per request the source fulfils (PS3.3 C.17.2: all of these are type 1 or 2)."""
    return [_request_item(attributes, source) for attributes in source.get("RequestAttributesSequence") or ()]


def _request_item(attributes: Dataset, source: Dataset) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = attributes.get("StudyInstanceUID") or source.StudyInstanceUID
    item.ReferencedStudySequence = copy.deepcopy(attributes.get("ReferencedStudySequence") or [])
    item.AccessionNumber = attributes.get("AccessionNumber") or source.get("AccessionNumber") or ""
    item.RequestedProcedureCodeSequence = copy.deepcopy(attributes.get("RequestedProcedureCodeSequence") or [])
    for keyword in (
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        setattr(item, keyword, attributes.get(keyword) or source.get(keyword) or "")
    return item

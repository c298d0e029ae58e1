"""The sentences of a report: one per finding, the conclusion, the reason why there is no answer."""

from __future__ import annotations

import math

from dicom_node.analysis import Analysis, NotAnalysed
from dicom_node.codes import PRESENCE_CODES
from dicom_node.fhir.source_text import one_line
from dicom_node.fhir.terms import printed_unit
from dicom_node.model import Finding, Measurement

NOT_MEASURABLE = "not measurable"


def percent(probability: float) -> float:
    """Return a probability 0..1 as a percentage with one decimal."""
    return round(probability * 100, 1)


def site_text(finding: Finding) -> str:
    """Return where the finding is, side first: ``Left Lung``."""
    side = f"{finding.laterality.meaning} " if finding.laterality else ""
    return f"{side}{finding.site.meaning}"


def presence_text(finding: Finding) -> str:
    """Return ``Present``, ``Absent``, ``Undetermined``, or nothing for a mere measurement."""
    return PRESENCE_CODES[finding.presence].meaning if finding.presence else ""


def certainty_text(finding: Finding, *, calibrated: bool) -> str:
    """Return the model's score for people, or nothing when it gave none."""
    if finding.probability is None:
        return ""
    if not math.isfinite(finding.probability):
        return f"certainty {NOT_MEASURABLE}"
    return f"certainty {percent(finding.probability)} %" + ("" if calibrated else " (uncalibrated)")


def measurement_text(measurement: Measurement) -> str:
    """Return name, value and unit of one measurement."""
    if not math.isfinite(measurement.value):
        return f"{measurement.label} {NOT_MEASURABLE}"
    return f"{measurement.label} {measurement.value} {printed_unit(measurement.unit)}".rstrip()


def finding_sentence(finding: Finding, *, calibrated: bool) -> str:
    """Return one line about one finding; the site is left out where the label says it."""
    parts = [
        presence_text(finding),
        certainty_text(finding, calibrated=calibrated),
        *(measurement_text(measurement) for measurement in finding.measurements),
    ]
    site = site_text(finding)
    where = "" if site.lower() in finding.label.lower() else f" ({site})"
    return one_line(f"{finding.label}{where}: {'; '.join(filter(None, parts)) or 'no value'}.")


def not_analysed_text(answer: NotAnalysed) -> str:
    """Return the sentence that stands in place of every finding."""
    return one_line(f"Not analysed: {answer.message} ({answer.reason})")


def conclusion_lines(answer: Analysis | NotAnalysed, *, incomplete: bool) -> list[str]:
    """Return what the report says, line by line, without the warning that goes first."""
    if isinstance(answer, NotAnalysed):
        silence = "This says nothing about the presence or absence of any finding."
        return [not_analysed_text(answer), silence, *_notes(answer)]
    lines = [finding_sentence(finding, calibrated=answer.model.calibrated) for finding in answer.findings]
    caution = ["The study or the analysis was incomplete; findings may be missing."] if incomplete else []
    return caution + (lines or ["The model reported no finding it could evaluate."]) + _notes(answer)


def _notes(answer: Analysis | NotAnalysed) -> list[str]:
    """Return what the model said about its input and its limits."""
    return [one_line(f"Note: {note}") for note in answer.notes]

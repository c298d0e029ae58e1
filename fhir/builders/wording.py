"""The words of a report: a sentence per finding, the conclusion, why there is no answer; and the page made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from html import escape

from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.assessment.review import REVIEW_REASONS, Review, ReviewedFinding
from dicom_node.core.codes import PRESENCE_CODES
from dicom_node.core.entities import ArtifactKind, Finding, Measurement, ModelIdentity, OrderContext, Presence
from dicom_node.fhir.builders.dicom_values import one_line, source_text
from dicom_node.fhir.builders.facts import ReportFacts
from dicom_node.fhir.builders.resources.model_card import attachment, how_sure
from dicom_node.fhir.builders.terms import printed_unit
from dicom_node.fhir.json_types import Json

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


def score_text(finding: Finding, *, calibrated: bool) -> str:
    """Return the model's score for people by what it is, or nothing when it gave none."""
    if finding.probability is None:
        return ""
    if not math.isfinite(finding.probability):
        return f"score {NOT_MEASURABLE}"
    value = f"{percent(finding.probability)} %"
    if finding.score is not None:
        return f"{finding.score.meaning[:1].lower()}{finding.score.meaning[1:]} {value}"
    return f"certainty {value}" if calibrated else f"score {value} (not calibrated)"


def measurement_text(measurement: Measurement) -> str:
    """Return name, value and unit of one measurement."""
    if not math.isfinite(measurement.value):
        return f"{measurement.label} {NOT_MEASURABLE}"
    return f"{measurement.label} {measurement.value} {printed_unit(measurement.unit)}".rstrip()


def finding_sentence(finding: Finding, *, calibrated: bool) -> str:
    """Return one line about one finding; the site is left out where the label says it."""
    parts = [
        presence_text(finding),
        score_text(finding, calibrated=calibrated),
        *(measurement_text(measurement) for measurement in finding.measurements),
        *(f"{one.label} not reported ({one.reason})" for one in finding.withheld),
    ]
    return one_line(f"{_named(finding)}: {'; '.join(filter(None, parts)) or 'no value'}.")


def _named(finding: Finding) -> str:
    site = site_text(finding)
    return finding.label if site.lower() in finding.label.lower() else f"{finding.label} ({site})"


def not_analysed_text(answer: NotAnalysed) -> str:
    """Return the sentence that stands in place of every finding."""
    return one_line(f"Not analysed: {answer.message} ({answer.reason})")


def change_lines(reviewed: ReviewedFinding, model: ModelIdentity) -> list[str]:
    """Say of a finding that is a reader's word what became of it, and what the model had said."""
    did = "Removed by the reviewer." if reviewed.removed else "Changed by the reviewer."
    told = ["Added by the reviewer." if reviewed.is_added else did, reviewed.text]
    if reviewed.said_by_model is not None:
        told.append(f"The model had said: {finding_sentence(reviewed.said_by_model, calibrated=model.calibrated)}")
    return [one_line(line) for line in told if line]


def review_lines(review: Review | None, model: ModelIdentity) -> list[str]:
    """Return why a result was changed in its review, and what; nothing where nobody has reviewed it."""
    if review is None:
        return []
    changed = [one for one in review.findings if one.is_changed]
    said = [line for one in changed for line in _named_changes(one, model)]
    reasons = [f"Review: {REVIEW_REASONS[reason]}" for reason in review.reasons]
    return [one_line(line) for line in (*reasons, f"Review: {review.text}" if review.text else "", *said) if line]


def _named_changes(reviewed: ReviewedFinding, model: ModelIdentity) -> list[str]:
    """Return the same lines where they do not stand beside their finding; the last names it itself."""
    lines = change_lines(reviewed, model)
    told = lines if reviewed.is_added else lines[:-1]
    return [f"{_named(reviewed.finding)}: {' '.join(told)}", *lines[len(told) :]]


def conclusion_lines(answer: Analysis | NotAnalysed, *, incomplete: bool, review: Review | None = None) -> list[str]:
    """Return what the report says, line by line, without the sentence on who answers for it that goes first."""
    if isinstance(answer, NotAnalysed):
        silence = "This says nothing about the presence or absence of any finding."
        return [not_analysed_text(answer), silence, *_notes(answer)]
    lines = [finding_sentence(finding, calibrated=answer.model.calibrated) for finding in answer.findings]
    caution = ["The study or the analysis was incomplete; findings may be missing."] if incomplete else []
    said = lines or ["The model reported no finding it could evaluate."]
    return [*caution, *said, *review_lines(review, answer.model), *_notes(answer)]


#: What is read first comes first.
_READ_FIRST = (Presence.PRESENT, Presence.UNDETERMINED, Presence.ABSENT)


def summary_lines(answer: Analysis | NotAnalysed) -> list[str]:
    """Return what a reader in a hurry must have seen: what is present and how sure, then the rest by name only."""
    if isinstance(answer, NotAnalysed):
        return [not_analysed_text(answer)]
    calibrated = answer.model.calibrated
    by_presence = {one: [f for f in answer.findings if f.presence is one] for one in _READ_FIRST}
    told = [
        f"{PRESENCE_CODES[presence].meaning}: {'; '.join(_summed_up(one, calibrated=calibrated) for one in found)}."
        for presence, found in by_presence.items()
        if found
    ]
    if any(one.probability is not None for one in answer.findings):
        told.append(how_sure(answer.model))
    if told or not answer.findings:
        return [one_line(line) for line in told]
    return ["Measurements only: nothing was judged to be present or absent."]


def _summed_up(finding: Finding, *, calibrated: bool) -> str:
    score = score_text(finding, calibrated=calibrated) if finding.presence is Presence.PRESENT else ""
    return f"{_named(finding)}, {score}" if score else _named(finding)


def _notes(answer: Analysis | NotAnalysed) -> list[str]:
    """Return what the model said about its input and its limits."""
    return [one_line(f"Note: {note}") for note in answer.notes]


# --- for people: every inserted text is escaped ----------------------------------------------------------------------

_STYLE = "body{font-family:sans-serif;max-width:48em;margin:2em auto}th{text-align:left;padding-right:1em}"


def narrative(facts: ReportFacts, summary: Sequence[str], lines: Sequence[str]) -> Json:
    """Return the Narrative of the report: the summary first, every line last; the patient is named by the EHR."""
    details = _list(lines) if list(lines) != list(summary) else ""
    body = _paragraph(facts.warning) + _summary(summary) + _table(_circumstances(facts)) + _link(facts) + details
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{body}</div>'}


def presented_forms(
    facts: ReportFacts, summary: Sequence[str], lines: Sequence[str], written: Sequence[WrittenObject]
) -> list[Json]:
    """Return the report as Attachments: one HTML page, and the PDF where the result has one, with its address."""
    about = {"title": facts.title, "creation": facts.issued}
    page = attachment("text/html", _page(facts, summary, lines, written).encode("utf-8"))
    pdfs = [one.dataset for one in written if one.kind is ArtifactKind.ENCAPSULATED_PDF]
    return [{**page, **about}, *({**_pdf_form(facts, one), **about} for one in pdfs)]


def _pdf_form(facts: ReportFacts, pdf: Dataset) -> Json:
    """Return an encapsulated PDF as Attachment; it may be padded to even length (PS3.5 7.1.1)."""
    length = pdf.get("EncapsulatedDocumentLength")
    data = bytes(pdf.EncapsulatedDocument)
    form = attachment("application/pdf", data if length is None else data[: int(length)])
    series, instance = source_text(pdf, "SeriesInstanceUID"), source_text(pdf, "SOPInstanceUID")
    where = f"{facts.images_url}/series/{series}/instances/{instance}/rendered"
    return {**form, "url": where} if facts.images_url else form


def _page(facts: ReportFacts, summary: Sequence[str], lines: Sequence[str], written: Sequence[WrittenObject]) -> str:
    title = facts.title
    objects = [f"{item.description} ({source_text(item.dataset, 'SOPInstanceUID')})" for item in written]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>"
        f"<p><strong>{_text(facts.warning)}</strong></p>{_summary(summary)}{_table(_header(facts))}"
        f"{_list(lines)}{_link(facts)}"
        + (f"<h2>Objects in the image archive</h2>{_list(objects)}" if objects else "")
        + "</body></html>"
    )


def _header(facts: ReportFacts) -> Iterable[tuple[str, str]]:
    return (
        ("Patient", facts.subject.get("display", "")),
        ("Patient ID", facts.subject.get("identifier", {}).get("value", "")),
        ("Accession number", (facts.accession or {}).get("value", "")),
        ("Study", facts.study_instance_uid),
        *_circumstances(facts),
        ("Intended use", facts.model.intended_use),
    )


def _circumstances(facts: ReportFacts) -> Iterable[tuple[str, str]]:
    """Return what a reader must know to weigh the result: of when, by what, with which limits, instead of what."""
    started, taken, analysed = (
        readable_time(moment, facts.clock) for moment in (facts.started, facts.effective, facts.issued)
    )
    return (
        *_ordered(facts),
        ("Study date", started),
        ("Images taken", taken),
        ("Analysed" if facts.review is None else "Verified", analysed),
        ("Model", f"{facts.model.name} {facts.model.version}, {facts.model.manufacturer}".rstrip(", ")),
        ("Limits", facts.model.limits),
        ("Replaces", facts.replaces),
    )


def _ordered(facts: ReportFacts) -> Iterable[tuple[str, str]]:
    """Return what was asked for, why, what for and how urgently, as far as anybody has said it."""
    order = facts.order or OrderContext()
    code = order.procedure
    asked = (
        "" if code is None else code.meaning if code.value in ("", code.meaning) else f"{code.meaning} ({code.value})"
    )
    return (
        ("Ordered", asked),
        ("Indication", order.reason),
        ("Purpose", facts.purpose),
        ("Priority", order.priority),
        ("Requested for", order.requested_at.replace("T", " ")),
    )


def readable_time(moment: str, clock: tzinfo | None) -> str:
    """Return a FHIR date, dateTime or instant for people, by one clock: ``2026-11-20 10:10:10 +01:00``, or ``UTC``.

    Times of several zones beside each other are read as if they were of one. A date without a time stays as it is;
    `None` is the machine's own clock.
    """
    if "T" not in moment:
        return moment
    at = datetime.fromisoformat(moment).astimezone(clock)
    return f"{at:%Y-%m-%d %H:%M:%S} {'UTC' if not at.utcoffset() else at.isoformat()[-6:]}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    shown = (f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows if value)
    return f"<table><tbody>{''.join(shown)}</tbody></table>"


def _link(facts: ReportFacts) -> str:
    if not facts.images_url:
        return ""
    return f'<p><a href="{_text(facts.images_url)}">Images of the study (DICOMweb)</a></p>'


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _summary(lines: Iterable[str]) -> str:
    return "".join(f"<p><strong>{_text(line)}</strong></p>" for line in lines)


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _text(text: str) -> str:
    return escape(one_line(text))

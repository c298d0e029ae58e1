"""What stands on the page of the PDF report: the content of the summary picture, as plain data for the template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from dicom_node.analysis.answer import Analysis, Histogram, NotAnalysed
from dicom_node.analysis.written import Picture
from dicom_node.core.entities import Finding, ModelIdentity, Presence
from dicom_node.core.reasons import meaning_of
from dicom_node.sr_writer.identity import ResultIdentity
from dicom_node.sr_writer.text import (
    NOT_PERFORMED,
    answer_of,
    ascii_text,
    looked_at,
    marking,
    measured_labels,
    number,
    percent,
    review_lines,
    score_names,
    state_of,
    value_of,
    verdict_on,
)
from dicom_node.sr_writer.writing import Writing

_PARTIAL = "PARTIAL: only part of the study could be assessed."
_UNCALIBRATED = "Scores are not calibrated: they rank, they are not probabilities of disease."
_CALIBRATED = "Scores were calibrated by the maker of the model."
_NO_NAME = "Patient and study are named in the DICOM header of this document, and only there."
#: Which rows stay when not all of them fit on the page.
_RANK = {Presence.PRESENT: 0, Presence.UNDETERMINED: 1, None: 1, Presence.ABSENT: 2}
#: A longer sentence is cut: nobody reads on, and setting it would take seconds.
_MOST_LETTERS = 3000
#: What is measured side by side in one table.
_TABLE_COLUMNS = 4


def page_content(writing: Writing, picture: Picture | None, document_uid: str) -> dict[str, Any]:
    """Return all that the page says, in ASCII; `picture` is the one that is shown on it."""
    identity, answer = writing.identity, writing.answer
    content = _declined(answer, identity) if isinstance(answer, NotAnalysed) else _answered(answer, identity)
    model = identity.model
    caption = ascii_text(picture.description) if picture else ""
    return content | {
        "title": ascii_text(f"AI report: {model.name} {model.version}"),
        "author": ascii_text(f"{PRODUCT_NAME} {__version__}, {MANUFACTURER}"),
        "marking": identity.marking,
        "subtitle": looked_at(answer),
        "footer": _footer(identity, document_uid),
        "picture": {"caption": caption, "alt": f"{caption}, {identity.marking}"} if picture else None,
    }


def _answered(analysis: Analysis, identity: ResultIdentity) -> dict[str, Any]:
    scored = [f for f in analysis.findings if f.presence is not None or f.probability is not None]
    partial = analysis.partial or identity.context.study_partial
    verdict = verdict_on(scored)
    has_threshold = any(finding.threshold is not None for finding in scored)
    return {
        "declined": False,
        "banner": identity.marking,
        "warnings": [*([_PARTIAL] if partial else []), *([verdict.text] if verdict else [])],
        "opening": [*([_part("", [verdict.caveat])] if verdict and verdict.caveat else []), *_review(identity)],
        "findings": [_finding(finding) for finding in scored],
        "findings-title": "Findings (red line on the scale: threshold)" if has_threshold else "Findings",
        "findings-remark": _remark(scored, analysis.model),
        "measurements": _measurements([f for f in analysis.findings if f.measurements or f.withheld]),
        "histogram": _histogram(analysis.histogram) if analysis.histogram is not None else None,
        "closing": [_part("Notes", analysis.notes), *_about(identity)],
    }


def _review(identity: ResultIdentity) -> list[dict[str, Any]]:
    lines = review_lines(identity.context, identity.made_at.tzinfo)
    return [_part("Review", lines)] if lines else []


def _declined(answer: NotAnalysed, identity: ResultIdentity) -> dict[str, Any]:
    return {
        "declined": True,
        "banner": f"{NOT_PERFORMED} - {marking(identity.context.intended_use)}",
        "warnings": ["NO RESULT. The images were NOT assessed."],
        "opening": [
            _part("", ["This is not a negative result: it says nothing about the patient."]),
            _part("Reason", [meaning_of(answer.reason), answer.message, f"Code of the reason: {answer.reason}"]),
        ],
        "findings": [],
        "findings-title": "",
        "findings-remark": "",
        "measurements": [],
        "histogram": None,
        "closing": [_part("Notes", answer.notes), *_about(identity)],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "label": ascii_text(_label(finding)),
        "answer": answer_of(finding),
        "present": finding.presence is Presence.PRESENT,
        "rank": _RANK[finding.presence],
        "score": "" if finding.probability is None else percent(finding.probability),
        "share": _share(finding.probability),
        "threshold": "" if _share(finding.threshold) is None else percent(finding.threshold or 0.0),
        "threshold-share": _share(finding.threshold),
    }


def _share(value: float | None) -> float | None:
    """Return how much of the bar it takes; nothing is drawn of what is no number."""
    return None if value is None or not math.isfinite(value) else min(max(value, 0.0), 1.0)


def _label(finding: Finding) -> str:
    """Return the finding with its side, which must not be left to the reader to guess."""
    side = finding.laterality.meaning.lower() if finding.laterality is not None else ""
    return f"{finding.label} ({side})" if side and side not in finding.label.lower() else finding.label


def _remark(scored: Sequence[Finding], model: ModelIdentity) -> str:
    if not any(finding.probability is not None for finding in scored):
        return ""
    return _CALIBRATED if model.calibrated else f"{_UNCALIBRATED}{score_names(scored)}"


def _measurements(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return tables of at most four findings side by side, one row for everything any of them measures."""
    tables = (findings[start : start + _TABLE_COLUMNS] for start in range(0, len(findings), _TABLE_COLUMNS))
    return [_measurement_table(together) for together in tables]


def _measurement_table(findings: Sequence[Finding]) -> dict[str, Any]:
    rows = [[ascii_text(one), *(value_of(finding, one) for finding in findings)] for one in measured_labels(findings)]
    return {"columns": [ascii_text(_label(finding)) for finding in findings], "rows": rows}


def _histogram(histogram: Histogram) -> dict[str, Any]:
    edges, highest = histogram.bin_edges, max(float(histogram.counts.max()), 1e-9)
    first, span = float(edges[0]), float(edges[-1] - edges[0])
    marks = {label: (at - first) / span for label, at in histogram.marks.items() if 0 <= (at - first) / span <= 1}
    caption = ascii_text(histogram.title)
    return {
        "caption": caption,
        "alt": f"{caption}; marked: {', '.join(map(ascii_text, histogram.marks)) or 'nothing'}",
        "axis": ascii_text(histogram.x_label),
        "first": number(first),
        "last": number(float(edges[-1])),
        "bars": [round(float(count) / highest, 4) for count in histogram.counts],
        "marks": [{"label": ascii_text(label), "share": round(share, 4)} for label, share in marks.items()],
    }


def _about(identity: ResultIdentity) -> list[dict[str, Any]]:
    model = identity.model
    parameters = f"Parameters: {', '.join(model.parameters)}." if model.parameters else ""
    order = identity.context.order
    return [
        _part("Indication", [order.reason if order else ""]),
        _part("Purpose", [identity.context.purpose]),
        _part("State", [state_of(model, identity.context, identity.made_at.tzinfo)]),
        _part("Intended use", [model.intended_use]),
        _part("Limits", [model.limits]),
        _part("Model", [f"{model.name} {model.version}, {model.manufacturer}.", parameters, f"Digest {model.digest}"]),
    ]


def _part(title: str, sentences: Sequence[str]) -> dict[str, Any]:
    return {"title": title, "sentences": [_cut(ascii_text(said)) for said in sentences if said]}


def _cut(said: str) -> str:
    return said if len(said) <= _MOST_LETTERS else f"{said[:_MOST_LETTERS].rstrip()} ... (cut for want of room)"


def _footer(identity: ResultIdentity, document_uid: str) -> list[str]:
    made_at = identity.made_at.strftime("%Y-%m-%d %H:%M:%S %z").strip()
    what = "Analysis" if identity.context.review is None else "Verification"
    return [
        f"{identity.marking}. {_NO_NAME}",
        ascii_text(f"{what} of {made_at} by {PRODUCT_NAME} {__version__}; document {document_uid}"),
    ]

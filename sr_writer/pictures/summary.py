"""The pages of words: what was found and measured, by which model, with what limits; or that nothing was analysed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dicom_node import __version__
from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.written import Picture
from dicom_node.core.entities import Finding, ModelIdentity, Presence
from dicom_node.core.reasons import meaning_of
from dicom_node.sr_writer.identity import local_time
from dicom_node.sr_writer.pictures.page import BODY, MARGIN, NOTE_PX, PAGE_PX, RIGHT, SMALL, Frame, Pages, histogram
from dicom_node.sr_writer.pictures.pen import AMBER, BLUE, LINE, MUTED, PANEL, RED, TEXT, Rgb, clipped, folded, wrapped
from dicom_node.sr_writer.text import (
    NOT_PERFORMED,
    answer_of,
    looked_at,
    marking,
    marking_of,
    measured_labels,
    percent,
    review_lines,
    score_names,
    state_of,
    value_of,
    verdict_on,
)

_DIGEST_LETTERS = 16
_TONES = {Presence.PRESENT: AMBER, Presence.UNDETERMINED: BLUE, Presence.ABSENT: TEXT}


def summary_pages(analysis: Analysis, context: ReportContext, remarks: Sequence[str] = ()) -> list[Picture]:
    """Draw the summary; `remarks` say which pictures were left out."""
    pages = Pages(
        Frame(
            banner=marking_of(context),
            color=AMBER,
            title=f"{analysis.model.name} {analysis.model.version}",
            subtitle=looked_at(analysis),
            footer=_maker(analysis.model),
        )
    )
    if analysis.partial or context.study_partial:
        pages.verdict("PARTIAL: only part of the study could be assessed.", AMBER)
    zone = local_time(context, analysis.sources[0]).tzinfo
    _results(pages, analysis)
    _listed(pages, "Review", review_lines(context, zone))
    _listed(pages, "Notes", [*analysis.notes, *remarks])
    _about(pages, analysis.model, state_of(analysis.model, context, zone))
    return _numbered(pages, "summary", "AI summary page")


def refusal_pages(answer: NotAnalysed, context: ReportContext) -> list[Picture]:
    """Draw the page that says why there is no result; in colour, border and words unlike one that found nothing."""
    pages = Pages(
        Frame(
            banner=NOT_PERFORMED,
            color=RED,
            title=f"{answer.model.name} {answer.model.version}",
            subtitle=looked_at(answer),
            footer=_maker(answer.model),
            bordered=True,
        )
    )
    pages.verdict("NO RESULT. The images were NOT assessed.", RED)
    pages.paragraph("This is not a negative result: it says nothing about the patient.")
    pages.heading("Reason")
    meaning = meaning_of(answer.reason)
    pages.paragraph(meaning or answer.reason, AMBER)
    pages.paragraph(answer.message)
    if meaning:
        pages.small(f"Code of the reason: {answer.reason}")
    _listed(pages, "Notes", answer.notes)
    pages.heading("Marking")
    pages.paragraph(marking(context.intended_use), AMBER)
    return _numbered(pages, "not-analysed", "AI analysis not performed")


def _results(pages: Pages, analysis: Analysis) -> None:
    scored = [f for f in analysis.findings if f.presence is not None or f.probability is not None]
    measured = [f for f in analysis.findings if f.measurements or f.withheld]
    _verdict(pages, scored)
    if scored:
        barred = any(f.threshold is not None and f.probability is not None for f in scored)
        pages.heading("Findings (red line: threshold)" if barred else "Findings")
        findings_table(pages, scored)
        if any(f.probability is not None for f in scored) and not analysis.model.calibrated:
            pages.small(
                f"Scores are not calibrated: they rank, they are not probabilities of disease.{score_names(scored)}"
            )
    if measured:
        pages.heading("Measurements")
        measurement_tables(pages, measured)
    if analysis.histogram is not None:
        histogram(pages, analysis.histogram)


def _verdict(pages: Pages, findings: Sequence[Finding]) -> None:
    """Say the result in one sentence. That nothing was found is white, not green: it clears nobody."""
    verdict = verdict_on(findings)
    if verdict is not None:
        pages.verdict(verdict.text, _TONES[verdict.presence])
        if verdict.caveat:
            pages.small(verdict.caveat)


def _listed(pages: Pages, title: str, lines: Sequence[str]) -> None:
    if lines:
        pages.heading(title)
        for line in lines:
            pages.paragraph(f"- {line}", size_px=NOTE_PX)


def _about(pages: Pages, model: ModelIdentity, state: str) -> None:
    """Say what the answer is worth: its state, what the model is meant for, and its limits."""
    pages.heading("State")
    pages.small(state)
    for title, text in (("Intended use", model.intended_use), ("Limits", model.limits)):
        if text:
            pages.heading(title)
            pages.small(text)


def _maker(model: ModelIdentity) -> str:
    digest = model.digest[:_DIGEST_LETTERS]
    return f"Model {model.name} {model.version}, {model.manufacturer}, digest {digest}; node {__version__}"


def _numbered(pages: Pages, key: str, description: str) -> list[Picture]:
    """Return one picture per page; the first has the plain key and description."""
    pictures = []
    for page, rgb in enumerate(pages.finished(), start=1):
        suffix = ("", "") if page == 1 else (f":{page}", f", page {page}")
        pictures.append(Picture(key=key + suffix[0], rgb=rgb, description=description + suffix[1], source=None))
    return pictures


# --- its tables ------------------------------------------------------------------------------------------------------

#: Where the columns of the table of findings begin; the numbers end at a column of their own.
_ANSWER_X, _BAR_LEFT, _BAR_RIGHT, _SCORE_RIGHT, _THRESHOLD_RIGHT = 420, 628, 744, 860, RIGHT
_ROW = int(BODY * 1.35)
#: Columns of a measurement table, and the width of each.
_COLUMNS, _COLUMN_PX = 3, 186
#: A name takes as many lines as it needs; one of hundreds of letters is cut.
_MOST_NAME_LINES, _MOST_HEAD_LINES = 4, 8
_PRESENCE_COLORS: dict[Presence | None, Rgb] = {
    Presence.PRESENT: AMBER,
    Presence.UNDETERMINED: BLUE,
    Presence.ABSENT: TEXT,
    None: TEXT,
}
_PRESENCE_ORDER = (Presence.PRESENT, Presence.UNDETERMINED, Presence.ABSENT, None)


def findings_table(pages: Pages, findings: Sequence[Finding]) -> None:
    """Write one row per finding, present ones first: name, answer, score with its bar, and the threshold."""
    scored = any(finding.probability is not None for finding in findings)
    pages.need(_ROW * 3)
    _heads(pages, scored=scored)
    for finding in sorted(findings, key=lambda one: _PRESENCE_ORDER.index(one.presence)):
        names = folded(name_of(finding), BODY, _ANSWER_X - MARGIN - 12, _MOST_NAME_LINES)
        if pages.need(_ROW * len(names)):
            _heads(pages, scored=scored)
        _row(pages, finding, names)


def name_of(finding: Finding) -> str:
    """Return the label with the side, unless it names the side itself."""
    side = finding.laterality.meaning.lower() if finding.laterality is not None else ""
    return finding.label if not side or side in finding.label.lower() else f"{finding.label}, {side}"


def _heads(pages: Pages, *, scored: bool) -> None:
    pages.pen.text((_ANSWER_X, pages.y), "answer", SMALL, MUTED)
    if scored:
        pages.pen.text_right((_SCORE_RIGHT, pages.y), "score", SMALL, MUTED)
        pages.pen.text_right((_THRESHOLD_RIGHT, pages.y), "threshold", SMALL, MUTED)
    pages.y += int(SMALL * 1.4)


def _row(pages: Pages, finding: Finding, names: Sequence[str]) -> None:
    color, y = _PRESENCE_COLORS[finding.presence], pages.y
    for row, line in enumerate(names):
        pages.pen.text((MARGIN, y + row * _ROW), line, BODY, color)
    pages.pen.text((_ANSWER_X, y), answer_of(finding), BODY, color)
    if finding.probability is not None:
        if math.isfinite(finding.probability):
            _score_bar(pages, finding, color)
        pages.pen.text_right((_SCORE_RIGHT, y), percent(finding.probability), BODY, color)
    if _has_threshold(finding):
        assert finding.threshold is not None
        pages.pen.text_right((_THRESHOLD_RIGHT, y), percent(finding.threshold), BODY, MUTED)
    pages.y += _ROW * max(1, len(names))


def _has_threshold(finding: Finding) -> bool:
    return finding.threshold is not None and math.isfinite(finding.threshold)


def _score_bar(pages: Pages, finding: Finding, color: Rgb) -> None:
    top, bottom = pages.y + BODY * 0.25, pages.y + BODY * 0.95
    width = _BAR_RIGHT - _BAR_LEFT
    pages.pen.box((_BAR_LEFT, top, _BAR_RIGHT, bottom), fill=PANEL, outline=LINE)
    filled = width * min(max(finding.probability or 0.0, 0.0), 1.0)
    if filled >= 1:
        pages.pen.box((_BAR_LEFT, top, _BAR_LEFT + filled, bottom), fill=color)
    if _has_threshold(finding):
        x = _BAR_LEFT + width * min(max(finding.threshold or 0.0, 0.0), 1.0)
        pages.pen.line([(x, top - 4), (x, bottom + 4)], RED, 3)


def measurement_tables(pages: Pages, findings: Sequence[Finding]) -> None:
    """Write all measurements: one row each, what was measured side by side (at most three a table)."""
    for start in range(0, len(findings), _COLUMNS):
        _measurement_table(pages, findings[start : start + _COLUMNS])


def _measurement_table(pages: Pages, findings: Sequence[Finding]) -> None:
    rights = [RIGHT - _COLUMN_PX * (len(findings) - 1 - column) for column in range(len(findings))]
    names_px = rights[0] - _COLUMN_PX - MARGIN
    names = {label: wrapped(label, BODY, names_px) for label in measured_labels(findings)}
    heads = [folded(name_of(finding), BODY, _COLUMN_PX - 12, _MOST_HEAD_LINES) for finding in findings]
    head_lines = max(len(lines) for lines in heads)
    pages.need(min(BODY * (0.1 + 1.3 * (head_lines + sum(map(len, names.values())))), PAGE_PX / 2))
    for right, lines in zip(rights, heads, strict=True):
        for row, line in enumerate(lines):
            pages.pen.text_right((right, pages.y + row * int(BODY * 1.3)), line, BODY, MUTED)
    pages.y += int(BODY * (0.1 + 1.3 * head_lines))
    for label, lines in names.items():
        pages.need(BODY * 1.3 * len(lines))
        for right, finding in zip(rights, findings, strict=True):
            pages.pen.text_right((right, pages.y), clipped(value_of(finding, label), BODY, _COLUMN_PX - 6), BODY)
        for line in lines:
            pages.pen.text((MARGIN, pages.y), line, BODY, MUTED)
            pages.y += int(BODY * 1.3)
    pages.y += BODY // 4

"""The tables of the summary page: what was looked for and found, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dicom_node.core.entities import Finding, Presence
from dicom_node.sr_writer.pictures.page import BODY, MARGIN, PAGE_PX, RIGHT, SMALL, Pages
from dicom_node.sr_writer.pictures.pen import AMBER, BLUE, LINE, MUTED, PANEL, RED, TEXT, Rgb, clipped, folded, wrapped
from dicom_node.sr_writer.text import answer_of, measured, percent

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
    names = {m.label: wrapped(m.label, BODY, names_px) for finding in findings for m in finding.measurements}
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
            pages.pen.text_right((right, pages.y), clipped(_value_of(finding, label), BODY, _COLUMN_PX - 6), BODY)
        for line in lines:
            pages.pen.text((MARGIN, pages.y), line, BODY, MUTED)
            pages.y += int(BODY * 1.3)
    pages.y += BODY // 4


def _value_of(finding: Finding, label: str) -> str:
    """Return the value of one measurement with its unit, a dash where it was not measured."""
    return next((measured(one) for one in finding.measurements if one.label == label), "-")

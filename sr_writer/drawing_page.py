"""A page of text and tables that grows downwards: the tools for the summary and the "not performed" page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from dicom_node.analysis import Histogram
from dicom_node.model import Finding, ModelIdentity, Presence
from dicom_node.sr_writer.drawing import (
    AMBER,
    BACKGROUND,
    BLUE,
    LINE,
    MUTED,
    PANEL,
    RED,
    TEXT,
    Pen,
    Rgb,
    RgbUint8,
    clipped,
    text_width,
    wrapped,
)
from dicom_node.sr_writer.drawing_slice import unit_text
from dicom_node.sr_writer.text import answer_of, number, percent

#: Shown at half this size the text is still 11 pixels high.
PAGE_WIDTH_PX = 1024
_TALLEST_PX = 4096
_MARGIN, _TITLE, _BODY, _SMALL = 36, 40, 25, 22
NOTE_PX = 23
#: Columns of a measurement table, and the width of each.
_COLUMNS, _COLUMN_PX = 3, 170
_PRESENCE_COLORS: dict[Presence | None, Rgb] = {
    Presence.PRESENT: AMBER,
    Presence.UNDETERMINED: BLUE,
    Presence.ABSENT: TEXT,
    None: TEXT,
}


class Page:
    """Draws block below block; `finished` cuts the page to what was used, at least square."""

    def __init__(self) -> None:
        self._canvas = Image.new("RGB", (PAGE_WIDTH_PX, _TALLEST_PX), BACKGROUND)
        self._pen = Pen(ImageDraw.Draw(self._canvas))
        self._y = 0
        self._right = PAGE_WIDTH_PX - _MARGIN

    def banner(self, text: str, color: Rgb) -> None:
        """Fill the top of the page with the words that must not be missed."""
        height = int(_TITLE * 1.7)
        self._pen.box((0, 0, PAGE_WIDTH_PX, height), fill=color)
        self._pen.text_centered((PAGE_WIDTH_PX / 2, height / 2), text, int(_TITLE * 0.85), BACKGROUND)
        self._y = height + _BODY

    def title(self, text: str) -> None:
        """Write the name of what follows, large."""
        self._pen.text((_MARGIN, self._y), clipped(text, _TITLE, self._right - _MARGIN), _TITLE)
        self._y += int(_TITLE * 1.35)

    def heading(self, text: str) -> None:
        """Start a block."""
        self._y += _SMALL // 2
        self._pen.text((_MARGIN, self._y), text, _SMALL, MUTED)
        self._y += int(_SMALL * 1.35)
        self._pen.line([(_MARGIN, self._y), (self._right, self._y)], LINE, 2)
        self._y += _SMALL // 3

    def paragraph(self, text: str, color: Rgb = TEXT, size_px: int = _BODY) -> None:
        """Write running text."""
        for line in wrapped(text, size_px, self._right - _MARGIN):
            self._pen.text((_MARGIN, self._y), line, size_px, color)
            self._y += int(size_px * 1.3)

    def small(self, text: str) -> None:
        """Write a remark."""
        self.paragraph(text, MUTED, _SMALL)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Write one row per finding: name, presence, score with its bar and threshold."""
        answer_x, bar_x, score_right = 440, 660, self._right
        bar_right = score_right - text_width("100.0 %", _BODY) - 16
        for finding in findings:
            color = _PRESENCE_COLORS[finding.presence]
            self._pen.text((_MARGIN, self._y), clipped(finding.label, _BODY, answer_x - _MARGIN - 12), _BODY, color)
            self._pen.text((answer_x, self._y), answer_of(finding), _BODY, color)
            if finding.probability is not None:
                self._score_bar((bar_x, bar_right), finding, color)
                self._pen.text_right((score_right, self._y), percent(finding.probability), _BODY, color)
            self._y += int(_BODY * 1.45)

    def _score_bar(self, span: tuple[int, int], finding: Finding, color: Rgb) -> None:
        left, right = span
        top, bottom = self._y + _BODY * 0.25, self._y + _BODY * 0.95
        self._pen.box((left, top, right, bottom), fill=PANEL, outline=LINE)
        filled = left + (right - left) * min(max(finding.probability or 0.0, 0.0), 1.0)
        if filled - left >= 1:
            self._pen.box((left, top, filled, bottom), fill=color)
        if finding.threshold is not None:
            x = left + (right - left) * finding.threshold
            self._pen.line([(x, top - 4), (x, bottom + 4)], RED, 3)

    def measurements(self, findings: Sequence[Finding]) -> None:
        """Write a table of all measurements: one row each, what was measured side by side (at most three a table)."""
        for start in range(0, len(findings), _COLUMNS):
            self._measurement_table(findings[start : start + _COLUMNS])

    def _measurement_table(self, findings: Sequence[Finding]) -> None:
        rights = [self._right - _COLUMN_PX * (len(findings) - 1 - column) for column in range(len(findings))]
        names_px = rights[0] - _COLUMN_PX - _MARGIN
        for right, finding in zip(rights, findings, strict=True):
            self._pen.text_right((right, self._y), clipped(finding.label, _BODY, _COLUMN_PX - 12), _BODY, MUTED)
        self._y += int(_BODY * 1.4)
        for label in dict.fromkeys(m.label for finding in findings for m in finding.measurements):
            for right, finding in zip(rights, findings, strict=True):
                self._pen.text_right((right, self._y), _value_of(finding, label), _BODY)
            for line in wrapped(label, _BODY, names_px):
                self._pen.text((_MARGIN, self._y), line, _BODY, MUTED)
                self._y += int(_BODY * 1.3)
        self._y += _BODY // 4

    def histogram(self, histogram: Histogram) -> None:
        """Draw the distribution with its marked positions."""
        self.heading(histogram.title)
        top, height = self._y + int(_SMALL * 1.5), 190
        left, right = _MARGIN, self._right
        low, high = float(histogram.bin_edges[0]), float(histogram.bin_edges[-1])

        def x_of(value: float) -> float:
            return left + (value - low) / max(high - low, 1e-9) * (right - left)

        peak = max(float(np.max(histogram.counts)), 1e-9)
        self._pen.box((left, top, right, top + height), fill=PANEL)
        for start, end, count in zip(histogram.bin_edges[:-1], histogram.bin_edges[1:], histogram.counts, strict=True):
            bar = top + height * (1 - float(count) / peak)
            if bar < top + height:
                self._pen.box((x_of(float(start)), bar, x_of(float(end)), top + height), fill=BLUE)
        for label, value in histogram.marks.items():
            x = x_of(value)
            self._pen.line([(x, top), (x, top + height)], AMBER, 3)
            room_right = right - x > text_width(label, _SMALL) + 12
            write = self._pen.text if room_right else self._pen.text_right
            write((x + (-3 if room_right else 3), top - int(_SMALL * 1.4)), label, _SMALL, AMBER)
        axis = top + height + 6
        self._pen.text((left, axis), number(low), _SMALL, MUTED)
        self._pen.text_right((right, axis), number(high), _SMALL, MUTED)
        self._pen.text_centered(((left + right) / 2, axis + _SMALL * 0.6), histogram.x_label, _SMALL, MUTED)
        self._y = axis + int(_SMALL * 1.5)

    def footer(self, model: ModelIdentity, node: str) -> None:
        """Name the algorithm and the node at the end of the page."""
        self._y = max(self._y + _SMALL, PAGE_WIDTH_PX - int(_SMALL * 3.6))
        self._pen.line([(_MARGIN, self._y), (self._right, self._y)], LINE, 2)
        self._y += _SMALL // 2
        self.small(f"Model {model.name} {model.version}, {model.manufacturer}, digest {model.digest[:16]}; {node}")

    def finished(self) -> RgbUint8:
        """Return the page as RGB uint8 (rows, columns, 3)."""
        height = min(_TALLEST_PX, max(PAGE_WIDTH_PX, self._y + _SMALL // 2))
        return np.array(self._canvas.crop((0, 0, PAGE_WIDTH_PX, height)), dtype=np.uint8)


def _value_of(finding: Finding, label: str) -> str:
    """Return the value of one measurement with its unit, a dash where it was not measured."""
    for measurement in finding.measurements:
        if measurement.label == label:
            return f"{number(measurement.value)} {unit_text(measurement.unit.value)}".strip()
    return "-"

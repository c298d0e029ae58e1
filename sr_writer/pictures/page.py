"""Square pages of text and tables: the tools for the summary and the "not performed" pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from dicom_node.analysis import Histogram
from dicom_node.model import Finding, Presence
from dicom_node.sr_writer.pictures.key_slice import unit_text
from dicom_node.sr_writer.pictures.pen import (
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
from dicom_node.sr_writer.text import answer_of, number, percent

#: Pages are square, as the images beside them mostly are; shown at half this size the text is still 11 pixels high.
PAGE_PX = 1024
_MARGIN, _TITLE, _BODY, _SMALL = 36, 40, 25, 22
NOTE_PX = 23
_RIGHT, _FOOT_Y = PAGE_PX - _MARGIN, PAGE_PX - int(_SMALL * 3.6)
_HISTOGRAM_PX = 170
#: Columns of a measurement table, and the width of each.
_COLUMNS, _COLUMN_PX = 3, 170
_PRESENCE_COLORS: dict[Presence | None, Rgb] = {
    Presence.PRESENT: AMBER,
    Presence.UNDETERMINED: BLUE,
    Presence.ABSENT: TEXT,
    None: TEXT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands on every page: the words that must not be missed, the title, and who made it."""

    banner: str
    color: Rgb
    title: str
    footer: str


class Pages:
    """Draws block below block and turns the page when one is full."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._canvases: list[Image.Image] = []
        self._turn()

    def finished(self) -> list[RgbUint8]:
        """Number the pages and return them as RGB uint8 (rows, columns, 3)."""
        count = len(self._canvases)
        for page, canvas in enumerate(self._canvases, start=1):
            self._draw_footer(Pen(ImageDraw.Draw(canvas)), f"page {page} of {count}" if count > 1 else "")
        return [np.array(canvas, dtype=np.uint8) for canvas in self._canvases]

    def _draw_footer(self, pen: Pen, place: str) -> None:
        top = _FOOT_Y + _SMALL // 2
        pen.line([(_MARGIN, _FOOT_Y), (_RIGHT, _FOOT_Y)], LINE, 2)
        pen.text_right((_RIGHT, top), place, _SMALL, AMBER)
        room = _RIGHT - _MARGIN - (text_width(place, _SMALL) + _MARGIN if place else 0)
        for row, text in enumerate(wrapped(self._frame.footer, _SMALL, room)[:2]):
            pen.text((_MARGIN, top + row * int(_SMALL * 1.3)), text, _SMALL, MUTED)

    def _turn(self) -> None:
        """Begin a page."""
        self._canvases.append(Image.new("RGB", (PAGE_PX, PAGE_PX), BACKGROUND))
        self._pen = Pen(ImageDraw.Draw(self._canvases[-1]))
        height = int(_TITLE * 1.7)
        self._pen.box((0, 0, PAGE_PX, height), fill=self._frame.color)
        self._pen.text_centered((PAGE_PX / 2, height / 2), self._frame.banner, int(_TITLE * 0.85), BACKGROUND)
        self._y = height + _SMALL
        self._pen.text((_MARGIN, self._y), clipped(self._frame.title, _TITLE, _RIGHT - _MARGIN), _TITLE)
        self._y += int(_TITLE * 1.35)

    def _need(self, height_px: float) -> None:
        """Turn the page unless so much of it is free; more than a page is never asked for."""
        if self._y + height_px > _FOOT_Y:
            self._turn()

    def heading(self, text: str) -> None:
        """Start a block; it stays with the first lines below it."""
        self._need(_SMALL * 2.2 + _BODY * 2.6)
        self._y += _SMALL // 2
        self._pen.text((_MARGIN, self._y), text, _SMALL, MUTED)
        self._y += int(_SMALL * 1.35)
        self._pen.line([(_MARGIN, self._y), (_RIGHT, self._y)], LINE, 2)
        self._y += _SMALL // 3

    def paragraph(self, text: str, color: Rgb = TEXT, size_px: int = _BODY) -> None:
        """Write running text."""
        for line in wrapped(text, size_px, _RIGHT - _MARGIN):
            self._need(size_px * 1.3)
            self._pen.text((_MARGIN, self._y), line, size_px, color)
            self._y += int(size_px * 1.3)

    def small(self, text: str) -> None:
        """Write a remark."""
        self.paragraph(text, MUTED, _SMALL)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Write one row per finding: name, presence, score with its bar and threshold."""
        answer_x, bar_x, score_right = 440, 660, _RIGHT
        bar_right = score_right - text_width("100.0 %", _BODY) - 16
        for finding in findings:
            self._need(_BODY * 1.45)
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
        rights = [_RIGHT - _COLUMN_PX * (len(findings) - 1 - column) for column in range(len(findings))]
        names_px = rights[0] - _COLUMN_PX - _MARGIN
        names = {m.label: wrapped(m.label, _BODY, names_px) for finding in findings for m in finding.measurements}
        self._need(min(_BODY * (1.4 + 1.3 * sum(map(len, names.values()))), PAGE_PX / 2))
        for right, finding in zip(rights, findings, strict=True):
            self._pen.text_right((right, self._y), clipped(finding.label, _BODY, _COLUMN_PX - 12), _BODY, MUTED)
        self._y += int(_BODY * 1.4)
        for label, lines in names.items():
            self._need(_BODY * 1.3 * len(lines))
            for right, finding in zip(rights, findings, strict=True):
                self._pen.text_right((right, self._y), _value_of(finding, label), _BODY)
            for line in lines:
                self._pen.text((_MARGIN, self._y), line, _BODY, MUTED)
                self._y += int(_BODY * 1.3)
        self._y += _BODY // 4

    def histogram(self, histogram: Histogram) -> None:
        """Draw the distribution with its marked positions."""
        self._need(_SMALL * 5.5 + _HISTOGRAM_PX)
        self.heading(histogram.title)
        top, height = self._y + int(_SMALL * 1.5), _HISTOGRAM_PX
        left, right = _MARGIN, _RIGHT
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


def _value_of(finding: Finding, label: str) -> str:
    """Return the value of one measurement with its unit, a dash where it was not measured."""
    for measurement in finding.measurements:
        if measurement.label == label:
            return f"{number(measurement.value)} {unit_text(measurement.unit.value)}".strip()
    return "-"

"""A distribution drawn on a page, with the positions that matter in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dicom_node.analysis import Histogram
from dicom_node.sr_writer.pictures.page import MARGIN, RIGHT, SMALL, Pages
from dicom_node.sr_writer.pictures.pen import AMBER, BLUE, MUTED, PANEL, clipped, text_width
from dicom_node.sr_writer.text import number

_HEIGHT_PX = 170
_LABEL_PX = int(SMALL * 1.25)
_TICKS = 5
#: More marks than this are lines without words.
_MOST_LABEL_ROWS = 3


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values from `low` to `high` across the page."""

    low: float
    high: float

    def x(self, value: float) -> float:
        share = (value - self.low) / max(self.high - self.low, 1e-9)
        return MARGIN + min(max(share, 0.0), 1.0) * (RIGHT - MARGIN)


@dataclass(frozen=True, slots=True)
class _Label:
    """The words of a mark: their left end, and the row they stand in, 0 being nearest the plot."""

    text: str
    left: float
    row: int


def histogram(pages: Pages, drawn: Histogram) -> None:
    """Draw the bars, the marked positions and the axis below a heading."""
    axis = _Axis(float(drawn.bin_edges[0]), float(drawn.bin_edges[-1]))
    labels = _placed(drawn.marks, axis)
    rows = 1 + max((label.row for label in labels), default=-1)
    pages.need(SMALL * 5.5 + _HEIGHT_PX + rows * _LABEL_PX)
    pages.heading(drawn.title)
    top = pages.y + rows * _LABEL_PX + 6
    pages.pen.box((MARGIN, top, RIGHT, top + _HEIGHT_PX), fill=PANEL)
    _draw_bars(pages, drawn, axis, top)
    for value in drawn.marks.values():
        pages.pen.line([(axis.x(value), top - 6), (axis.x(value), top + _HEIGHT_PX)], AMBER, 3)
    for label in labels:
        pages.pen.text((label.left, top - 6 - (label.row + 1) * _LABEL_PX), label.text, SMALL, AMBER)
    _draw_ticks(pages, axis, drawn.x_label, top + _HEIGHT_PX)
    pages.y = top + _HEIGHT_PX + int(SMALL * 1.8)


def _draw_bars(pages: Pages, drawn: Histogram, axis: _Axis, top: int) -> None:
    peak = max(float(np.max(drawn.counts)), 1e-9)
    bottom = top + _HEIGHT_PX
    for start, end, count in zip(drawn.bin_edges[:-1], drawn.bin_edges[1:], drawn.counts, strict=True):
        bar = top + _HEIGHT_PX * (1 - float(count) / peak)
        if bar < bottom:
            pages.pen.box((axis.x(float(start)), bar, axis.x(float(end)), bottom), fill=BLUE)


def _draw_ticks(pages: Pages, axis: _Axis, unit: str, bottom: int) -> None:
    y = bottom + 6
    for value in np.linspace(axis.low, axis.high, _TICKS):
        x, words = axis.x(float(value)), number(round(float(value), 2))
        pages.pen.line([(x, bottom), (x, bottom + 5)], MUTED, 2)
        if value == axis.low:
            words = f"{words} {unit}"
        left = min(max(x - text_width(words, SMALL) / 2, MARGIN), RIGHT - text_width(words, SMALL))
        pages.pen.text((left, y), words, SMALL, MUTED)


def _placed(marks: Mapping[str, float], axis: _Axis) -> list[_Label]:
    """Give each mark's words a row where they meet no other's; what finds no row has a line only."""
    placed: list[_Label] = []
    for text, value in marks.items():
        words = clipped(text, SMALL, RIGHT - MARGIN)
        width = text_width(words, SMALL)
        left = min(max(axis.x(value) - width / 2, MARGIN), RIGHT - width)
        for row in range(_MOST_LABEL_ROWS):
            if all(_apart(left, width, other) for other in placed if other.row == row):
                placed.append(_Label(words, left, row))
                break
    return placed


def _apart(left: float, width: int, other: _Label) -> bool:
    gap = SMALL // 2
    return left + width + gap <= other.left or other.left + text_width(other.text, SMALL) + gap <= left

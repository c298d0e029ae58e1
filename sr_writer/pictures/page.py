"""Square pages of text and plots: the tools that the summary and the "not analysed" pages are made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from dicom_node.analysis.answer import Histogram
from dicom_node.sr_writer.pictures.pen import (
    AMBER,
    BACKGROUND,
    BLUE,
    LINE,
    MUTED,
    PANEL,
    TEXT,
    Pen,
    Rgb,
    RgbUint8,
    clipped,
    folded,
    text_width,
    wrapped,
)
from dicom_node.sr_writer.text import number

#: Pages are square, as the images beside them mostly are; shown at half this size the text is still 11 pixels high.
PAGE_PX = 1024
MARGIN, TITLE, BODY, SMALL = 36, 40, 25, 22
NOTE_PX = 23
RIGHT, FOOT_Y = PAGE_PX - MARGIN, PAGE_PX - int(SMALL * 3.6)
#: Width of the border of a page that must not be taken for a result.
_BORDER_PX = 14
_MOST_SUBTITLE_LINES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands on every page: the words that must not be missed, the title, what was looked at, and who made it."""

    banner: str
    color: Rgb
    title: str
    subtitle: str
    footer: str
    #: The banner's colour goes all around the page.
    bordered: bool = False


class Pages:
    """Draws block below block and turns the page when one is full.

    `y` is where the next block begins and `pen` draws on the current page; whoever draws with them asks `need` first.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._canvases: list[Image.Image] = []
        self._turn()

    def finished(self) -> list[RgbUint8]:
        """Number the pages and return them as RGB uint8 (rows, columns, 3)."""
        count = len(self._canvases)
        for page, canvas in enumerate(self._canvases, start=1):
            self._draw_footer(Pen(ImageDraw.Draw(canvas)), f"page {page} of {count}" if count > 1 else "")
        return [np.asarray(canvas, dtype=np.uint8) for canvas in self._canvases]

    def _draw_footer(self, pen: Pen, place: str) -> None:
        top = FOOT_Y + SMALL // 2
        pen.line([(MARGIN, FOOT_Y), (RIGHT, FOOT_Y)], LINE, 2)
        pen.text_right((RIGHT, top), place, SMALL, AMBER)
        room = RIGHT - MARGIN - (text_width(place, SMALL) + MARGIN if place else 0)
        for row, text in enumerate(wrapped(self._frame.footer, SMALL, room, 2)):
            pen.text((MARGIN, top + row * int(SMALL * 1.3)), text, SMALL, MUTED)

    def _turn(self) -> None:
        """Begin a page."""
        self._canvases.append(Image.new("RGB", (PAGE_PX, PAGE_PX), BACKGROUND))
        self.pen = Pen(ImageDraw.Draw(self._canvases[-1]))
        height = int(TITLE * 1.7)
        if self._frame.bordered:
            self.pen.box((0, 0, PAGE_PX, PAGE_PX), fill=self._frame.color)
            self.pen.box((_BORDER_PX, height, PAGE_PX - _BORDER_PX - 1, PAGE_PX - _BORDER_PX - 1), fill=BACKGROUND)
        self.pen.box((0, 0, PAGE_PX, height), fill=self._frame.color)
        banner_px = int(TITLE * 0.85)
        banner = clipped(self._frame.banner, banner_px, RIGHT - MARGIN)
        self.pen.text_centered((PAGE_PX / 2, height / 2), banner, banner_px, BACKGROUND)
        self.y = height + SMALL
        self.pen.text((MARGIN, self.y), clipped(self._frame.title, TITLE, RIGHT - MARGIN), TITLE)
        self.y += int(TITLE * 1.3)
        for line in folded(self._frame.subtitle, SMALL, RIGHT - MARGIN, _MOST_SUBTITLE_LINES):
            self.pen.text((MARGIN, self.y), line, SMALL, MUTED)
            self.y += int(SMALL * 1.3)
        self.y += int(SMALL * 0.2)

    def need(self, height_px: float) -> bool:
        """Turn the page unless so much of it is free, and tell whether it was turned; ask for less than a page."""
        if self.y + height_px <= FOOT_Y:
            return False
        self._turn()
        return True

    def heading(self, text: str) -> None:
        """Start a block; it stays with the first lines below it."""
        self.need(SMALL * 2.2 + BODY * 2.6)
        self.y += SMALL // 2
        self.pen.text((MARGIN, self.y), clipped(text, SMALL, RIGHT - MARGIN), SMALL, MUTED)
        self.y += int(SMALL * 1.35)
        self.pen.line([(MARGIN, self.y), (RIGHT, self.y)], LINE, 2)
        self.y += SMALL // 3

    def paragraph(self, text: str, color: Rgb = TEXT, size_px: int = BODY) -> None:
        """Write running text."""
        for line in wrapped(text, size_px, RIGHT - MARGIN):
            self.need(size_px * 1.3)
            self.pen.text((MARGIN, self.y), line, size_px, color)
            self.y += int(size_px * 1.3)

    def verdict(self, text: str, color: Rgb) -> None:
        """Write the one sentence that must be seen first, beside a bar of its colour."""
        size_px = int(TITLE * 0.85)
        lines = wrapped(text, size_px, RIGHT - MARGIN - SMALL)
        height = int(len(lines) * size_px * 1.3)
        self.need(height + SMALL)
        self.y += SMALL // 3
        self.pen.box((MARGIN, self.y, MARGIN + SMALL // 3, self.y + height), fill=color)
        for line in lines:
            self.pen.text((MARGIN + SMALL, self.y), line, size_px, color)
            self.y += int(size_px * 1.3)

    def small(self, text: str) -> None:
        """Write a remark."""
        self.paragraph(text, MUTED, SMALL)


# --- a distribution --------------------------------------------------------------------------------------------------

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

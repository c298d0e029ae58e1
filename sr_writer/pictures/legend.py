"""The legend column: what each colour outlines, with a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.sr_writer.pictures.frame import Layout
from dicom_node.sr_writer.pictures.pen import MUTED, TEXT, Pen, Rgb, wrapped

_MOST_LINES = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the legend: what is outlined, in which colour, and a value in words."""

    label: str
    color: Rgb
    value: str = ""


def draw_legend(pen: Pen, layout: Layout, entries: Sequence[Entry], bottom: int) -> None:
    """List the entries from the top of the legend column down to `bottom`, and say how many had no room."""
    y = layout.text_px // 2
    for drawn, entry in enumerate(entries):
        height = _entry_px(layout, entry)
        left_over = len(entries) - drawn
        room = bottom - y - (int(layout.text_px * 1.5) if left_over > 1 else 0)
        if height > room:
            pen.text((_left(layout), y), f"and {left_over} more", _small_px(layout), MUTED)
            return
        _draw_entry(pen, layout, entry, y)
        y += height


def _draw_entry(pen: Pen, layout: Layout, entry: Entry, y: int) -> None:
    text_px, left = layout.text_px, _left(layout)
    pen.box((left, y + text_px * 0.2, left + text_px * 0.7, y + text_px * 0.9), fill=entry.color)
    for line in _label_lines(layout, entry):
        pen.text((left + text_px, y), line, text_px, TEXT)
        y += int(text_px * 1.25)
    for line in _value_lines(layout, entry):
        pen.text((left, y), line, _small_px(layout), MUTED)
        y += int(_small_px(layout) * 1.35)


def _entry_px(layout: Layout, entry: Entry) -> int:
    lines = len(_label_lines(layout, entry)) * int(layout.text_px * 1.25)
    values = len(_value_lines(layout, entry)) * int(_small_px(layout) * 1.35)
    return lines + values + layout.text_px // 2


def _label_lines(layout: Layout, entry: Entry) -> list[str]:
    return wrapped(entry.label, layout.text_px, _room(layout) - layout.text_px, _MOST_LINES)


def _value_lines(layout: Layout, entry: Entry) -> list[str]:
    return wrapped(entry.value, _small_px(layout), _room(layout), _MOST_LINES)


def _left(layout: Layout) -> int:
    return layout.legend_left + layout.text_px // 2


def _room(layout: Layout) -> int:
    return layout.canvas_width - _left(layout) - layout.text_px // 2


def _small_px(layout: Layout) -> int:
    return max(10, int(layout.text_px * 0.82))

"""Where the words of marks stand on an image: beside what they name, and never over one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom_node.sr_writer.overlays.marks import Points

#: Height of a line and width of a letter as shares of the smaller side of the image; viewers choose the real ones.
_LINE_SHARE = 0.032
_LETTER_SHARE = 0.014

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TextBox:
    """Lines of text and the box (left, top, right, bottom) they stand in, in pixels of the image."""

    text: str
    corners: Corners


def title_box(size: tuple[int, int]) -> Corners:
    """Return the box of the words that hold for the whole image (columns, rows): its upper left corner."""
    return (0.0, 0.0, size[0] * 0.5, min(size) * _LINE_SHARE * 2)


def placed(words: Sequence[tuple[str, Sequence[Points]]], title: TextBox, size: tuple[int, int]) -> list[TextBox]:
    """Put each text above its polygons, else below them, else further down where nothing stands yet."""
    taken = [title.corners]
    boxes = []
    for text, polygons in words:
        corners = _free(text, np.concatenate(polygons), taken, size)
        taken.append(corners)
        boxes.append(TextBox(text, corners))
    return boxes


def _free(text: str, points: Points, taken: Sequence[Corners], size: tuple[int, int]) -> Corners:
    columns, rows = size
    lines = text.split("\r\n")
    height = min(float(rows), max(1.0, len(lines) * _LINE_SHARE * min(size)))
    width = min(float(columns), max(1.0, max(map(len, lines)) * _LETTER_SHARE * min(size)))
    left = min(max(float(points[:, 0].min()), 0.0), columns - width)
    above, below = float(points[:, 1].min()) - height, float(points[:, 1].max())
    steps = np.arange(0.0, rows - height, height)
    tops = [top for top in (above, below, *steps) if 0 <= top <= rows - height] or [0.0]
    boxes = [(left, float(top), left + width, float(top) + height) for top in tops]
    return next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])


def _overlap(one: Corners, other: Corners) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

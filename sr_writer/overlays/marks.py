"""What is drawn on a source image as switchable graphics: outlines in its pixels, each with its words beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, Saliency
from dicom_node.core.entities import Finding, Presence
from dicom_node.sr_writer.geometry import key_slices
from dicom_node.sr_writer.overlays.outline import outlines
from dicom_node.sr_writer.source_frames import shows
from dicom_node.sr_writer.text import answer_of, ascii_text, measured, number, percent

#: Share of the strongest influence from which an area is outlined.
HOT = 0.5
#: More pieces than this are dust; the words say how many are drawn.
_MOST_PIECES = 100
_REGION_RGB = (94, 170, 255)
_HEAT_RGB = (255, 140, 60)

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One finding on one source: closed `polygons` of (column, row), 0,0 at the outer corner of the first pixel."""

    finding: Finding
    text: str
    color_rgb: tuple[int, int, int]
    polygons: tuple[Points, ...]


def marks_by_source(analysis: Analysis) -> dict[int, list[Mark]]:
    """Return what is drawn on which source, by index into `Analysis.sources`, in the order of the sources."""
    found: dict[int, list[Mark]] = {}
    slices = set(key_slices(analysis))
    for index, source in enumerate(analysis.sources):
        marks = [*_regions(analysis, source), *_segments(analysis, index, slices), *_hot_areas(analysis, source)]
        if marks:
            found[index] = marks
    return found


def _regions(analysis: Analysis, source: Dataset) -> Iterator[Mark]:
    limit = (float(source.Columns), float(source.Rows))
    for finding in analysis.findings:
        if finding.region is not None and shows(source, finding.region):
            points = np.clip(np.array(finding.region.points_xy_px, dtype=np.float64), 0.0, limit)
            yield Mark(finding=finding, text=_words(finding), color_rgb=_REGION_RGB, polygons=(points,))


def _segments(analysis: Analysis, index: int, slices: set[int]) -> Iterator[Mark]:
    if index not in slices:
        return
    findings = {finding.key: finding for finding in analysis.findings}
    for segment in analysis.segments:
        finding = findings.get(segment.finding_key)
        if finding is not None and segment.mask[index].any():
            yield _outlined(finding, segment.mask[index], segment.color_rgb, _words(finding))


def _hot_areas(analysis: Analysis, source: Dataset) -> Iterator[Mark]:
    """Outline what a finding's score rests on, unless the finding has a place of its own or is not there."""
    findings = {finding.key: finding for finding in analysis.findings}
    placed = {segment.finding_key for segment in analysis.segments}
    placed |= {finding.key for finding in analysis.findings if finding.region is not None}
    for saliency in analysis.saliencies:
        finding = findings[saliency.finding_key]
        if finding.key not in placed and finding.presence is not Presence.ABSENT and shows(source, saliency):
            hot = _hot(saliency)
            if hot.any():
                text = (
                    f"Influence on the score, not place of disease\r\n{_words(finding)}\r\n>= {number(HOT)} of maximum"
                )
                yield _outlined(finding, hot, _HEAT_RGB, text)


def _hot(saliency: Saliency) -> NDArray[np.bool_]:
    strongest = float(saliency.map.max(initial=0.0))
    return np.asarray(saliency.map >= HOT * strongest) if strongest > 0 else np.zeros(saliency.map.shape, dtype=bool)


def _outlined(finding: Finding, mask: NDArray[np.bool_], color_rgb: tuple[int, int, int], text: str) -> Mark:
    found = outlines(mask)
    if len(found) > _MOST_PIECES:
        text += f"\r\nlargest {_MOST_PIECES} of {len(found)} outlines"
    polygons = tuple(polygon.astype(np.float64) for polygon in found[:_MOST_PIECES])
    return Mark(finding=finding, text=text, color_rgb=color_rgb, polygons=polygons)


def _words(finding: Finding) -> str:
    """Return ``Pleural effusion: PRESENT, score 61 %``, or the name and the leading measurement."""
    said = [answer_of(finding)] if finding.presence is not None else []
    if finding.probability is not None:
        said.append(f"score {percent(finding.probability)}")
    said.extend(_values(finding)[:1])
    label = ascii_text(finding.label)
    return f"{label}: {', '.join(said)}" if said else label


def _values(finding: Finding) -> Sequence[str]:
    return [f"{ascii_text(one.label)} {measured(one)}" for one in finding.measurements]


# --- where the words stand -------------------------------------------------------------------------------------------

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

"""The picture of one slice: outlines of what was found with their legend, and where the slice lies in the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Segment
from dicom_node.core.entities import Finding
from dicom_node.sr_writer.geometry import direction_letters, slice_normal, slice_position_mm
from dicom_node.sr_writer.pictures.frame import (
    Caption,
    Layout,
    PictureSource,
    draw_sides,
    framed,
    layout_for,
    scale_of,
    side_letters,
    to_array,
)
from dicom_node.sr_writer.pictures.heatmap import draw_region
from dicom_node.sr_writer.pictures.pen import (
    AMBER,
    LINE,
    MUTED,
    PANEL,
    TEXT,
    Pen,
    Rgb,
    RgbUint8,
    draw_outline,
    resized_mask,
    text_width,
    wrapped,
)
from dicom_node.sr_writer.source_frames import shows
from dicom_node.sr_writer.text import answer_of, measured, percent

_LEGEND_SHARE = 0.24
#: Colours of regions, told apart by those who see no red or no green, too (after Okabe and Ito).
_REGION_COLORS: tuple[Rgb, ...] = (
    (86, 180, 233), (240, 228, 66), (230, 159, 0), (0, 200, 150), (204, 121, 167), (213, 94, 0),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlinedVolume:
    """The slices a key slice belongs to, with everything outlined in them."""

    sources: Sequence[Dataset]
    segments: Sequence[Segment]
    findings: Sequence[Finding]
    locator: Locator | None


def slice_picture(drawn_on: PictureSource, index: int, volume: OutlinedVolume) -> RgbUint8:
    """Return the framed slice `index` of the volume as RGB uint8, with outlines, names, values and position."""
    layout = layout_for(drawn_on.dataset, _LEGEND_SHARE)
    image = drawn_on.scaled(layout.image_width, layout.image_height).copy()
    here = [segment for segment in volume.segments if segment.mask[index].any()]
    for segment in here:
        mask = resized_mask(segment.mask[index], layout.image_width, layout.image_height)
        draw_outline(image, mask, segment.color_rgb, max(1, layout.text_px // 12))
    canvas, pen = framed(image, layout, _caption(drawn_on))
    draw_sides(pen, layout, drawn_on.dataset)
    regions = _regions_on(drawn_on.dataset, volume.findings)
    for finding, color in regions:
        if finding.region is not None:
            draw_region(pen, layout, finding.region, drawn_on, color)
    entries = [*_segment_entries(here, volume), *(_region_entry(finding, color) for finding, color in regions)]
    draw_legend(pen, layout, entries, layout.footer_top - locator_px(layout, volume.locator))
    if volume.locator is not None:
        draw_locator(canvas, layout, volume.locator, index)
    return to_array(canvas)


def _caption(drawn_on: PictureSource) -> Caption:
    headline = drawn_on.place[:1].upper() + drawn_on.place[1:] or "Outlines on the image"
    return Caption(headline=headline, detail=drawn_on.shown_with, model=drawn_on.model_text, marking=drawn_on.marking)


def _regions_on(source: Dataset, findings: Sequence[Finding]) -> list[tuple[Finding, Rgb]]:
    """Return the findings outlined by a region on this image, each with a colour; the colours come round again."""
    here = [finding for finding in findings if finding.region is not None and shows(source, finding.region)]
    return [(finding, _REGION_COLORS[number % len(_REGION_COLORS)]) for number, finding in enumerate(here)]


def _segment_entries(segments: Sequence[Segment], volume: OutlinedVolume) -> list[Entry]:
    """Return a name and the leading measurement each; the column has no room for all, the summary page has."""
    findings = {finding.key: finding for finding in volume.findings}
    entries = []
    for segment in segments:
        finding = findings.get(segment.finding_key)
        value = f"{finding.measurements[0].label}: {measured(finding.measurements[0])}" \
            if finding is not None and finding.measurements else ""  # fmt: skip
        entries.append(Entry(segment.label, segment.color_rgb, value))
    return entries


def _region_entry(finding: Finding, color: Rgb) -> Entry:
    score = percent(finding.probability) if finding.probability is not None else ""
    return Entry(finding.label, color, " ".join(part for part in (answer_of(finding), score) if part))


# --- the legend ------------------------------------------------------------------------------------------------------

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


# --- the locator: the masks from the side, the slice as a line -------------------------------------------------------

#: The side of the patient that lies on top, by the letter of the slice normal; the others turn the picture over.
_ON_TOP = frozenset("HAR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locator:
    """The masks seen along the image columns: RGB (slices, columns, 3), first row on top.

    `height_per_width` is its shape in the patient; `top` and `left` are the letters of these sides, empty if unknown.
    """

    projection: RgbUint8
    first_slice_on_top: bool
    height_per_width: float
    top: str
    left: str


def locator_of(sources: Sequence[Dataset], segments: Sequence[Segment]) -> Locator | None:
    """Project the masks of a volume; `None` for a single image, and for images that do not say where they lie."""
    if len(sources) < 2:
        return None
    normal = slice_normal(sources[0])
    first, last = slice_position_mm(sources[0]), slice_position_mm(sources[-1])
    if normal is None or first is None or last is None or first == last:
        return None
    towards_last = direction_letters(normal if last > first else -normal)
    towards_first = direction_letters(-normal if last > first else normal)
    on_top = towards_first[0] in _ON_TOP
    image = _projection(segments, len(sources), int(sources[0].Columns))
    return Locator(
        projection=image if on_top else image[::-1],
        first_slice_on_top=on_top,
        height_per_width=_shape(sources, abs(last - first)),
        top=towards_first if on_top else towards_last,
        left=side_letters(sources[0])[0],
    )


def locator_px(layout: Layout, locator: Locator | None) -> int:
    """Return how much of the legend column the locator takes at its foot."""
    return _locator_height(layout, locator) + int(layout.text_px * 3.2) if locator is not None else 0


def draw_locator(canvas: Image.Image, layout: Layout, locator: Locator, index: int) -> None:
    """Draw the locator at the foot of the legend column, with slice `index` marked."""
    text_px, label_px = layout.text_px, max(10, int(layout.text_px * 0.82))
    left, width, height = (
        _locator_left(layout, locator),
        _locator_width(layout, locator),
        _locator_height(layout, locator),
    )
    upper = layout.footer_top - height - text_px // 2
    pen = Pen(ImageDraw.Draw(canvas))
    picture = Image.fromarray(np.ascontiguousarray(locator.projection))
    canvas.paste(picture.resize((width, height), Image.Resampling.BILINEAR), (left, upper))
    pen.draw.rectangle((left - 1, upper - 1, left + width, upper + height), outline=LINE)
    count = locator.projection.shape[0]
    row = index if locator.first_slice_on_top else count - 1 - index
    y = upper + (row + 0.5) / count * height
    pen.line([(left - text_px // 4, y), (left + width, y)], AMBER, max(2, text_px // 10))
    pen.text((layout.legend_left + text_px // 2, upper - int(text_px * 2.6)), "position", label_px, MUTED)
    pen.text_centered((left + width / 2, upper - text_px * 0.7), locator.top, label_px)
    beside = left - text_px * 0.35 - text_width(locator.left, label_px) / 2
    pen.text_centered((beside, upper + height / 2), locator.left, label_px)


def _projection(segments: Sequence[Segment], slices: int, columns: int) -> RgbUint8:
    """Return how deep the masks are behind every point, in the colours of their segments."""
    image = np.full((slices, columns, 3), PANEL, dtype=np.uint8)
    for segment in segments:
        depth = np.add.reduce(segment.mask.view(np.uint8), axis=1, dtype=np.uint16)  # a third of count_nonzero's time
        share = (depth / max(int(depth.max()), 1))[:, :, np.newaxis]
        image = np.asarray(image * (1 - share) + np.array(segment.color_rgb) * share, dtype=np.uint8)
    return image


def _shape(sources: Sequence[Dataset], between_mm: float) -> float:
    """Return height per width of the volume seen along its columns; without a pixel size, square."""
    scale = scale_of(sources[0])
    if scale is None:
        return 1.0
    return (between_mm * len(sources) / (len(sources) - 1)) / (scale.column_mm * int(sources[0].Columns))


def _locator_left(layout: Layout, locator: Locator) -> int:
    letter = text_width(locator.left, max(10, int(layout.text_px * 0.82)))
    return layout.legend_left + layout.text_px // 2 + (letter + layout.text_px // 2 if letter else 0)


def _locator_width(layout: Layout, locator: Locator) -> int:
    return layout.canvas_width - _locator_left(layout, locator) - layout.text_px // 2


def _locator_height(layout: Layout, locator: Locator) -> int:
    """Keep the shape of the patient within reason: very flat or very long stacks would not be seen or have no room."""
    wanted = _locator_width(layout, locator) * min(max(locator.height_per_width, 0.25), 2.0)
    return int(min(wanted, layout.footer_top * 0.45))

"""The picture of one slice: outlines of what was found with their legend, and where the slice lies in the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Segment
from dicom_node.core.entities import Finding
from dicom_node.sr_writer.pictures.frame import Caption, Layout, PictureSource, draw_sides, framed, layout_for, to_array
from dicom_node.sr_writer.pictures.heatmap import draw_region
from dicom_node.sr_writer.pictures.locator import Locator, draw_locator, locator_px
from dicom_node.sr_writer.pictures.pen import MUTED, TEXT, Pen, Rgb, RgbUint8, draw_outline, resized_mask, wrapped
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

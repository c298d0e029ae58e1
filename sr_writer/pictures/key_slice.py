"""The picture of one slice with the outlines of what was found, and where the slice lies in the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.analysis import Segment
from dicom_node.model import Finding
from dicom_node.sr_writer.pictures.frame import Caption, draw_sides, framed, layout_for, to_array
from dicom_node.sr_writer.pictures.heatmap import draw_region
from dicom_node.sr_writer.pictures.legend import Entry, draw_legend
from dicom_node.sr_writer.pictures.locator import Locator, draw_locator, locator_px
from dicom_node.sr_writer.pictures.pen import Rgb, RgbUint8, draw_outline, resized_mask
from dicom_node.sr_writer.pictures.picture_source import PictureSource
from dicom_node.sr_writer.source_frames import shows
from dicom_node.sr_writer.text import answer_of, measured, percent

_LEGEND_SHARE = 0.24
#: Colours of regions, told apart by those who see no red or no green, too (after Okabe and Ito).
_REGION_COLORS: tuple[Rgb, ...] = (
    (86, 180, 233), (240, 228, 66), (230, 159, 0), (0, 200, 150), (204, 121, 167), (213, 94, 0),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """The slices a key slice belongs to, with everything outlined in them."""

    sources: Sequence[Dataset]
    segments: Sequence[Segment]
    findings: Sequence[Finding]
    locator: Locator | None


def slice_picture(drawn_on: PictureSource, index: int, volume: Volume) -> RgbUint8:
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


def _segment_entries(segments: Sequence[Segment], volume: Volume) -> list[Entry]:
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

"""The picture of one slice with the outlines of what was segmented, and where the slice lies in the volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.analysis import Segment
from dicom_node.model import Finding
from dicom_node.sr_writer.geometry import slice_position_mm
from dicom_node.sr_writer.pictures.frame import Caption, Layout, framed, layout_for, to_array
from dicom_node.sr_writer.pictures.heatmap import draw_region
from dicom_node.sr_writer.pictures.locator import Locator, draw_locator
from dicom_node.sr_writer.pictures.pen import (
    MUTED,
    Pen,
    RgbUint8,
    clipped,
    outlined,
    resized_mask,
    resized_rgb,
    wrapped,
)
from dicom_node.sr_writer.pictures.picture_source import PictureSource
from dicom_node.sr_writer.source_frames import shows
from dicom_node.sr_writer.text import number

_LEGEND_SHARE = 0.24


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
    image = resized_rgb(drawn_on.rgb, layout.image_width, layout.image_height)
    for segment in volume.segments:
        mask = resized_mask(segment.mask[index], layout.image_width, layout.image_height)
        image = outlined(image, mask, segment.color_rgb, max(1, layout.text_px // 10))
    canvas, pen = framed(image, layout, _caption(drawn_on, index, volume))
    for finding in volume.findings:
        if finding.region is not None and shows(drawn_on.dataset, finding.region):
            draw_region(pen, layout, finding.region, drawn_on)
    names_bottom = _draw_names(pen, layout, volume)
    if volume.locator is not None:
        draw_locator(canvas, layout, names_bottom, volume.locator, index)
    return to_array(canvas)


def _caption(drawn_on: PictureSource, index: int, volume: Volume) -> Caption:
    count = len(volume.sources)
    place = f"Slice {index + 1} of {count}" if count > 1 else "Outlines on the source image"
    position = slice_position_mm(drawn_on.dataset)
    if position is not None and count > 1:
        place += f", position {number(round(position, 1))} mm"
    names = ", ".join(segment.label for segment in volume.segments)
    return Caption(headline=place, detail=f"outlined: {names}", model=drawn_on.model_text, marking=drawn_on.marking)


def _draw_names(pen: Pen, layout: Layout, volume: Volume) -> int:
    """List the segments in their colours with a measurement each; return where the list ends, in pixels."""
    text_px, small_px = layout.text_px, max(10, int(layout.text_px * 0.82))
    left, y = layout.legend_left + text_px // 2, text_px // 2
    room = layout.canvas_width - left - text_px // 2
    findings = {finding.key: finding for finding in volume.findings}
    for segment in volume.segments:
        pen.box((left, y + 2, left + text_px * 0.7, y + text_px), fill=segment.color_rgb)
        pen.text((left + text_px, y), clipped(segment.label, text_px, room - text_px), text_px)
        y += int(text_px * 1.4)
        for line in wrapped(_first_value(findings.get(segment.finding_key)), small_px, room):
            pen.text((left, y), line, small_px, MUTED)
            y += int(small_px * 1.35)
        y += text_px // 2
    return y


def _first_value(finding: Finding | None) -> str:
    """Return the leading measurement; the column has no room for all, the summary page has."""
    if finding is None or not finding.measurements:
        return ""
    first = finding.measurements[0]
    return f"{first.label}: {number(first.value)} {unit_text(first.unit.value)}"


def unit_text(ucum: str) -> str:
    """Return a UCUM unit as people write it."""
    return {"[hnsf'U]": "HU", "1": ""}.get(ucum, ucum)

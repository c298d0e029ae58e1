"""The picture that shows why: a saliency map over its image, alone or in three panels, and the scale of its colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from dicom_node.analysis.answer import Saliency
from dicom_node.core.entities import Finding, Region
from dicom_node.sr_writer.pictures.frame import (
    LARGEST_SIDE_PX,
    Caption,
    Layout,
    PictureSource,
    bands_px,
    draw_sides,
    footer_px,
    framed,
    layout_for,
    to_array,
)
from dicom_node.sr_writer.pictures.pen import (
    AMBER,
    BACKGROUND,
    BLUE,
    HEAT_STARTS,
    LINE,
    MUTED,
    TEXT,
    Pen,
    Rgb,
    RgbUint8,
    blended,
    heat_colors,
    resized_map,
    wrapped,
)
from dicom_node.sr_writer.source_frames import marked_key
from dicom_node.sr_writer.text import answer_of, number, percent


def heatmap_picture(drawn_on: PictureSource, saliency: Saliency, finding: Finding) -> RgbUint8:
    """Return the framed overlay as RGB uint8; the map covers exactly the pixels it was computed on."""
    layout = layout_for(drawn_on.dataset)
    image = drawn_on.scaled(layout.image_width, layout.image_height)
    heat = resized_map(saliency.map, layout.image_width, layout.image_height)
    canvas, pen = framed(blended(image, heat), layout, heatmap_caption(drawn_on, saliency, finding))
    draw_sides(pen, layout, drawn_on.dataset)
    draw_scale(canvas, pen, layout)
    if finding.region is not None and marked_key(finding.region) == marked_key(saliency):
        draw_region(pen, layout, finding.region, drawn_on)
    return to_array(canvas)


def answer_in_words(finding: Finding) -> str:
    """Return ``PRESENT, score 83.2 % (threshold 50.0 %)`` as far as the finding knows it."""
    known = [answer_of(finding)] if finding.presence is not None else []
    if finding.probability is not None:
        limit = f" (threshold {percent(finding.threshold)})" if finding.threshold is not None else ""
        known.append(f"score {percent(finding.probability)}{limit}")
    return ", ".join(known)


def draw_region(pen: Pen, layout: Layout, region: Region, drawn_on: PictureSource, color: Rgb = BLUE) -> None:
    """Draw the outline of a region given in source pixels."""
    scale_x = layout.image_width / int(drawn_on.dataset.Columns)
    scale_y = layout.image_height / int(drawn_on.dataset.Rows)
    points = [(layout.image_left + x * scale_x, layout.image_top + y * scale_y) for x, y in region.points_xy_px]
    pen.line(points, color, max(2, layout.text_px // 8))


def heatmap_caption(drawn_on: PictureSource, saliency: Saliency, finding: Finding) -> Caption:
    """Return the words below a heat map."""
    colour = f"colour = influence on the score, not disease; by {saliency.method}"
    contrast = "contrast of the image raised by CLAHE" if drawn_on.is_enhanced else ""
    return Caption(
        headline=finding.label,
        answer=answer_in_words(finding),
        detail="; ".join(part for part in (colour, drawn_on.place, drawn_on.shown_with, contrast) if part),
        model=drawn_on.model_text,
        marking=drawn_on.marking,
    )


def draw_scale(canvas: Image.Image, pen: Pen, layout: Layout) -> None:
    """Draw the colour scale 0..1 in the legend column, and from which value on the image is covered."""
    text_px, small_px = layout.text_px, max(10, int(layout.text_px * 0.85))
    left, width = layout.legend_left + text_px // 2, max(8, text_px)
    remark = wrapped(f"overlay from {number(HEAT_STARTS)}", small_px, layout.canvas_width - left - text_px // 4)
    top, bottom = int(text_px * 2.4), layout.footer_top - int(small_px * 1.3 * len(remark)) - int(text_px * 1.2)
    pen.text((left, text_px // 2), "influence", small_px, MUTED)
    for row, line in enumerate(remark):
        pen.text((left, bottom + text_px * 0.8 + row * int(small_px * 1.3)), line, small_px, AMBER)

    ramp = np.linspace(1.0, 0.0, max(2, bottom - top), dtype=np.float32)[:, np.newaxis]
    canvas.paste(Image.fromarray(np.repeat(heat_colors(ramp), width, axis=1)), (left, top))
    pen.draw.rectangle((left - 1, top - 1, left + width, bottom), outline=LINE)
    for value in (1.0, 0.75, 0.5, 0.25, 0.0):
        y = top + (1.0 - value) * (bottom - top)
        pen.line([(left + width, y), (left + width + text_px // 3, y)], MUTED)
        pen.text((left + width + text_px // 2, y - text_px * 0.6), f"{value:g}", text_px, MUTED)
    starts = top + (1.0 - HEAT_STARTS) * (bottom - top)
    pen.line([(left - text_px // 4, starts), (left + width + text_px // 4, starts)], AMBER, max(2, text_px // 10))


# --- three panels: the image, the map, both --------------------------------------------------------------------------

_TITLES = ("image", "map", "overlay")


def panels_picture(drawn_on: PictureSource, saliency: Saliency, finding: Finding) -> RgbUint8:
    """Return the framed panels as RGB uint8, the three of them at most `LARGEST_SIDE_PX` wide."""
    first, gap_px = _layout(drawn_on)
    width, height = first.image_width, first.image_height
    image = drawn_on.scaled(width, height)
    heat = resized_map(saliency.map, width, height)
    gap = np.full((height, gap_px, 3), BACKGROUND, dtype=np.uint8)
    row = np.concatenate([image, gap, heat_colors(heat), gap, blended(image, heat)], axis=1)

    canvas, pen = framed(row, first, heatmap_caption(drawn_on, saliency, finding))
    draw_scale(canvas, pen, first)
    draw_sides(pen, first, drawn_on.dataset)
    for place, title in enumerate(_TITLES):
        panel = replace(first, image_left=first.image_left + place * (width + gap_px))
        pen.text((panel.image_left, first.text_px // 3), title, first.text_px, TEXT)
        if place and finding.region is not None and marked_key(finding.region) == marked_key(saliency):
            draw_region(pen, panel, finding.region, drawn_on)
    return to_array(canvas)


def _layout(drawn_on: PictureSource) -> tuple[Layout, int]:
    """Return where everything goes, the image being the first panel, and the pixels between two panels."""
    single = layout_for(drawn_on.dataset)
    scale = min(1.0, LARGEST_SIDE_PX / (3 * single.image_width))
    width, height = (max(1, int(length * scale)) for length in (single.image_width, single.image_height))
    text_px = max(11, min(height, 3 * width) // 28)
    left_band, top_band = bands_px(drawn_on.dataset, text_px)
    gap = text_px // 2
    left, top = gap + left_band, int(text_px * 1.8) + top_band
    legend_left = left + 3 * width + 3 * gap
    footer_top = top + height + gap
    layout = replace(
        single,
        canvas_width=legend_left + text_px * 5,
        canvas_height=footer_top + footer_px(text_px),
        image_left=left,
        image_top=top,
        image_width=width,
        image_height=height,
        legend_left=legend_left,
        footer_top=footer_top,
        text_px=text_px,
    )
    return layout, gap

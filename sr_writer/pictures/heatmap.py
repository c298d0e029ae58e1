"""The picture that shows why: the source image with a saliency map laid over it, and the scale of its colours."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dicom_node.analysis import Saliency
from dicom_node.model import Finding, Region
from dicom_node.sr_writer.pictures.frame import Caption, Layout, framed, layout_for, to_array
from dicom_node.sr_writer.pictures.pen import (
    BLUE,
    LINE,
    MUTED,
    Pen,
    RgbUint8,
    blended,
    heat_colors,
    resized_map,
    resized_rgb,
)
from dicom_node.sr_writer.pictures.picture_source import PictureSource
from dicom_node.sr_writer.source_frames import marked_key
from dicom_node.sr_writer.text import answer_of, percent


def heatmap_picture(drawn_on: PictureSource, saliency: Saliency, finding: Finding) -> RgbUint8:
    """Return the framed overlay as RGB uint8; the map covers exactly the pixels it was computed on."""
    layout = layout_for(drawn_on.dataset)
    image = resized_rgb(drawn_on.rgb, layout.image_width, layout.image_height)
    heat = resized_map(saliency.map, layout.image_width, layout.image_height)
    canvas, pen = framed(blended(image, heat), layout, heatmap_caption(drawn_on, saliency, finding))
    draw_scale(canvas, pen, layout)
    if finding.region is not None and marked_key(finding.region) == marked_key(saliency):
        draw_region(pen, layout, finding.region, drawn_on)
    return to_array(canvas)


def finding_headline(finding: Finding) -> str:
    """Return ``Pneumonia: PRESENT, score 83.2 %`` as far as the finding knows it."""
    known = [answer_of(finding)] if finding.presence is not None else []
    if finding.probability is not None:
        known.append(f"score {percent(finding.probability)}")
    return f"{finding.label}: {', '.join(known)}" if known else finding.label


def draw_region(pen: Pen, layout: Layout, region: Region, drawn_on: PictureSource) -> None:
    """Draw the outline of a region given in source pixels."""
    scale_x = layout.image_width / int(drawn_on.dataset.Columns)
    scale_y = layout.image_height / int(drawn_on.dataset.Rows)
    points = [(layout.image_left + x * scale_x, layout.image_top + y * scale_y) for x, y in region.points_xy_px]
    pen.line(points, BLUE, max(2, layout.text_px // 8))


def heatmap_caption(drawn_on: PictureSource, saliency: Saliency, finding: Finding) -> Caption:
    """Return the words below a heat map."""
    threshold = f"threshold {percent(finding.threshold)}; " if finding.threshold is not None else ""
    return Caption(
        headline=finding_headline(finding),
        detail=f"{threshold}colour = influence on the score, by {saliency.method}",
        model=drawn_on.model_text,
        marking=drawn_on.marking,
    )


def draw_scale(canvas: Image.Image, pen: Pen, layout: Layout) -> None:
    """Draw the colour scale 0..1 in the legend column."""
    text_px = layout.text_px
    top, bottom = int(text_px * 3.2), layout.footer_top - text_px * 2
    left, width = layout.legend_left + text_px // 2, max(8, text_px)
    ramp = np.linspace(1.0, 0.0, max(2, bottom - top), dtype=np.float32)[:, np.newaxis]
    canvas.paste(Image.fromarray(np.repeat(heat_colors(ramp), width, axis=1)), (left, top))
    pen.draw.rectangle((left - 1, top - 1, left + width, bottom), outline=LINE)
    for value in (1.0, 0.75, 0.5, 0.25, 0.0):
        y = top + (1.0 - value) * (bottom - top)
        pen.line([(left + width, y), (left + width + text_px // 3, y)], MUTED)
        pen.text((left + width + text_px // 2, y - text_px * 0.6), f"{value:g}", text_px, MUTED)
    pen.text((left, text_px), "influence", max(10, int(text_px * 0.85)), MUTED)

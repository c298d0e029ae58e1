"""A saliency map in three panels: the image as it is, the map alone, and the map laid over the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dicom_node.analysis import Saliency
from dicom_node.model import Finding
from dicom_node.sr_writer.pictures.frame import LARGEST_SIDE_PX, Layout, framed, layout_for, to_array
from dicom_node.sr_writer.pictures.heatmap import draw_scale, heatmap_caption
from dicom_node.sr_writer.pictures.pen import (
    BACKGROUND,
    MUTED,
    RgbUint8,
    blended,
    heat_colors,
    resized_map,
    resized_rgb,
)
from dicom_node.sr_writer.pictures.picture_source import PictureSource

_TITLES = ("image", "map", "both")


def panels_picture(drawn_on: PictureSource, saliency: Saliency, finding: Finding) -> RgbUint8:
    """Return the framed panels as RGB uint8, at most `LARGEST_SIDE_PX` wide but for the legend."""
    layout, panel_width = _layout(drawn_on)
    height = layout.image_height
    image = resized_rgb(drawn_on.rgb, panel_width, height)
    heat = resized_map(saliency.map, panel_width, height)
    gap = np.full((height, layout.image_left, 3), BACKGROUND, dtype=np.uint8)
    row = np.concatenate([image, gap, heat_colors(heat), gap, blended(image, heat)], axis=1)

    canvas, pen = framed(row, layout, heatmap_caption(drawn_on, saliency, finding))
    draw_scale(canvas, pen, layout)
    for number, title in enumerate(_TITLES):
        left = layout.image_left + number * (panel_width + layout.image_left)
        pen.text((left, layout.image_left // 2), title, layout.text_px, MUTED)
    return to_array(canvas)


def _layout(drawn_on: PictureSource) -> tuple[Layout, int]:
    """Return where everything goes, and the width of one panel in pixels."""
    single = layout_for(drawn_on.dataset)
    scale = min(1.0, LARGEST_SIDE_PX / (3 * single.image_width))
    width, height = (max(1, int(length * scale)) for length in (single.image_width, single.image_height))
    text_px = max(11, height // 24)
    gap, top = text_px // 2, text_px * 2
    legend_left = 3 * width + 4 * gap
    footer_top = top + height + gap
    layout = replace(
        single,
        canvas_width=legend_left + text_px * 5,
        canvas_height=footer_top + int(text_px * 5.2),
        image_left=gap,
        image_top=top,
        image_width=3 * width + 2 * gap,
        image_height=height,
        legend_left=legend_left,
        footer_top=footer_top,
        text_px=text_px,
    )
    return layout, width

"""A saliency map in three panels: the image as it is, the map alone, and the map laid over the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dicom_node.analysis import Saliency
from dicom_node.model import Finding
from dicom_node.sr_writer.pictures.frame import (
    LARGEST_SIDE_PX,
    Layout,
    draw_sides,
    footer_px,
    framed,
    layout_for,
    to_array,
)
from dicom_node.sr_writer.pictures.heatmap import draw_region, draw_scale, heatmap_caption
from dicom_node.sr_writer.pictures.pen import BACKGROUND, TEXT, RgbUint8, blended, heat_colors, resized_map
from dicom_node.sr_writer.pictures.picture_source import PictureSource
from dicom_node.sr_writer.pictures.surroundings import bands_px
from dicom_node.sr_writer.source_frames import marked_key

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
    for number, title in enumerate(_TITLES):
        panel = replace(first, image_left=first.image_left + number * (width + gap_px))
        pen.text((panel.image_left, first.text_px // 3), title, first.text_px, TEXT)
        if number and finding.region is not None and marked_key(finding.region) == marked_key(saliency):
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

"""The small picture that shows where in the volume a slice lies: all masks seen from the front, the slice as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.analysis import Segment
from dicom_node.sr_writer.geometry import slice_normal, slice_position_mm
from dicom_node.sr_writer.pictures.frame import Layout
from dicom_node.sr_writer.pictures.pen import AMBER, LINE, PANEL, TEXT, Pen, RgbUint8


@dataclass(frozen=True, slots=True, kw_only=True)
class Locator:
    """The masks seen along the image columns: RGB (slices, columns, 3), the end nearest the head on top."""

    projection: RgbUint8
    first_slice_on_top: bool


def locator_of(sources: Sequence[Dataset], segments: Sequence[Segment]) -> Locator | None:
    """Project the masks of a volume; `None` for a single image or without masks."""
    if len(sources) < 2 or not segments:
        return None
    slices, _, columns = segments[0].mask.shape
    image = np.full((slices, columns, 3), PANEL, dtype=np.uint8)
    for segment in segments:
        depth = np.count_nonzero(segment.mask, axis=1)
        share = (depth / max(int(depth.max()), 1))[:, :, np.newaxis]
        image = np.asarray(image * (1 - share) + np.array(segment.color_rgb) * share, dtype=np.uint8)
    on_top = _first_slice_is_nearest_the_head(sources)
    return Locator(projection=image if on_top else image[::-1], first_slice_on_top=on_top)


def draw_locator(canvas: Image.Image, layout: Layout, top: int, locator: Locator, index: int) -> None:
    """Draw the locator at the foot of the legend column, below `top`, with slice `index` marked."""
    text_px = layout.text_px
    label_px = max(10, int(text_px * 0.82))
    left = layout.legend_left + text_px // 2
    width = layout.canvas_width - left - text_px // 2
    height = min(width, layout.footer_top - top - int(text_px * 2.5))
    if height < text_px * 2:
        return
    pen = Pen(ImageDraw.Draw(canvas))
    upper = layout.footer_top - height - text_px // 2
    picture = Image.fromarray(np.ascontiguousarray(locator.projection))
    canvas.paste(picture.resize((width, height), Image.Resampling.BILINEAR), (left, upper))
    pen.draw.rectangle((left - 1, upper - 1, left + width, upper + height), outline=LINE)
    count = locator.projection.shape[0]
    row = index if locator.first_slice_on_top else count - 1 - index
    y = upper + (row + 0.5) / count * height
    pen.line([(left - text_px // 3, y), (left + width, y)], AMBER, max(2, text_px // 10))
    pen.text((left, upper - int(text_px * 1.3)), "position", label_px, TEXT)


def _first_slice_is_nearest_the_head(sources: Sequence[Dataset]) -> bool:
    normal = slice_normal(sources[0])
    first, last = slice_position_mm(sources[0]), slice_position_mm(sources[-1])
    if normal is None or first is None or last is None:
        return False
    return bool((normal[2] > 0) != (last >= first))

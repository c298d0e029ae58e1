"""The small picture that shows where in the volume a slice lies: the masks from the side, the slice as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Segment
from dicom_node.sr_writer.geometry import direction_letters, slice_normal, slice_position_mm
from dicom_node.sr_writer.pictures.frame import Layout
from dicom_node.sr_writer.pictures.pen import AMBER, LINE, MUTED, PANEL, Pen, RgbUint8, text_width
from dicom_node.sr_writer.pictures.surroundings import scale_of, side_letters

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
    return _height(layout, locator) + int(layout.text_px * 3.2) if locator is not None else 0


def draw_locator(canvas: Image.Image, layout: Layout, locator: Locator, index: int) -> None:
    """Draw the locator at the foot of the legend column, with slice `index` marked."""
    text_px, label_px = layout.text_px, max(10, int(layout.text_px * 0.82))
    left, width, height = _left(layout, locator), _width(layout, locator), _height(layout, locator)
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


def _left(layout: Layout, locator: Locator) -> int:
    letter = text_width(locator.left, max(10, int(layout.text_px * 0.82)))
    return layout.legend_left + layout.text_px // 2 + (letter + layout.text_px // 2 if letter else 0)


def _width(layout: Layout, locator: Locator) -> int:
    return layout.canvas_width - _left(layout, locator) - layout.text_px // 2


def _height(layout: Layout, locator: Locator) -> int:
    """Keep the shape of the patient within reason: very flat or very long stacks would not be seen or have no room."""
    wanted = _width(layout, locator) * min(max(locator.height_per_width, 0.25), 2.0)
    return int(min(wanted, layout.footer_top * 0.45))

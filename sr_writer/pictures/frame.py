"""A picture drawn from a source image and its frame: anatomy above, legend at the right, footer strip below.

Nothing is written over anatomy: the image is scaled to leave room for letters, ruler, legend and footer on a canvas
that has the source's rows and columns, or a multiple (a viewer then scrolls and zooms it together with the source).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.sr_writer.pictures.display import pixel_aspect
from dicom_node.sr_writer.pictures.pen import (
    AMBER,
    BACKGROUND,
    LINE,
    MUTED,
    PANEL,
    Pen,
    RgbUint8,
    clipped,
    resized_rgb,
    text_width,
    wrapped,
)
from dicom_node.sr_writer.pictures.surroundings import DrawnPlace, bands_px, draw_surroundings

LARGEST_SIDE_PX = 2048
#: A smaller source is drawn on a multiple of its size: beside the frame its own pixels would not all be shown.
SMALLEST_SIDE_PX = 768
#: Height of the footer in heights of its text: headline, model, two lines of detail.
_FOOTER_LINES = 6.3
_MOST_DETAIL_LINES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything goes on the canvas, in pixels. The image lies in the middle of the room it has."""

    canvas_width: int
    canvas_height: int
    image_left: int
    image_top: int
    image_width: int
    image_height: int
    legend_left: int
    footer_top: int
    text_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The words of the footer strip; of a long headline the end is left out, of the answer behind it nothing."""

    headline: str
    answer: str = ""
    detail: str
    model: str
    marking: str


def layout_for(source: Dataset, legend_share: float = 0.14) -> Layout:
    """Plan the canvas for a source image; `legend_share` is the part of the width given to the legend."""
    width, height = _canvas_size(int(source.Rows), int(source.Columns))
    text_px = text_px_for(width, height)
    footer_top = height - footer_px(text_px)
    legend_left = width - max(int(width * legend_share), text_px * 5)
    left_band, top_band = bands_px(source, text_px)
    room_width, room_height = legend_left - left_band, footer_top - top_band
    image_width, image_height = _fitted(
        int(source.Columns), int(source.Rows) * pixel_aspect(source), room_width, room_height
    )
    return Layout(
        canvas_width=width,
        canvas_height=height,
        image_left=left_band + (room_width - image_width) // 2,
        image_top=top_band + (room_height - image_height) // 2,
        image_width=image_width,
        image_height=image_height,
        legend_left=legend_left,
        footer_top=footer_top,
        text_px=text_px,
    )


def text_px_for(width: int, height: int) -> int:
    """Return the height of text on a canvas; narrow ones must still hold a line of it."""
    return max(11, min(width, height) // 38)


def footer_px(text_px: int) -> int:
    """Return the height of the footer strip."""
    return int(text_px * _FOOTER_LINES)


def framed(image: RgbUint8, layout: Layout, caption: Caption) -> tuple[Image.Image, Pen]:
    """Put the scaled image on its canvas with the footer; the caller draws the legend with the pen returned."""
    canvas = Image.new("RGB", (layout.canvas_width, layout.canvas_height), BACKGROUND)
    canvas.paste(Image.fromarray(image), (layout.image_left, layout.image_top))
    pen = Pen(ImageDraw.Draw(canvas))
    _draw_footer(pen, layout, caption)
    return canvas, pen


def draw_sides(pen: Pen, layout: Layout, source: Dataset) -> None:
    """Draw the letters and the ruler around the image."""
    place = DrawnPlace(
        layout.image_left, layout.image_top, layout.image_width, layout.image_height, columns=int(source.Columns)
    )
    draw_surroundings(pen, source, place, layout.text_px)


def to_array(canvas: Image.Image) -> RgbUint8:
    """Return the canvas as RGB uint8 (rows, columns, 3)."""
    return np.asarray(canvas, dtype=np.uint8)


def _canvas_size(rows: int, columns: int) -> tuple[int, int]:
    """Return (width, height): the source's own, a whole part of it above the cap, a multiple when small."""
    divisor = -(-max(columns, rows) // LARGEST_SIDE_PX)
    width, height = -(-columns // divisor), -(-rows // divisor)
    factor = -(-SMALLEST_SIDE_PX // max(1, min(width, height)))
    factor = max(1, min(factor, LARGEST_SIDE_PX // max(width, height)))
    return max(width * factor, SMALLEST_SIDE_PX // 2), max(height * factor, SMALLEST_SIDE_PX // 2)


def _fitted(width: float, height: float, room_width: int, room_height: int) -> tuple[int, int]:
    scale = min(room_width / width, room_height / height)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _draw_footer(pen: Pen, layout: Layout, caption: Caption) -> None:
    width, top, text_px = layout.canvas_width, layout.footer_top, layout.text_px
    margin = text_px // 2
    pen.box((0, top, width, layout.canvas_height), fill=PANEL)
    pen.line([(0, top), (width, top)], LINE, max(1, text_px // 12))

    headline_px = int(text_px * 1.25)
    pen.text((margin, top + margin), _first_line(caption, headline_px, width - 2 * margin), headline_px)

    second = top + margin + int(text_px * 1.7)
    marking = clipped(caption.marking, text_px, width - 2 * margin)
    room = width - text_width(marking, text_px) - 3 * margin
    pen.text_right((width - margin, second), marking, text_px, AMBER)
    if room > text_px * 2:
        pen.text((margin, second), clipped(caption.model, text_px, room), text_px)

    small_px = max(10, int(text_px * 0.85))
    third = second + int(text_px * 1.45)
    for row, line in enumerate(wrapped(caption.detail, small_px, width - 2 * margin, _MOST_DETAIL_LINES)):
        pen.text((margin, third + row * int(small_px * 1.3)), line, small_px, MUTED)


def _first_line(caption: Caption, size_px: int, width_px: int) -> str:
    answer = f": {caption.answer}" if caption.answer else ""
    headline = clipped(caption.headline, size_px, width_px - text_width(answer, size_px))
    return clipped(f"{headline}{answer}" if headline else caption.answer, size_px, width_px)


# --- what there is to know of the source -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """One source image ready to draw on.

    `pixels` are uint8 as a viewer would show them, (rows, columns) or (rows, columns, 3) of the source; `place` says
    where among the images it lies (``slice 24 of 47, position -97.3 mm``), `shown_with` its window.
    """

    dataset: Dataset
    pixels: NDArray[np.uint8]
    model_text: str
    marking: str
    place: str = ""
    shown_with: str = ""
    _scaled: dict[tuple[int, int], RgbUint8] = field(default_factory=dict, repr=False)

    def scaled(self, width_px: int, height_px: int) -> RgbUint8:
        """Return the image as RGB of this size; many pictures of one image need it in the same size."""
        size = (width_px, height_px)
        if size not in self._scaled:
            self._scaled[size] = resized_rgb(self.pixels, width_px, height_px)
        return self._scaled[size]

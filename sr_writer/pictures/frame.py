"""A picture drawn from a source image and what stands beside it, never on it: directions, ruler, legend, footer.

Nothing is written over anatomy: the image is scaled to leave room for letters, ruler, legend and footer on a canvas
that has the source's rows and columns, or a multiple (a viewer then scrolls and zooms it together with the source).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.decoding.stored import pixel_aspect
from dicom_node.sr_writer.geometry import patient_orientation
from dicom_node.sr_writer.pictures.contrast import equalised
from dicom_node.sr_writer.pictures.pen import (
    AMBER,
    BACKGROUND,
    LINE,
    MUTED,
    PANEL,
    Pen,
    RgbUint8,
    clipped,
    folded,
    gray_rgb,
    resized_rgb,
    text_width,
    wrapped,
)

LARGEST_SIDE_PX = 2048
#: A smaller source is drawn on a multiple of its size: beside the frame its own pixels would not all be shown.
SMALLEST_SIDE_PX = 768
#: Height of the footer in heights of its text: headline, model, three lines of detail.
_FOOTER_LINES = 7.4
_MOST_DETAIL_LINES = 3


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
    """The words of the footer strip; a headline that does not fit beside its answer is written small, above it."""

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

    _draw_headline(pen, caption, (margin, top + margin), width - 2 * margin, text_px)

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


def _draw_headline(pen: Pen, caption: Caption, at: tuple[int, int], width_px: int, text_px: int) -> None:
    """Write name and answer in one line; where they do not fit, small and below each other in the same height."""
    large_px, small_px = int(text_px * 1.25), max(10, int(text_px * 0.85))
    whole = ": ".join(part for part in (caption.headline, caption.answer) if part)
    if text_width(whole, large_px) <= width_px:
        pen.text(at, whole, large_px)
        return
    lines = [caption.headline, caption.answer] if caption.answer else folded(whole, small_px, width_px, 2)
    for row, line in enumerate(filter(None, lines)):
        pen.text((at[0], at[1] - text_px // 4 + row * small_px), clipped(line, small_px, width_px), small_px)


# --- what there is to know of the source -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """One source image ready to draw on.

    `pixels` are uint8 as a viewer would show them, (rows, columns) or (rows, columns, 3) of the source; `place` says
    where among the images it lies (``slice 24 of 47, position -97.3 mm``), `shown_with` its own number and its window.
    """

    dataset: Dataset
    pixels: NDArray[np.uint8]
    model_text: str
    marking: str
    place: str = ""
    shown_with: str = ""
    #: Show it with its contrast raised where `is_enhanced`.
    enhance: bool = False
    _scaled: dict[tuple[int, int], RgbUint8] = field(default_factory=dict, init=False, repr=False)

    @property
    def is_enhanced(self) -> bool:
        """Whether `scaled` raises the contrast: colours mean something, and are left as they are."""
        return self.enhance and self.pixels.ndim == 2

    def scaled(self, width_px: int, height_px: int) -> RgbUint8:
        """Return the image as RGB of this size; many pictures of one image need it in the same size."""
        size = (width_px, height_px)
        if size not in self._scaled:
            rgb = resized_rgb(self.pixels, width_px, height_px)
            self._scaled[size] = gray_rgb(equalised(rgb[:, :, 0])) if self.is_enhanced else rgb
        return self._scaled[size]


_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
#: Lengths of a ruler in cm; the longest that takes less than its share of the width is drawn.
_RULERS_CM = (20, 10, 5, 2, 1)
_RULER_SHARE = 0.3
#: Closer ticks run together.
_CLOSEST_TICKS_PX = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """How many millimetres a source pixel is wide, and words where they are not millimetres in the patient."""

    column_mm: float
    remark: str = ""


@dataclass(frozen=True, slots=True)
class DrawnPlace:
    """Where an image was drawn, in pixels of the canvas; `columns` is its width in source pixels."""

    left: int
    top: int
    width: int
    height: int
    columns: int


def side_letters(source: Dataset) -> tuple[str, str]:
    """Return which side of the patient the left and the upper edge of the image face (``R``, ``H``); empty: unknown."""
    orientation = patient_orientation(source)
    if len(orientation) != 2:
        return "", ""
    left, top = ("".join(_OPPOSITE.get(letter, " ") for letter in towards[:2]) for towards in orientation)
    return ("" if " " in left else left), ("" if " " in top else top)


def scale_of(source: Dataset) -> Scale | None:
    """Return the size of a pixel; radiographs know it at the detector only, where things look larger than they are."""
    for keyword, remark in (("PixelSpacing", ""), ("ImagerPixelSpacing", "at detector")):
        value = source.get(keyword)
        if isinstance(value, MultiValue) and len(value) == 2 and all(float(v) > 0 for v in value):
            at_detector = keyword == "PixelSpacing" and value == source.get("ImagerPixelSpacing")
            return Scale(float(value[1]), "at detector" if at_detector else remark)
    return None


def bands_px(source: Dataset, text_px: int) -> tuple[int, int]:
    """Return the room (left, top) that letters and ruler need beside the image."""
    left, top = side_letters(source)
    return (
        text_width(left, text_px) + text_px // 2 if left else 0,
        int(text_px * 1.5) if top or scale_of(source) is not None else 0,
    )


def draw_surroundings(pen: Pen, source: Dataset, place: DrawnPlace, text_px: int) -> None:
    """Write the letters beside the middle of the left and upper edge, and the ruler above the left corner."""
    left, top = side_letters(source)
    if left:
        beside = place.left - text_px // 4 - text_width(left, text_px) / 2
        pen.text_centered((beside, place.top + place.height / 2), left, text_px)
    letter_left = place.left + place.width / 2 - text_width(top, text_px) / 2
    if top:
        pen.text_centered((place.left + place.width / 2, place.top - text_px * 0.75), top, text_px)
    scale = scale_of(source)
    if scale is not None:
        _draw_ruler(pen, scale, place, text_px, letter_left - text_px / 2)


def _draw_ruler(pen: Pen, scale: Scale, place: DrawnPlace, text_px: int, right_end: float) -> None:
    """Draw the ruler with its length behind it, if there is room before `right_end`."""
    px_per_cm = 10.0 / scale.column_mm * place.width / place.columns
    fitting = (cm for cm in _RULERS_CM if cm * px_per_cm <= place.width * _RULER_SHARE)
    length_cm = next(fitting, None)
    if length_cm is None:
        return
    small_px = max(10, int(text_px * 0.8))
    right = place.left + length_cm * px_per_cm
    words = next(
        (
            label
            for label in (f"{length_cm} cm {scale.remark}".rstrip(), f"{length_cm} cm")
            if right + text_px * 0.4 + text_width(label, small_px) <= right_end
        ),
        "",
    )
    if not words:
        return
    y = place.top - text_px * 0.4
    ticks = length_cm if px_per_cm >= _CLOSEST_TICKS_PX else 1
    pen.line([(place.left, y), (right, y)], MUTED, max(1, text_px // 12))
    for tick in range(ticks + 1):
        x, outermost = place.left + tick * (right - place.left) / ticks, tick in {0, ticks}
        pen.line([(x, y), (x, y - text_px * (0.6 if outermost else 0.3))], MUTED, max(1, text_px // 16))
    pen.text((right + text_px * 0.4, place.top - text_px * 1.15), words, small_px, MUTED)

"""What stands beside an image, never on it: which way is which in the patient, and a ruler."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.sr_writer.geometry import patient_orientation
from dicom_node.sr_writer.pictures.pen import MUTED, Pen, text_width

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

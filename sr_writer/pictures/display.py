"""Stored pixels become the picture a radiologist expects: modality LUT, values of interest (by a window of the
header, by a table, or by their spread), polarity, padding, display shutter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from dicom_node.core import codes
from dicom_node.core.entities import Finding
from dicom_node.decoding.shutter import Hidden, hidden_by_shutter, shutter_gray
from dicom_node.decoding.stored import padding_mask, stored_frames, stored_values
from dicom_node.decoding.voi import Floats, Window, is_inverted, unit_values, voi_of

GrayUint8 = NDArray[np.uint8]
RgbUint8 = NDArray[np.uint8]
#: Window (center, width) in HU for lung parenchyma.
LUNG_WINDOW_HU = (-600.0, 1500.0)
#: What images are shown with, by their samples per pixel (PS3.3 C.7.6.3.1.2); of YBR the decoders make RGB.
_SHOWN = {
    1: frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}),
    3: frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}),
}
#: A window that leaves more than this share of pixels pure black or white hides the image.
_MOST_CLIPPED = 0.97


@dataclass(frozen=True, slots=True)
class Displayed:
    """An image as a viewer would show it: uint8, (rows, columns) where it is gray and (rows, columns, 3) in colour.

    `window` is the center and width it is shown with, `None` where a table or colours decide.
    """

    pixels: NDArray[np.uint8]
    window: Window | None


def displayed(source: Dataset, window: Window | None = None) -> Displayed:
    """Return the image through its own window, or through `window` (center, width in units of the modality LUT).

    Of a multi-frame image the middle frame is shown. Raises `ValueError` where nobody knows how its values are meant:
    shown anyhow, black might stand for white.
    """
    if source.get("PhotometricInterpretation") not in _SHOWN.get(source.get("SamplesPerPixel"), ()):
        raise ValueError("The image does not say, in a way that is known, how its values become light or colours.")
    stored = _middle_frame(source)
    if source.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, source)
    hidden = _hidden(source)
    if stored.ndim == 3:
        return Displayed(_shuttered(_eight_bit(stored, source), hidden, source), None)
    shown = _gray(stored, hidden, source, window)
    return Displayed(_shuttered(shown.pixels, hidden, source), shown.window)


def display_rgb(source: Dataset, window: Window | None = None) -> RgbUint8:
    """Return what `displayed` shows as RGB uint8 (rows, columns, 3)."""
    pixels = displayed(source, window).pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)


def preferred_window(source: Dataset, findings: Sequence[Finding]) -> Window | None:
    """Return the window that suits what was looked for, `None` for the one in the header."""
    looks_at_lung = any(finding.site == codes.LUNG for finding in findings)
    return LUNG_WINDOW_HU if source.get("Modality") == "CT" and looks_at_lung else None


def _middle_frame(source: Dataset) -> NDArray[Any]:
    frames = int(source.get("NumberOfFrames") or 1)
    if frames == 1:
        return stored_values(source)
    return next(stored_frames(source, [frames // 2 + 1]))


def _eight_bit(color: NDArray[Any], source: Dataset) -> RgbUint8:
    """Keep the upper 8 bits; a palette may have 16 where the pixels have 8 (PS3.3 C.7.6.3.1.5)."""
    through_palette = source.get("PhotometricInterpretation") == "PALETTE COLOR"
    bits = color.dtype.itemsize * 8 if through_palette else int(source.BitsStored)
    return np.ascontiguousarray(color >> max(0, bits - 8), dtype=np.uint8)


def _hidden(source: Dataset) -> Hidden | None:
    """Return what a display shutter hides; one that cannot be applied hides nothing."""
    try:
        return hidden_by_shutter(source)
    except ValueError:
        return None


def _shuttered(pixels: NDArray[np.uint8], hidden: Hidden | None, source: Dataset) -> NDArray[np.uint8]:
    if hidden is not None:
        pixels[hidden] = round(255 * shutter_gray(source))
    return pixels


def _gray(stored: NDArray[Any], hidden: Hidden | None, source: Dataset, window: Window | None) -> Displayed:
    """Compute the gray of every level once, and look each pixel up."""
    levels = gray_levels(stored, hidden)
    padding = padding_mask(source, levels.stored)
    values = np.asarray(apply_modality_lut(levels.stored, source), dtype=np.float32)
    seen = np.where(padding, 0, levels.counts)
    unit, shown_with = _windowed(_Levels(values, seen), source, window)
    if is_inverted(source):
        unit = 1.0 - unit
    unit[padding] = 0.0
    return Displayed(_through(levels, unit), shown_with)


def _through(levels: GrayLevels, unit: NDArray[np.float32]) -> GrayUint8:
    return np.asarray((unit * 255.0 + 0.5).astype(np.uint8)[levels.index])


@dataclass(frozen=True, slots=True)
class _Levels:
    """What the modality LUT makes of each level, and how many pixels that are no padding have it."""

    values: NDArray[np.float32]
    seen: NDArray[np.int64]


def _windowed(levels: _Levels, source: Dataset, window: Window | None) -> tuple[NDArray[np.float32], Window | None]:
    """Map modality values to 0..1; return also the window, if it is one."""
    voi = voi_of(source, window)
    if voi is not None:
        unit = voi.apply(levels.values)
        if window is not None or voi.window is None or _shows_something(unit, levels.seen):
            return unit, voi.window
    return stretch(levels.values, levels.seen)


def _shows_something(unit: NDArray[np.float32], seen: NDArray[np.int64]) -> bool:
    total = int(seen.sum())
    if total == 0:
        return True
    return bool(max(int(seen[unit <= 0].sum()), int(seen[unit >= 1].sum())) < _MOST_CLIPPED * total)


def stretch(values: Floats, seen: NDArray[np.int64]) -> tuple[Floats, Window]:
    """Stretch the middle 98 % of the pixels to the full range; `seen` counts the pixels of each value."""
    low, high = _spread(values, seen)
    width = max(high - low, 1e-6)
    return unit_values((values - low) / width), (low + width / 2, width)


def _spread(values: Floats, seen: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 1st and 99th percentile; a negative slope turns their order round."""
    below = np.cumsum(seen)
    total = int(below[-1])
    if total == 0:
        return 0.0, 1.0
    first, last = (float(values[np.searchsorted(below, share * (total - 1), side="right")]) for share in (0.01, 0.99))
    return min(first, last), max(first, last)


# --- distinct stored values: what depends on the value alone is computed once ----------------------------------------

#: Images of more possible values (32 bits, floating point) are rounded to this many, far finer than 8 bits show.
_MOST_LEVELS = 1 << 17


@dataclass(frozen=True, slots=True)
class GrayLevels:
    """`index` (rows, columns) tells which of the values `stored` a pixel has, `counts` how many pixels have each."""

    index: NDArray[Any]
    stored: NDArray[Any]
    counts: NDArray[np.int64]


def gray_levels(stored: NDArray[Any], hidden: Hidden | None = None) -> GrayLevels:
    """Return the levels of an image from its lowest to its highest value, those that no pixel has included; pixels that
    are `hidden` are not counted."""
    low, high = stored.min(), stored.max()
    if stored.dtype.kind in "iu" and int(high) - int(low) < _MOST_LEVELS:
        index = stored.astype(np.int32 if stored.dtype.itemsize <= 2 else np.int64) - int(low) if low else stored
        levels: NDArray[Any] = np.arange(int(low), int(high) + 1, dtype=np.int64)
    else:
        step = (float(high) - float(low)) / (_MOST_LEVELS - 1) or 1.0
        index = np.rint((stored.astype(np.float64) - float(low)) / step).astype(np.int32)
        levels = float(low) + step * np.arange(_MOST_LEVELS)
    counted = index.ravel() if hidden is None else index[~hidden]
    return GrayLevels(index, levels, np.bincount(counted, minlength=len(levels)))

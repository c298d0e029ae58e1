"""Stored pixels become the picture a radiologist expects: modality LUT, VOI window, polarity, padding, pixel aspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from dicom_node.core import codes
from dicom_node.core.entities import Finding
from dicom_node.sr_writer.pictures.voi import GrayLevels, Window, gray_levels, stretch, voi_of

GrayUint8 = NDArray[np.uint8]
RgbUint8 = NDArray[np.uint8]
#: Window (center, width) in HU for lung parenchyma.
LUNG_WINDOW_HU = (-600.0, 1500.0)
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

    Of a multi-frame image the middle frame is shown.
    """
    stored = _middle_frame(source)
    if source.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, source)
    if stored.ndim == 3:
        return Displayed(_eight_bit(stored, source), None)
    return _gray(stored, source, window)


def display_rgb(source: Dataset, window: Window | None = None) -> RgbUint8:
    """Return what `displayed` shows as RGB uint8 (rows, columns, 3)."""
    pixels = displayed(source, window).pixels
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)


def preferred_window(source: Dataset, findings: Sequence[Finding]) -> Window | None:
    """Return the window that suits what was looked for, `None` for the one in the header."""
    looks_at_lung = any(finding.site == codes.LUNG for finding in findings)
    return LUNG_WINDOW_HU if source.get("Modality") == "CT" and looks_at_lung else None


def pixel_aspect(source: Dataset) -> float:
    """Return the height of a pixel divided by its width; 1 when the source does not say."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        value = source.get(keyword)
        if isinstance(value, MultiValue) and len(value) == 2 and all(float(v) > 0 for v in value):
            return float(value[0]) / float(value[1])
    return 1.0


def _middle_frame(source: Dataset) -> NDArray[Any]:
    pixels = source.pixel_array
    frames = int(source.get("NumberOfFrames") or 1)
    return cast("NDArray[Any]", pixels[frames // 2] if frames > 1 else pixels)


def _eight_bit(color: NDArray[Any], source: Dataset) -> RgbUint8:
    """Keep the upper 8 bits; a palette may have 16 where the pixels have 8 (PS3.3 C.7.6.3.1.5)."""
    through_palette = source.get("PhotometricInterpretation") == "PALETTE COLOR"
    bits = color.dtype.itemsize * 8 if through_palette else int(source.BitsStored)
    return np.ascontiguousarray(color >> max(0, bits - 8), dtype=np.uint8)


def _gray(stored: NDArray[Any], source: Dataset, window: Window | None) -> Displayed:
    """Compute the gray of every level once, and look each pixel up."""
    levels = gray_levels(stored)
    padding = _padding(levels.stored, source)
    values = np.asarray(apply_modality_lut(levels.stored, source), dtype=np.float32)
    seen = np.where(padding, 0, levels.counts)
    unit, shown_with = _windowed(_Levels(values, seen), source, window)
    if source.get("PhotometricInterpretation") == "MONOCHROME1":
        unit = 1.0 - unit
    unit[padding] = 0.0
    return Displayed(_through(levels, unit), shown_with)


def _through(levels: GrayLevels, unit: NDArray[np.float32]) -> GrayUint8:
    return np.asarray((unit * 255.0 + 0.5).astype(np.uint8)[levels.index])


def _padding(stored: NDArray[Any], source: Dataset) -> NDArray[np.bool_]:
    """Tell which values are padding: one, or the range up to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    first = source.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    low, high = sorted((int(first), int(source.get("PixelPaddingRangeLimit", first))))
    return (stored >= low) & (stored <= high)


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

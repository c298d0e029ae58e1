"""Stored pixels become the picture a radiologist expects: modality LUT, VOI window, polarity, padding, pixel aspect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from dicom_node import codes
from dicom_node.model import Finding

GrayUint8 = NDArray[np.uint8]
RgbUint8 = NDArray[np.uint8]
#: Window (center, width) in HU for lung parenchyma.
LUNG_WINDOW_HU = (-600.0, 1500.0)
#: A window that leaves more than this share of pixels pure black or white hides the image.
_MOST_CLIPPED = 0.97


def display_rgb(source: Dataset, window: tuple[float, float] | None = None) -> RgbUint8:
    """Return the image as RGB uint8 (rows, columns, 3), as a viewer would show it.

    `window` (center, width in the units of the modality LUT) overrides what the header asks for. Of a multi-frame
    image the middle frame is shown.
    """
    stored = _middle_frame(source)
    if source.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, source)
    if stored.ndim == 3:
        return _eight_bit(stored, source)
    gray = _gray_uint8(stored, source, window)
    return np.repeat(gray[:, :, np.newaxis], 3, axis=2)


def preferred_window(source: Dataset, findings: Sequence[Finding]) -> tuple[float, float] | None:
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


def _gray_uint8(stored: NDArray[Any], source: Dataset, window: tuple[float, float] | None) -> GrayUint8:
    padding = _padding(stored, source)
    values = np.asarray(apply_modality_lut(stored, source), dtype=np.float32)
    unit = _windowed(values, source, padding, window)
    if source.get("PhotometricInterpretation") == "MONOCHROME1":
        unit = 1.0 - unit
    unit[padding] = 0.0
    return (unit * 255.0 + 0.5).astype(np.uint8)


def _padding(stored: NDArray[Any], source: Dataset) -> NDArray[np.bool_]:
    """Tell which pixels are padding: one value, or the range up to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    first = source.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    low, high = sorted((int(first), int(source.get("PixelPaddingRangeLimit", first))))
    return (stored >= low) & (stored <= high)


def _windowed(
    values: NDArray[np.float32], source: Dataset, padding: NDArray[np.bool_], window: tuple[float, float] | None
) -> NDArray[np.float32]:
    """Map modality values to 0..1."""
    if window is not None:
        return _linear(values, *window)
    if source.get("VOILUTSequence"):
        return _through_lut(values, source)
    asked = _header_window(source)
    if asked is not None:
        unit = _sigmoid(values, *asked) if source.get("VOILUTFunction") == "SIGMOID" else _linear(values, *asked)
        if _shows_something(unit, padding):
            return unit
    return _stretched(values, padding)


def _header_window(source: Dataset) -> tuple[float, float] | None:
    center, width = source.get("WindowCenter"), source.get("WindowWidth")
    if center in (None, "") or width in (None, ""):
        return None
    first_center = float(center[0] if isinstance(center, MultiValue) else center)
    first_width = float(width[0] if isinstance(width, MultiValue) else width)
    return (first_center, first_width) if first_width >= 1 else None


def _linear(values: NDArray[np.float32], center: float, width: float) -> NDArray[np.float32]:
    """PS3.3 C.11.2.1.2.1."""
    return _unit((values - (center - 0.5)) / max(width - 1.0, 1.0) + 0.5)


def _sigmoid(values: NDArray[np.float32], center: float, width: float) -> NDArray[np.float32]:
    """PS3.3 C.11.2.1.3.1."""
    return _unit(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))


def _through_lut(values: NDArray[np.float32], source: Dataset) -> NDArray[np.float32]:
    bits = int(source.VOILUTSequence[0].LUTDescriptor[2])
    shown = np.asarray(apply_voi(values.astype(np.int32), source), dtype=np.float32)
    return _unit(shown / float(2**bits - 1))


def _shows_something(unit: NDArray[np.float32], padding: NDArray[np.bool_]) -> bool:
    seen = unit[~padding]
    if seen.size == 0:
        return True
    return max(float((seen <= 0).mean()), float((seen >= 1).mean())) < _MOST_CLIPPED


def _stretched(values: NDArray[np.float32], padding: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Stretch the middle 98 % of the values to the full range, for sources that name no usable window."""
    seen = values[~padding]
    low, high = np.percentile(seen, (1, 99)) if seen.size else (0.0, 1.0)
    return _unit((values - low) / max(float(high - low), 1e-6))


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float32)

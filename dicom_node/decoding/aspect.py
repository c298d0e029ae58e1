"""The shape of a pixel."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


def pixel_aspect(header: Dataset) -> float:
    """Return the height of a pixel divided by its width; 1 when the source does not say."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        value = header.get(keyword)
        if isinstance(value, MultiValue) and len(value) == 2 and all(float(v) > 0 for v in value):
            return float(value[0]) / float(value[1])
    return 1.0

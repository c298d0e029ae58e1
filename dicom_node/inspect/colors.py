"""Recommended colours of segments: CIELab as DICOM stores it (PS3.3 C.10.7.1.1) to sRGB.

The white point is D65, as writers and viewers of segmentations take it, though colour profiles mean D50.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Rgb = tuple[int, int, int]
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_XYZ_TO_LINEAR_SRGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
_SIXTEEN_BITS = 65535.0


def srgb_of(stored: Sequence[int]) -> Rgb:
    """Return red, green, blue 0..255 of three unsigned 16-bit values L*, a*, b*."""
    lightness = stored[0] / _SIXTEEN_BITS * 100
    a, b = (value / _SIXTEEN_BITS * 255 - 128 for value in stored[1:3])
    middle = (lightness + 16) / 116
    scaled = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = np.where(scaled > 6 / 29, scaled**3, 3 * (6 / 29) ** 2 * (scaled - 4 / 29)) * _WHITE_D65
    linear = np.clip(_XYZ_TO_LINEAR_SRGB @ xyz, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(encoded * 255))
    return red, green, blue

"""The values of interest of a gray image become 0..1: by a window of the header, by a table, or by their spread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_voi

Floats = NDArray[np.float32]
#: Center and width, in units of the modality LUT.
Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Voi:
    """How values become 0..1; `window` is `None` where a table does it."""

    apply: Callable[[Floats], Floats]
    window: Window | None


def voi_of(source: Dataset, window: Window | None) -> Voi | None:
    """Return `window` if given, else what the header asks for first; `None` when it asks for nothing usable.

    Eight bits without a window are a picture already, and are shown as they are.
    """
    if window is not None:
        return Voi(lambda values: _linear(values, *window), window)
    if source.get("VOILUTSequence"):
        return Voi(lambda values: _through_table(values, source), None)
    asked = _header_window(source)
    if asked is None:
        return Voi(lambda values: _unit(values / 255.0), (128.0, 256.0)) if _is_eight_bit(source) else None
    function = _FUNCTIONS.get(str(source.get("VOILUTFunction") or "LINEAR"), _linear)
    return Voi(lambda values: function(values, *asked), asked)


def _is_eight_bit(source: Dataset) -> bool:
    rescaled = source.get("ModalityLUTSequence") or source.get("RescaleSlope") is not None
    return source.get("BitsStored") == 8 and source.get("PixelRepresentation") == 0 and not rescaled


def stretch(values: Floats, seen: NDArray[np.int64]) -> tuple[Floats, Window]:
    """Stretch the middle 98 % of the pixels to the full range; `seen` counts the pixels of each value."""
    low, high = _spread(values, seen)
    width = max(high - low, 1e-6)
    return _unit((values - low) / width), (low + width / 2, width)


def _spread(values: Floats, seen: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 1st and 99th percentile; a negative slope turns their order round."""
    below = np.cumsum(seen)
    total = int(below[-1])
    if total == 0:
        return 0.0, 1.0
    first, last = (float(values[np.searchsorted(below, share * (total - 1), side="right")]) for share in (0.01, 0.99))
    return min(first, last), max(first, last)


def _header_window(source: Dataset) -> Window | None:
    center, width = source.get("WindowCenter"), source.get("WindowWidth")
    if center in (None, "") or width in (None, ""):
        return None
    first_center = float(center[0] if isinstance(center, MultiValue) else center)
    first_width = float(width[0] if isinstance(width, MultiValue) else width)
    smallest = 1 if source.get("VOILUTFunction") in (None, "", "LINEAR") else 0
    return (first_center, first_width) if first_width >= smallest and first_width > 0 else None


def _linear(values: Floats, center: float, width: float) -> Floats:
    """PS3.3 C.11.2.1.2.1."""
    return _unit((values - (center - 0.5)) / max(width - 1.0, 1.0) + 0.5)


def _linear_exact(values: Floats, center: float, width: float) -> Floats:
    """PS3.3 C.11.2.1.3.2."""
    return _unit((values - center) / width + 0.5)


def _sigmoid(values: Floats, center: float, width: float) -> Floats:
    """PS3.3 C.11.2.1.3.1."""
    return _unit(1.0 / (1.0 + np.exp(-4.0 * (values - center) / width)))


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}


def _through_table(values: Floats, source: Dataset) -> Floats:
    bits = int(source.VOILUTSequence[0].LUTDescriptor[2])
    shown = np.asarray(apply_voi(values.astype(np.int32), source), dtype=np.float32)
    return _unit(shown / float(2**bits - 1))


def _unit(values: NDArray[Any]) -> Floats:
    return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float32)


# --- distinct stored values: what depends on the value alone is computed once ----------------------------------------

#: Images of more possible values (32 bits, floating point) are rounded to this many, far finer than 8 bits show.
_MOST_LEVELS = 1 << 17


@dataclass(frozen=True, slots=True)
class GrayLevels:
    """`index` (rows, columns) tells which of the values `stored` a pixel has, `counts` how many pixels have each."""

    index: NDArray[Any]
    stored: NDArray[Any]
    counts: NDArray[np.int64]


def gray_levels(stored: NDArray[Any]) -> GrayLevels:
    """Return the levels of an image from its lowest to its highest value, those that no pixel has included."""
    low, high = stored.min(), stored.max()
    if stored.dtype.kind in "iu" and int(high) - int(low) < _MOST_LEVELS:
        index = stored.astype(np.int32 if stored.dtype.itemsize <= 2 else np.int64) - int(low) if low else stored
        levels: NDArray[Any] = np.arange(int(low), int(high) + 1, dtype=np.int64)
    else:
        step = (float(high) - float(low)) / (_MOST_LEVELS - 1) or 1.0
        index = np.rint((stored.astype(np.float64) - float(low)) / step).astype(np.int32)
        levels = float(low) + step * np.arange(_MOST_LEVELS)
    return GrayLevels(index, levels, np.bincount(index.ravel(), minlength=len(levels)))

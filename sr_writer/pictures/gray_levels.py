"""The distinct stored values of an image, so that what depends on the value alone is computed once a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

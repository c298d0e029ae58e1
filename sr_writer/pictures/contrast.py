"""Contrast limited adaptive histogram equalisation (CLAHE): a gray picture in which faint structures stand out.

By K. Zuiderveld, Graphics Gems IV, 1994. It changes how an image looks, never what is measured on it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

GrayUint8 = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: Tiles along each side; each has a histogram of its own.
TILES = 8
#: A gray may be this many times as frequent in a tile as in a flat histogram: more would only amplify noise.
CLIP_LIMIT = 2.0
_GRAYS = 256


def equalised(gray: GrayUint8) -> GrayUint8:
    """Return the image (rows, columns) with its contrast raised by CLAHE; what is flat stays flat."""
    rows, columns = (_edges(length) for length in gray.shape)
    curves = np.array(
        [[_curve(gray[top:bottom, left:right]) for left, right in pairwise(columns)] for top, bottom in pairwise(rows)]
    )
    above, below, down = _between(rows, gray.shape[0])
    before, after, across = _between(columns, gray.shape[1])
    upper = _mixed(curves[above[:, None], before, gray], curves[above[:, None], after, gray], across)
    lower = _mixed(curves[below[:, None], before, gray], curves[below[:, None], after, gray], across)
    return np.asarray((_mixed(upper, lower, down[:, None]) + 0.5).astype(np.uint8))


def _edges(length: int) -> NDArray[np.intp]:
    """Return where tiles begin and end; a side of fewer pixels has fewer tiles."""
    return np.linspace(0, length, min(TILES, length) + 1).astype(np.intp)


def _curve(tile: GrayUint8) -> Floats:
    """Return what each gray becomes in the middle of a tile.

    What the histogram has above its limit is spread over all grays, and what goes above it by that is let be.
    """
    counts = np.bincount(tile.ravel(), minlength=_GRAYS).astype(np.float64)
    clipped = np.minimum(counts, CLIP_LIMIT * tile.size / _GRAYS)
    clipped += (tile.size - clipped.sum()) / _GRAYS
    return np.asarray(np.cumsum(clipped) * (_GRAYS - 1) / tile.size, dtype=np.float32)


def _between(edges: NDArray[np.intp], length: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return for each pixel the tiles whose middles lie before and after it, and how far it is from the first to the
    second; outside the outermost middles both are the same tile."""
    middles = (edges[:-1] + edges[1:] - 1) / 2
    place = np.interp(np.arange(length), middles, np.arange(len(middles)))
    first = np.floor(place).astype(np.intp)
    second = np.minimum(first + 1, len(middles) - 1)
    return first, second, (place - first).astype(np.float32)


def _mixed(first: Floats, second: Floats, share: Floats) -> Floats:
    return first + (second - first) * share

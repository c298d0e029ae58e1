"""Maps brought to the grid of the source and to the range 0..1."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]

_LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def on_source(values: FloatMap, shape: tuple[int, ...]) -> FloatMap:
    """Resample a map to `shape` by linear interpolation between cell centres; both cover the same field of view.

    One to three dimensions. Raises `ValueError` when `shape` has another number of dimensions than the map.
    """
    if values.ndim != len(shape) or values.ndim not in _LINEAR_MODES:
        raise ValueError(f"A map of {values.ndim} dimensions has no place on a source of {len(shape)}.")
    grid = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    resampled = torch.nn.functional.interpolate(grid, size=shape, mode=_LINEAR_MODES[values.ndim], align_corners=False)
    found: FloatMap = resampled[0, 0].numpy()
    return found


def unit_range(values: FloatMap) -> FloatMap:
    """Cut below 0 and divide by the maximum; all 0 when nothing is above 0. Not-a-number counts as 0."""
    positive = np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0.0, None).astype(np.float32)
    top = float(positive.max(initial=0.0))
    return positive / np.float32(top) if top > 0 else np.zeros_like(positive)

"""Maps on the grid of the source, 0..1: scaled, or drawn from a segmentation."""

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


# --- of a segmentation -----------------------------------------------------------------------------------------------


def probability_map(probabilities: NDArray[np.floating], output_index: int) -> FloatMap:
    """Return the probability of one class per voxel, 0..1, (slices, rows, columns); not rescaled.

    `probabilities` is (classes, slices, rows, columns). Raises `ValueError` for an index it lacks.
    """
    if not 0 <= output_index < probabilities.shape[0]:
        raise ValueError(f"There are {probabilities.shape[0]} classes; class {output_index} is not one of them.")
    chosen: FloatMap = np.clip(probabilities[output_index], 0.0, 1.0).astype(np.float32)
    return chosen


def uncertainty_map(probabilities: NDArray[np.floating]) -> FloatMap:
    """Return the entropy over the classes per voxel: 0 for a sure voxel, 1 for one that may be anything.

    `probabilities` is (classes, slices, rows, columns) and adds up to 1 over at least two classes.
    """
    classes = probabilities.shape[0]
    if classes < 2:
        raise ValueError("Entropy needs the probabilities of at least two classes; add the background.")
    positive = np.clip(probabilities, 1e-12, 1.0)
    entropy = -(positive * np.log(positive)).sum(axis=0) / np.log(classes)
    doubt: FloatMap = np.clip(entropy, 0.0, 1.0).astype(np.float32)
    return doubt


def strongest_slices(map_zyx: FloatMap, count: int) -> tuple[int, ...]:
    """Return the indices of the slices with the greatest sums, strongest first; slices that are all 0 never count."""
    sums = map_zyx.sum(axis=(1, 2), dtype=np.float64)
    order = np.argsort(-sums, kind="stable")[:count]
    return tuple(int(index) for index in order if sums[index] > 0)

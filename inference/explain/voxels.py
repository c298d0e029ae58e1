"""Maps of a segmentation: how sure the network is of a structure, and where it wavers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.explain.scale import FloatMap


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

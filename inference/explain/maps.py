"""Maps on the grid of the source, 0..1: scaled, drawn from a segmentation, and their hottest parts as boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.analysis.answer import Saliency
from dicom_node.core.entities import Region

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


# --- the hottest parts, each with its share of the map ---------------------------------------------------------------

#: Share of the maximum from which a pixel is hot.
HOT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class HotRegion:
    """One connected hot area of a map: its box, `share` of the map's sum inside the area, and its highest value.

    Bounds are outer pixel corners (PS3.3 C.18.6.1.2): 0 is the left edge of column 0.
    """

    left_px: int
    top_px: int
    right_px: int
    bottom_px: int
    share: float
    peak: float

    def region(self, sop_instance_uid: str) -> Region:
        """Return the box as a closed polygon on an image."""
        left, top, right, bottom = (float(x) for x in (self.left_px, self.top_px, self.right_px, self.bottom_px))
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        return Region(sop_instance_uid=sop_instance_uid, points_xy_px=corners)


def hot_regions(heat: FloatMap, *, level: float = HOT, most: int = 3) -> tuple[HotRegion, ...]:
    """Return the connected areas (rows, columns) of at least `level` times the maximum, the one with the maximum
    first and the others by share, at most `most`. Empty for a map that is all 0."""
    total, top = float(heat.sum(dtype=np.float64)), float(heat.max(initial=0.0))
    if top <= 0:
        return ()
    # Where it is cold there is nothing to label: a radiograph's map has millions of pixels, few of them hot.
    rows_hot, columns_hot = (np.flatnonzero((heat >= level * top).any(axis=axis)) for axis in (1, 0))
    above_px, left_px = int(rows_hot[0]), int(columns_hot[0])
    warm = heat[above_px : rows_hot[-1] + 1, left_px : columns_hot[-1] + 1]
    labels, _ = ndimage.label(warm >= level * top)
    boxes = ndimage.find_objects(labels)
    areas = [warm[box][labels[box] == number] for number, box in enumerate(boxes, start=1)]
    found = [
        HotRegion(
            left_px=left_px + columns.start,
            top_px=above_px + rows.start,
            right_px=left_px + columns.stop,
            bottom_px=above_px + rows.stop,
            share=float(area.sum(dtype=np.float64)) / total,
            peak=float(area.max()),
        )
        for (rows, columns), area in zip(boxes, areas, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: (one.peak < top, -one.share))[:most])


def hottest_box(saliency: Saliency) -> Region | None:
    """Return the box around the connected area of at least half the maximum that holds the maximum, or `None`."""
    hottest = hot_regions(saliency.map, most=1)
    return hottest[0].region(saliency.sop_instance_uid) if hottest else None

"""The hottest parts of a map as boxes, each with the share of the whole map that it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dicom_node.analysis import Saliency
from dicom_node.inference.explain.scale import FloatMap
from dicom_node.model import Region

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

"""Trachea and main bronchi: followed downwards slice by slice from the top of the chest until they enter the lungs.

The idea is that of Hu, Hoffman and Reinhardt (IEEE TMI 2001;20:490-498): the region of one slice seeds the next, and
a sudden growth of its area means that it has broken into the lung.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]

#: Cross-section of a trachea, generous for children and for tracheomegaly.
_TRACHEA_AREA_MM2 = (40.0, 900.0)
_MIDLINE_MM = 35.0
_LUMEN_HU = -900.0
_MIN_LENGTH_MM = 25.0
_MAX_VOLUME_ML = 150.0
_GROWTH = 2.5
#: Trachea, or both main bronchi cut aslant; more is lung.
_BRANCH_AREA_MM2 = (150.0, 900.0)
#: A branch that touches the lung grows by no more than this.
_TOUCHING_GROWTH = 1.3
#: Thresholds at which a thin wall parts the lumen from the lung.
_WALLS_HU = (-700.0, -800.0, -850.0, -900.0, -930.0)
_SEARCHED = 0.6
#: A trachea is no thinner, nor a main bronchus.
_TRACHEA_END_MM2 = 80.0
_BRONCHUS_MM2 = 25.0


@dataclass(frozen=True, slots=True)
class _Scan:
    """`hu_zyx` and the air inside the body, head last; `pixel_mm2` is the area of a pixel."""

    hu_zyx: NDArray[np.int16]
    air_zyx: Bools
    spacing_zyx_mm: tuple[float, float, float]
    midline_x_px: float

    @property
    def pixel_mm2(self) -> float:
        return self.spacing_zyx_mm[1] * self.spacing_zyx_mm[2]


def find_airways(
    hu_zyx: NDArray[np.int16], air_zyx: Bools, spacing_zyx_mm: tuple[float, float, float], midline_x_px: float
) -> Bools:
    """Return the lumen of trachea and main bronchi; empty when no trachea is found.

    Arrays are (slices from feet to head, rows front to back, columns); `air_zyx` is the air inside the body.
    """
    scan = _Scan(hu_zyx, air_zyx, spacing_zyx_mm, midline_x_px)
    slices = len(air_zyx)
    for z in range(slices - 1, int(slices * (1 - _SEARCHED)), -1):
        for seed in _seeds(scan, z):
            followed = _follow(scan, z, seed)
            if _is_airway(scan, followed):
                return followed
    return np.zeros_like(air_zyx)


def reach_the_bronchi(airways_zyx: Bools, spacing_zyx_mm: tuple[float, float, float]) -> bool:
    """Tell whether airways were followed to where the trachea divides: they have two branches in their lower half, or
    end thinner than a trachea. What goes on below is counted as lung."""
    held = np.nonzero(airways_zyx.any(axis=(1, 2)))[0]
    if not held.size:
        return False
    pixel_mm2 = spacing_zyx_mm[1] * spacing_zyx_mm[2]
    if float(airways_zyx[held[0]].sum()) * pixel_mm2 < _TRACHEA_END_MM2:
        return True
    lower = (np.bincount(ndimage.label(airways_zyx[z])[0].ravel())[1:] for z in held[: held.size // 2])
    return any(int((sizes * pixel_mm2 >= _BRONCHUS_MM2).sum()) > 1 for sizes in lower)


def _seeds(scan: _Scan, z: int) -> list[Bools]:
    """Return the round, dark, central regions of a slice, the most central first."""
    labels, _ = ndimage.label(scan.air_zyx[z])
    found: list[tuple[float, Bools]] = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[box] == label
        area_mm2 = float(region.sum()) * scan.pixel_mm2
        if not _TRACHEA_AREA_MM2[0] <= area_mm2 <= _TRACHEA_AREA_MM2[1] or not _is_round(region, scan.spacing_zyx_mm):
            continue
        off_mm = abs((box[1].start + box[1].stop - 1) / 2 - scan.midline_x_px) * scan.spacing_zyx_mm[2]
        if off_mm <= _MIDLINE_MM and float(np.median(scan.hu_zyx[z][box][region])) < _LUMEN_HU:
            found.append((off_mm, labels == label))
    return [region for _, region in sorted(found, key=lambda item: item[0])]


def _is_round(region: Bools, spacing_zyx_mm: tuple[float, float, float]) -> bool:
    height_mm, width_mm = region.shape[0] * spacing_zyx_mm[1], region.shape[1] * spacing_zyx_mm[2]
    return float(region.mean()) > 0.5 and max(height_mm, width_mm) < 2.5 * min(height_mm, width_mm)


def _follow(scan: _Scan, z: int, seed: Bools) -> Bools:
    """Grow downwards from `seed`, slice by slice; a branch that breaks into the lung ends."""
    followed = np.zeros_like(scan.air_zyx)
    followed[z] = seed
    for below in range(z - 1, -1, -1):
        region = _next(scan, below, followed[below + 1])
        if not region.any():
            break
        followed[below] = region
    return followed


def _next(scan: _Scan, z: int, above: Bools) -> Bools:
    """Return the branches of one slice that go on from the region above, none of them grown beyond an airway."""
    labels, _ = ndimage.label(scan.air_zyx[z])
    least_px, most_px = (area_mm2 / scan.pixel_mm2 for area_mm2 in _BRANCH_AREA_MM2)
    limit_px = min(max(_GROWTH * float(above.sum()), least_px), most_px)
    region = np.zeros_like(above)
    for label in np.unique(labels[above & (labels > 0)]):
        branch = labels == label
        region |= branch if branch.sum() <= limit_px else _lumen(scan.hu_zyx[z], branch, above, least_px)
    return region


def _lumen(hu_yx: NDArray[np.int16], branch: Bools, above: Bools, least_px: float) -> Bools:
    """Return what goes on from the region above of a branch that touches the lung: the wall between them, thinner than
    a pixel, is still brighter than both, so that they part at some threshold. Where they do not, what is dark and near
    is its lumen, unless it grows."""
    limit_px = max(_TOUCHING_GROWTH * float(above.sum()), least_px)
    near = ndimage.binary_dilation(above, iterations=2)
    for threshold_hu in _WALLS_HU:
        parts, _ = ndimage.label(branch & near & (hu_yx < threshold_hu))
        lumen: Bools = np.isin(parts, np.unique(parts[above & (parts > 0)]))
        if 0 < lumen.sum() <= limit_px and not _reaches(lumen, branch & ~near & (hu_yx < threshold_hu)):
            return lumen
    dark: Bools = branch & near & (hu_yx < _LUMEN_HU)
    return dark if dark.sum() <= above.sum() else np.zeros_like(above)


def _reaches(lumen: Bools, beyond: Bools) -> bool:
    return bool((ndimage.binary_dilation(lumen) & beyond).any())


def _is_airway(scan: _Scan, followed: Bools) -> bool:
    length_mm = float(followed.any(axis=(1, 2)).sum()) * scan.spacing_zyx_mm[0]
    volume_ml = float(followed.sum()) * scan.pixel_mm2 * scan.spacing_zyx_mm[0] / 1000.0
    return length_mm >= _MIN_LENGTH_MM and volume_ml <= _MAX_VOLUME_ML

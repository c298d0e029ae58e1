"""A geometric chest: ellipsoids, cylinders and spheres, in patient coordinates (LPS, millimetres).

Left and right differ on purpose (a cardiac notch, unequal emphysema, a stomach bubble), so that a flip shows.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Point = tuple[float, float, float]

AIR_HU = -1000.0
LUNG_HU = -860.0
EMPHYSEMA_HU = -990.0
SOFT_TISSUE_HU = 40.0
BONE_HU = 350.0
TABLE_HU = -150.0

_HILUM_Z_MM = 0.0
_CARINA_Z_MM = 32.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Patient coordinates of voxel centres along each array axis: slices (z), rows (y), columns (x), in mm."""

    z_mm: Floats
    y_mm: Floats
    x_mm: Floats

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.z_mm), len(self.y_mm), len(self.x_mm)

    def ellipsoid(self, centre_xyz_mm: Point, axes_xyz_mm: Point) -> Bools:
        """Tell which voxels lie inside an ellipsoid; an infinite half axis makes a cylinder."""
        low, high = np.subtract(centre_xyz_mm, axes_xyz_mm), np.add(centre_xyz_mm, axes_xyz_mm)
        box, (x, y, z) = self._box(low, high)
        (cx, cy, cz), (ax, ay, az) = centre_xyz_mm, axes_xyz_mm
        inside = np.zeros(self.shape, bool)
        inside[box] = ((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + ((z - cz) / az) ** 2 <= 1.0
        return inside

    def tube(self, start_xyz_mm: Point, end_xyz_mm: Point, radius_mm: float) -> Bools:
        """Tell which voxels lie within `radius_mm` of a straight line between two points."""
        low, high = np.minimum(start_xyz_mm, end_xyz_mm) - radius_mm, np.maximum(start_xyz_mm, end_xyz_mm) + radius_mm
        box, coordinates = self._box(low, high)
        along = np.subtract(end_xyz_mm, start_xyz_mm)
        offsets = [at - start for at, start in zip(coordinates, start_xyz_mm, strict=True)]
        reach = np.clip(sum(o * a for o, a in zip(offsets, along, strict=True)) / float(along @ along), 0.0, 1.0)
        inside = np.zeros(self.shape, bool)
        inside[box] = sum((o - reach * a) ** 2 for o, a in zip(offsets, along, strict=True)) <= radius_mm**2
        return inside

    def slab(self, low_xyz_mm: Point, high_xyz_mm: Point) -> Bools:
        """Tell which voxels lie in a box."""
        inside = np.zeros(self.shape, bool)
        inside[self._box(np.array(low_xyz_mm), np.array(high_xyz_mm))[0]] = True
        return inside

    def _box(self, low_xyz_mm: Floats, high_xyz_mm: Floats) -> tuple[tuple[Any, ...], tuple[Floats, Floats, Floats]]:
        """Return the indices of a bounding box and the coordinates (x, y, z) in it, ready to broadcast."""
        axes = zip((self.z_mm, self.y_mm, self.x_mm), low_xyz_mm[::-1], high_xyz_mm[::-1], strict=True)
        inside = [np.nonzero((at >= low) & (at <= high))[0] for at, low, high in axes]
        z, y, x = np.ix_(self.z_mm[inside[0]], self.y_mm[inside[1]], self.x_mm[inside[2]])
        return np.ix_(*inside), (x, y, z)


@dataclass(frozen=True, slots=True)
class Chest:
    """The noiseless chest: `hu_zyx` and which voxels belong to the left and the right lung, vessels included."""

    hu_zyx: Floats
    left_lung_zyx: Bools
    right_lung_zyx: Bools


def chest(grid: Grid, *, emphysema: bool = True) -> Chest:
    """Build the chest on a grid: body, bones, lungs with vessels and emphysema, airways, stomach bubble, table."""
    hu_zyx = np.full(grid.shape, AIR_HU, np.float32)
    left, right = _lungs(grid)
    _paint(hu_zyx, grid.ellipsoid((0, 0, 0), (168, 118, np.inf)), SOFT_TISSUE_HU)
    _paint(hu_zyx, grid.ellipsoid((0, 78, 0), (17, 15, np.inf)), BONE_HU)
    _paint(hu_zyx, grid.slab((-165, 130, -np.inf), (165, 138, np.inf)), TABLE_HU)
    _paint(hu_zyx, left | right, LUNG_HU)
    if emphysema:
        _paint(hu_zyx, _emphysema(grid, side=1.0, radius_mm=19.0) & left, EMPHYSEMA_HU)
        _paint(hu_zyx, _emphysema(grid, side=-1.0, radius_mm=28.0) & right, EMPHYSEMA_HU)
    _paint(hu_zyx, _vessels(grid), SOFT_TISSUE_HU)
    _paint(hu_zyx, grid.ellipsoid((62, -30, -142), (24, 22, 11)), AIR_HU)
    walls, lumen = _airways(grid, 2.5), _airways(grid, 0.0)
    _paint(hu_zyx, walls, SOFT_TISSUE_HU)
    _paint(hu_zyx, lumen, AIR_HU)
    return Chest(hu_zyx, left & ~walls, right & ~walls)


def _paint(hu_zyx: Floats, where: Bools, hu: float) -> None:
    hu_zyx[where] = hu


def _lungs(grid: Grid) -> tuple[Bools, Bools]:
    """Return (left, right); patient left is +x. The heart takes its notch from the left lung."""
    heart = grid.ellipsoid((32, -38, -45), (58, 50, 62))
    left = grid.ellipsoid((85, 2, 0), (58, 82, 120)) & ~heart
    right = grid.ellipsoid((-85, 2, 4), (60, 84, 126)) & ~heart
    return left, right


def _emphysema(grid: Grid, *, side: float, radius_mm: float) -> Bools:
    """Return a few spheres in the upper half of the lung on one side."""
    centres = ((80.0, -20.0, 60.0), (95.0, 30.0, 50.0), (75.0, 15.0, 85.0), (100.0, -10.0, 20.0))
    return _any(grid.ellipsoid((side * x, y, z), (radius_mm, radius_mm, radius_mm)) for x, y, z in centres)


def _vessels(grid: Grid) -> Bools:
    """Return thin tubes from each hilum outwards, within the lungs."""
    ends = ((85.0, -40.0, 60.0), (90.0, 45.0, 40.0), (95.0, 40.0, -60.0), (110.0, 5.0, -20.0))
    return _any(
        grid.tube((side * 58.0, 8.0, _HILUM_Z_MM), (side * x, y, z), 2.6) for x, y, z in ends for side in (-1, 1)
    )


def _airways(grid: Grid, wall_mm: float) -> Bools:
    """Return trachea and main bronchi, their lumen widened by `wall_mm`; the trachea opens at the top of the scan."""
    trachea = grid.tube((0, 22, _CARINA_Z_MM), (0, 16, 400), 9.0 + wall_mm)
    left = grid.tube((0, 22, _CARINA_Z_MM), (46, 14, _HILUM_Z_MM + 6), 6.0 + wall_mm)
    right = grid.tube((0, 22, _CARINA_Z_MM), (-44, 14, _HILUM_Z_MM), 7.0 + wall_mm)
    return trachea | left | right


def _any(masks: Iterable[Bools]) -> Bools:
    return functools.reduce(operator.or_, masks)

"""A geometric chest: ellipsoids, cylinders and spheres, in patient coordinates (LPS, millimetres).

Left and right differ on purpose (a cardiac notch, unequal emphysema, a stomach bubble), so that a flip shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

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
    """Patient coordinates of voxel centres; each array broadcasts to (slices, rows, columns)."""

    z_mm: Floats
    y_mm: Floats
    x_mm: Floats

    def ellipsoid(self, centre_xyz_mm: tuple[float, float, float], axes_xyz_mm: tuple[float, float, float]) -> Bools:
        """Tell which voxels lie inside an ellipsoid; an infinite half axis makes a cylinder."""
        (cx, cy, cz), (ax, ay, az) = centre_xyz_mm, axes_xyz_mm
        inside: Bools = (
            ((self.x_mm - cx) / ax) ** 2 + ((self.y_mm - cy) / ay) ** 2 + ((self.z_mm - cz) / az) ** 2
        ) <= 1.0
        return inside

    def tube(
        self, start_xyz_mm: tuple[float, float, float], end_xyz_mm: tuple[float, float, float], radius_mm: float
    ) -> Bools:
        """Tell which voxels lie within `radius_mm` of a straight line between two points."""
        along = np.subtract(end_xyz_mm, start_xyz_mm)
        offsets = [self.x_mm - start_xyz_mm[0], self.y_mm - start_xyz_mm[1], self.z_mm - start_xyz_mm[2]]
        reach = sum(o * a for o, a in zip(offsets, along, strict=True)) / float(along @ along)
        reach = np.clip(reach, 0.0, 1.0)
        squared = sum((o - reach * a) ** 2 for o, a in zip(offsets, along, strict=True))
        near: Bools = np.asarray(squared <= radius_mm**2)
        return near


@dataclass(frozen=True, slots=True)
class Chest:
    """The noiseless chest: `hu_zyx` and which voxels belong to the left and the right lung, vessels included."""

    hu_zyx: Floats
    left_lung_zyx: Bools
    right_lung_zyx: Bools


def chest(grid: Grid, *, emphysema: bool = True) -> Chest:
    """Build the chest on a grid: body, bones, lungs with vessels and emphysema, airways, stomach bubble, table."""
    shape = np.broadcast_shapes(grid.z_mm.shape, grid.y_mm.shape, grid.x_mm.shape)
    hu_zyx = np.full(shape, AIR_HU, np.float32)
    left, right = _lungs(grid)
    _paint(hu_zyx, grid.ellipsoid((0, 0, 0), (168, 118, np.inf)), SOFT_TISSUE_HU)
    _paint(hu_zyx, grid.ellipsoid((0, 78, 0), (17, 15, np.inf)), BONE_HU)
    _paint(hu_zyx, (np.abs(grid.y_mm - 134) < 4) & (np.abs(grid.x_mm) < 165) & (grid.z_mm == grid.z_mm), TABLE_HU)
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
    hu_zyx[np.broadcast_to(where, hu_zyx.shape)] = hu


def _lungs(grid: Grid) -> tuple[Bools, Bools]:
    """Return (left, right); patient left is +x. The heart takes its notch from the left lung."""
    heart = grid.ellipsoid((32, -38, -45), (58, 50, 62))
    left = grid.ellipsoid((85, 2, 0), (58, 82, 120)) & ~heart
    right = grid.ellipsoid((-85, 2, 4), (60, 84, 126)) & ~heart
    return left, right


def _emphysema(grid: Grid, *, side: float, radius_mm: float) -> Bools:
    """Return a few spheres in the upper half of the lung on one side."""
    centres = ((80.0, -20.0, 60.0), (95.0, 30.0, 50.0), (75.0, 15.0, 85.0), (100.0, -10.0, 20.0))
    spheres = [grid.ellipsoid((side * x, y, z), (radius_mm,) * 3) for x, y, z in centres]
    return np.logical_or.reduce(spheres)


def _vessels(grid: Grid) -> Bools:
    """Return thin tubes from each hilum outwards, within the lungs."""
    ends = ((85.0, -40.0, 60.0), (90.0, 45.0, 40.0), (95.0, 40.0, -60.0), (110.0, 5.0, -20.0))
    tubes = [grid.tube((side * 58.0, 8.0, _HILUM_Z_MM), (side * x, y, z), 2.6) for x, y, z in ends for side in (-1, 1)]
    return np.logical_or.reduce(tubes)


def _airways(grid: Grid, wall_mm: float) -> Bools:
    """Return trachea and main bronchi, their lumen widened by `wall_mm`; the trachea opens at the top of the scan."""
    trachea = grid.tube((0, 22, _CARINA_Z_MM), (0, 16, 400), 9.0 + wall_mm)
    left = grid.tube((0, 22, _CARINA_Z_MM), (46, 14, _HILUM_Z_MM + 6), 6.0 + wall_mm)
    right = grid.tube((0, 22, _CARINA_Z_MM), (-44, 14, _HILUM_Z_MM), 7.0 + wall_mm)
    return trachea | left | right

"""Chests that differ from the demonstration phantom in one thing: contrast, effusion, one lung, another posture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.demo.phantoms import AIR_HU, BONE_HU, SOFT_TISSUE_HU, TABLE_HU, Chest, Grid, chest
from tests.support.studies import volumes

Bools = NDArray[np.bool_]
FIELD_MM = 360.0
STOMACH_HU, BULLA_HU, FOAM_HU = -965.0, -995.0, -900.0


@dataclass(frozen=True)
class Scan:
    """How a chest is scanned: slices from feet to head of the phantom, their distance, and the field of view."""

    spacing_mm: float = 5.0
    rows: int = 96
    low_z_mm: float = -160.0
    high_z_mm: float = 160.0
    field_mm: float = FIELD_MM

    @property
    def grid(self) -> Grid:
        z_mm = np.arange(self.low_z_mm, self.high_z_mm, self.spacing_mm, dtype=np.float32) + self.spacing_mm / 2
        in_plane_mm = ((np.arange(self.rows) - (self.rows - 1) / 2) * self.pixel_mm).astype(np.float32)
        return Grid(z_mm, in_plane_mm, in_plane_mm)

    @property
    def pixel_mm(self) -> float:
        return self.field_mm / self.rows

    @property
    def voxel_ml(self) -> float:
        return self.pixel_mm**2 * self.spacing_mm / 1000.0

    @property
    def affine(self) -> NDArray[np.float64]:
        grid = self.grid
        spacing = (self.pixel_mm, self.pixel_mm, self.spacing_mm)
        return volumes.affine(spacing, (float(grid.x_mm[0]), float(grid.y_mm[0]), float(grid.z_mm[0])))


def scanned(change: Callable[[Chest, Grid], None] | None = None, scan: Scan | None = None) -> tuple[Chest, Scan]:
    """Return the chest after `change`, which paints into it, with noise of 15 HU, and how it was scanned."""
    scan = scan or Scan()
    body = chest(scan.grid)
    if change is not None:
        change(body, scan.grid)
    noise = np.random.default_rng(7).normal(0.0, 15.0, body.hu_zyx.shape)
    body.hu_zyx[...] = np.clip(np.rint(body.hu_zyx + noise), -1024, 3000)
    return body, scan


def series(body: Chest, scan: Scan, **changes: Any) -> list[Dataset]:
    """Return the slices of a scanned chest, each a CT image."""
    changes = {"PatientAge": "055Y", "SliceThickness": scan.spacing_mm} | changes
    return volumes.classic(body.hu_zyx.astype(np.int16), scan.affine, name="chest", **changes)


# --- what may differ ---


def contrast(body: Chest, grid: Grid) -> None:
    """Heart, vessels and a great vessel at 320 HU."""
    dense = grid.ellipsoid((32, -38, -45), (50, 42, 54)) | grid.tube((10, 40, -150), (10, 40, 150), 13.0)
    body.hu_zyx[dense & (body.hu_zyx > 0) & (body.hu_zyx < 200)] = 320.0


def effusion(body: Chest, grid: Grid) -> None:
    """Fluid behind and below in the right pleural space, up to the half of the lung."""
    fluid = body.right_lung_zyx & (grid.y_mm[None, :, None] > -10) & (grid.z_mm[:, None, None] < 20)
    body.hu_zyx[fluid] = 12.0
    body.right_lung_zyx[fluid] = False


def one_lung(body: Chest, grid: Grid) -> None:
    """No air on the right."""
    body.hu_zyx[body.right_lung_zyx & (body.hu_zyx < 0)] = SOFT_TISSUE_HU
    body.right_lung_zyx[...] = False


def prone(body: Chest, grid: Grid) -> None:
    """The table in front instead of behind; the patient is the same."""
    body.hu_zyx[grid.slab((-165, 128, -np.inf), (165, 140, np.inf))] = AIR_HU
    body.hu_zyx[grid.slab((-165, -138, -np.inf), (165, -130, np.inf))] = TABLE_HU


def diaphragm(body: Chest, grid: Grid) -> None:
    """The dome of the liver in the right lung, and the stomach full of gas under the left one."""
    dome = grid.ellipsoid((-85, 2, -125), (45, 60, 75)) & body.right_lung_zyx
    body.hu_zyx[dome] = SOFT_TISSUE_HU
    body.right_lung_zyx[dome] = False
    below = grid.ellipsoid((85, 2, -150), (58, 80, 60)) & grid.ellipsoid((0, 0, 0), (160, 110, np.inf))
    body.hu_zyx[below] = SOFT_TISSUE_HU
    body.left_lung_zyx[below] = False
    body.hu_zyx[grid.ellipsoid((85, -10, -140), (44, 50, 46))] = STOMACH_HU
    # No voxel of the diaphragm is seen here.
    body.hu_zyx[grid.tube((85, -10, -100), (85, -10, -84), 8.0)] = STOMACH_HU


def bullae(body: Chest, grid: Grid) -> None:
    """A large bulla at the left apex and one in the right lower lobe, behind walls thinner than a voxel."""
    for place, lung in (((85, 0, 85), body.left_lung_zyx), ((-85, 10, -70), body.right_lung_zyx)):
        body.hu_zyx[grid.ellipsoid(place, (34, 34, 34)) & lung & (body.hu_zyx < 0)] = BULLA_HU


def pneumothorax(body: Chest, grid: Grid) -> None:
    """Gas in front of the left lung, which has fallen back."""
    free = body.left_lung_zyx & (grid.y_mm[None, :, None] < -30)
    body.hu_zyx[free] = AIR_HU


def arms_down(body: Chest, grid: Grid) -> None:
    """Arms beside the trunk, foam and blanket between them and it, out to the sides of the images."""
    beside = np.abs(grid.x_mm)[None, None, :] > 160
    body.hu_zyx[grid.slab((-180, -60, -np.inf), (180, 15, np.inf)) & beside & (body.hu_zyx == AIR_HU)] = FOAM_HU
    body.hu_zyx[grid.slab((-180, -70, -np.inf), (180, -60, np.inf)) & beside] = TABLE_HU
    for side in (-1, 1):
        body.hu_zyx[grid.ellipsoid((side * 178, 40, 0), (14, 30, np.inf))] = SOFT_TISSUE_HU


def thin_wall_on_a_table(body: Chest, grid: Grid) -> None:
    """A left chest wall of 9 mm that lies on the shell of a table filled with foam."""
    inside = grid.ellipsoid((0, 0, 0), (159, 109, np.inf))
    lung = grid.ellipsoid((85, 2, 0), (58, 113, 120)) & ~grid.ellipsoid((32, -38, -45), (58, 50, 62)) & inside
    body.hu_zyx[lung & (body.hu_zyx < 100)] = -850.0
    body.left_lung_zyx[...] = lung
    body.hu_zyx[grid.slab((-165, 130, -np.inf), (165, 138, np.inf))] = AIR_HU
    free = body.hu_zyx == AIR_HU
    body.hu_zyx[grid.slab((-170, 106, -np.inf), (170, 142, np.inf)) & free] = 20.0
    body.hu_zyx[grid.slab((-164, 112, -np.inf), (164, 136, np.inf)) & free] = FOAM_HU


def head(body: Chest, grid: Grid) -> None:
    """A skull with brain and sinuses instead of a chest."""
    body.hu_zyx[...] = AIR_HU
    skull = grid.ellipsoid((0, 0, 0), (75, 95, 100))
    brain = grid.ellipsoid((0, 0, 0), (68, 88, 93))
    sinuses = grid.ellipsoid((0, -60, -60), (18, 14, 14)) | grid.ellipsoid((30, -55, -65), (12, 12, 14))
    body.hu_zyx[skull], body.hu_zyx[brain], body.hu_zyx[sinuses & brain] = BONE_HU, SOFT_TISSUE_HU, AIR_HU
    body.left_lung_zyx[...] = body.right_lung_zyx[...] = False


def abdomen(body: Chest, grid: Grid) -> None:
    """Soft tissue with gas in the bowel."""
    body.hu_zyx[body.left_lung_zyx | body.right_lung_zyx] = SOFT_TISSUE_HU
    body.hu_zyx[grid.ellipsoid((0, 0, 0), (120, 100, np.inf)) & (body.hu_zyx < -50)] = SOFT_TISSUE_HU
    colon = grid.tube((100, 0, -120), (100, 0, 100), 24.0) | grid.tube((-100, 0, -120), (-100, 0, 100), 26.0)
    body.hu_zyx[colon] = AIR_HU
    body.left_lung_zyx[...] = body.right_lung_zyx[...] = False

"""A CT series of an asymmetric body, sampled on any grid: no flip, turn or shift leaves it as it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.core.uids import derived_uid
from tests.support.studies.data_factories import small_chest_ct

Floats = NDArray[np.float64]

BACKGROUND_HU, BLOCK_HU, BALL_HU = -200, 100, 300
BALL_CENTRE_MM, BALL_RADIUS_MM = (18.0, -14.0, 9.0), 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """How a series lies in the patient: directions of rows and columns, sizes and spacings; slices along the normal,
    or against it. `shape_zyx` is (slices, rows, columns)."""

    row_direction: tuple[float, float, float] = (1, 0, 0)
    column_direction: tuple[float, float, float] = (0, 1, 0)
    shape_zyx: tuple[int, int, int] = (24, 40, 44)
    spacing_zyx_mm: tuple[float, float, float] = (2.5, 2.0, 1.8)
    backwards: bool = False

    @property
    def affine_lps_mm(self) -> Floats:
        """Takes (column, row, slice, 1) to patient coordinates; the middle voxel lies at the origin."""
        row, column = (
            np.array(one, float) / np.linalg.norm(one) for one in (self.row_direction, self.column_direction)
        )
        normal = np.cross(row, column) * (-1 if self.backwards else 1)
        dz, dy, dx = self.spacing_zyx_mm
        affine = np.eye(4)
        affine[:3, :3] = np.stack([row * dx, column * dy, normal * dz], axis=1)
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.shape_zyx[::-1]) - 1) / 2)
        return affine


OBLIQUE = Placed(row_direction=(0.936, 0.283, 0.21), column_direction=(-0.283, 0.9589, -0.0309))
PLACES = {
    "axial": Placed(),
    "axial, rows reversed": Placed(column_direction=(0, -1, 0)),
    "axial, columns reversed": Placed(row_direction=(-1, 0, 0)),
    "axial, stored head first": Placed(backwards=True),
    "sagittal": Placed(row_direction=(0, 1, 0), column_direction=(0, 0, -1), shape_zyx=(40, 36, 44)),
    "coronal": Placed(row_direction=(1, 0, 0), column_direction=(0, 0, -1), shape_zyx=(36, 40, 44)),
    "oblique": OBLIQUE,
}


def tissue(points_mm: Floats) -> NDArray[np.uint8]:
    """Return 0, 1 (block with a notch) or 2 (ball) for points (…, 3) in patient coordinates."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    block = (x > -22) & (x < 8) & (y > -16) & (y < 22) & (z > -14) & (z < 16)
    notch = (x > -6) & (y > 2) & (z > 0)
    ball = np.linalg.norm(points_mm - np.array(BALL_CENTRE_MM), axis=-1) < BALL_RADIUS_MM
    return np.where(ball, 2, np.where(block & ~notch, 1, 0)).astype(np.uint8)


def tissues_of(place: Placed) -> NDArray[np.uint8]:
    """Return the true tissue (slices, rows, columns)."""
    slices, rows, columns = place.shape_zyx
    index, row, column = np.meshgrid(np.arange(slices), np.arange(rows), np.arange(columns), indexing="ij")
    grid = np.stack([column, row, index, np.ones_like(row)], axis=-1).astype(float)
    return tissue((grid @ place.affine_lps_mm.T)[..., :3])


def hounsfield_of(place: Placed) -> NDArray[np.int64]:
    """Return the values (slices, rows, columns) that the slices of the series hold."""
    return np.array([BACKGROUND_HU, BLOCK_HU, BALL_HU])[tissues_of(place)]


def series_of(place: Placed) -> tuple[list[Dataset], dict[str, NDArray[np.uint8]]]:
    """Return the slices, in an order that tells nothing, and the true tissue (rows, columns) by SOP Instance UID."""
    slices = place.shape_zyx[0]
    template = small_chest_ct()[0][0]
    datasets, truth = [], {}
    for index, kinds in enumerate(tissues_of(place)):
        image = _slice(template, place, index)
        values = np.array([BACKGROUND_HU, BLOCK_HU, BALL_HU])[kinds] - int(image.RescaleIntercept)
        image.PixelData = values.astype(np.uint16).tobytes()
        truth[str(image.SOPInstanceUID)] = kinds
        datasets.append(image)
    order = np.random.default_rng(3).permutation(slices)
    return [datasets[int(place)] for place in order], truth


def _slice(template: Dataset, place: Placed, index: int) -> Dataset:
    image, affine = copy.deepcopy(template), place.affine_lps_mm
    dz, dy, dx = place.spacing_zyx_mm
    _, image.Rows, image.Columns = place.shape_zyx
    image.PixelSpacing, image.SliceThickness = [dy, dx], dz
    image.ImageOrientationPatient = [*(float(v) for v in affine[:3, 0] / dx), *(float(v) for v in affine[:3, 1] / dy)]
    image.ImagePositionPatient = [float(v) for v in (affine @ [0, 0, index, 1])[:3]]
    image.InstanceNumber = index + 1
    image.SOPInstanceUID = derived_uid("shape", str(place), str(index))
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image

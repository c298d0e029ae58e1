"""Where a slice lies in the patient (PS3.3 C.7.6.2): directions, spacing, position along the slice normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SlicePlane:
    """The plane of one slice, in patient coordinates (LPS, mm).

    `row_direction` points along growing columns, `column_direction` along growing rows; `normal` completes them.
    """

    origin_mm: Vector
    row_direction: Vector
    column_direction: Vector
    row_spacing_mm: float
    column_spacing_mm: float

    @property
    def normal(self) -> Vector:
        return np.cross(self.row_direction, self.column_direction)

    @property
    def directions(self) -> tuple[float, ...]:
        """Both directions in one, as in Image Orientation (Patient); headers repeat it with rounding."""
        return tuple(float(x) for x in (*self.row_direction, *self.column_direction))

    @property
    def along_normal_mm(self) -> float:
        return float(self.origin_mm @ self.normal)


def slice_plane(header: Dataset) -> SlicePlane | None:
    """Read the plane of a slice; `None` when it has no position. Raises `NotAnalysable` (BAD_ORIENTATION) when the
    directions are not two perpendicular unit vectors or the spacing is not positive."""
    origin = _numbers(header, "ImagePositionPatient", 3)
    directions = _numbers(header, "ImageOrientationPatient", 6)
    spacing = _numbers(header, "PixelSpacing", 2)
    if origin is None or directions is None or spacing is None:
        return None
    row, column = directions[:3], directions[3:]
    lengths = (np.linalg.norm(row), np.linalg.norm(column))
    if not np.allclose(lengths, 1.0, atol=1e-3) or abs(float(row @ column)) > 1e-3 or spacing.min() <= 0:
        raise NotAnalysable("BAD_ORIENTATION", "A slice has image directions that are not perpendicular unit vectors.")
    return SlicePlane(origin, row / lengths[0], column / lengths[1], float(spacing[0]), float(spacing[1]))


def affine_lps_mm(first: SlicePlane, last: SlicePlane, slices: int) -> NDArray[np.float64]:
    """Return the 4x4 matrix that takes (column, row, slice, 1) to patient coordinates (x, y, z, 1) in mm."""
    affine = np.eye(4)
    affine[:3, 0] = first.row_direction * first.column_spacing_mm
    affine[:3, 1] = first.column_direction * first.row_spacing_mm
    affine[:3, 2] = (last.origin_mm - first.origin_mm) / max(slices - 1, 1)
    affine[:3, 3] = first.origin_mm
    return affine


def _numbers(header: Dataset, keyword: str, count: int) -> Vector | None:
    value = header.get(keyword)
    try:
        numbers = np.array([float(x) for x in value], dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.size == count and bool(np.isfinite(numbers).all()) else None

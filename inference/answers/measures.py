"""What is measured of an outlined structure, by the words of a card: its volume, its mean density, its diameter."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.core.codes import (
    ATTENUATION_COEFFICIENT,
    DIAMETER,
    HOUNSFIELD_UNIT,
    MAXIMUM,
    MEAN,
    MILLILITER,
    MILLIMETER,
    VOLUME,
)
from dicom_node.core.entities import Measurement
from dicom_node.inference.images.volume import Volume

Mask = NDArray[np.bool_]


class Measure(Protocol):
    """Measures a mask (slices, rows, columns) that holds something; `None` where the images do not allow it."""

    def __call__(self, mask: Mask, volume: Volume) -> Measurement | None: ...


def measurements(names: tuple[str, ...], mask: Mask, volume: Volume) -> tuple[Measurement, ...]:
    """Return what the card asks for and the images allow, in the order of the card."""
    found = (MEASURES[name](mask, volume) for name in names)
    return tuple(one for one in found if one is not None)


def volume_ml(mask: Mask, volume: Volume) -> float:
    """Return how much the voxels of a mask hold, in ml."""
    return float(np.count_nonzero(mask)) * volume.voxel_ml


def diameter_mm(mask: Mask, volume: Volume) -> float:
    """Return the largest distance of two points of the structure within one slice, outer edge to outer edge, in mm:
    what a reader measures with a ruler, and as the largest of all slices."""
    _, row_mm, column_mm = volume.spacing_zyx_mm
    planes = (mask[index] for index in np.nonzero(mask.any(axis=(1, 2)))[0])
    return max(_largest_distance(_ends_of_rows(plane) * [row_mm, column_mm]) for plane in planes)


def volume_of(mask: Mask, volume: Volume) -> Measurement:
    """Return how much a structure holds, of four digits."""
    return Measurement(VOLUME, _rounded(volume_ml(mask, volume)), MILLILITER)


def _mean(mask: Mask, volume: Volume) -> Measurement | None:
    if volume.modality != "CT":
        return None
    return Measurement(
        ATTENUATION_COEFFICIENT, round(float(np.mean(volume.hu_zyx[mask], dtype=np.float64)), 1), HOUNSFIELD_UNIT, MEAN
    )


def _diameter(mask: Mask, volume: Volume) -> Measurement:
    return Measurement(DIAMETER, round(diameter_mm(mask, volume), 1), MILLIMETER, MAXIMUM)


MEASURES: dict[str, Measure] = {"volume": volume_of, "mean": _mean, "diameter": _diameter}


def _ends_of_rows(plane: Mask) -> NDArray[np.float64]:
    """Return the outer corners (row, column) of the first and the last pixel of every row: the farthest points are
    among them."""
    rows = np.nonzero(plane.any(axis=1))[0]
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - plane[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([rows + down, ends], axis=1) for down in (0, 1) for ends in (first, last)]).astype(
        np.float64
    )


def _largest_distance(points_mm: NDArray[np.float64]) -> float:
    squares = (np.square(points_mm - point).sum(axis=1).max() for point in points_mm)
    return math.sqrt(max(squares))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")

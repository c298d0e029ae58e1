"""A coherent stack of CT slices as one array with its geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.inference.cards import Gate
from dicom_node.inference.gate import coherent_stack
from dicom_node.inference.geometry import affine_lps_mm
from dicom_node.inference.model_run import SourceImage
from dicom_node.inference.pixels import hounsfield_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """CT values in source geometry. Arrays are (slices, rows, columns); slices stand along the slice normal.

    `affine_lps_mm` takes (column, row, slice, 1) to patient coordinates (PS3.3 C.7.6.2.1.1), `sources` are the
    datasets in slice order.
    """

    hu_zyx: NDArray[np.int16]
    spacing_zyx_mm: tuple[float, float, float]
    affine_lps_mm: NDArray[np.float64]
    sources: tuple[Dataset, ...]

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_zyx_mm)) / 1000.0


def read_volume(images: Sequence[SourceImage], gate: Gate, notes: list[str]) -> Volume:
    """Gate the headers, then read only the chosen slices. Raises `NotAnalysable`; tells its choice in `notes`."""
    stack = coherent_stack([image.header for image in images], gate, notes)
    first, last = stack.slices[0], stack.slices[-1]
    sources = tuple(images[one.index].read() for one in stack.slices)
    lowest = hounsfield_units(sources[0])
    hu_zyx = np.empty((len(sources), *lowest.shape), np.int16)
    hu_zyx[0] = lowest
    for index, dataset in enumerate(sources[1:], start=1):
        hu_zyx[index] = hounsfield_units(dataset)
    affine = affine_lps_mm(first.plane, last.plane, len(sources))
    return Volume(
        hu_zyx=hu_zyx,
        spacing_zyx_mm=(
            float(np.linalg.norm(affine[:3, 2])),
            first.plane.row_spacing_mm,
            first.plane.column_spacing_mm,
        ),
        affine_lps_mm=affine,
        sources=sources,
    )

"""The volumes of several series laid on the grid of the first, so that a voxel is one place in all of them.

Nothing is registered: the series must share a frame of reference (PS3.3 C.7.4.1), as those of one session mostly do,
and the patient must have lain still.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.images.volume import Volume

#: Share of the first series that every other must cover.
_LEAST_COVERED = 0.9
#: Affines that differ by less, in voxels, are those of one grid.
_SAME_GRID = 1e-3


def on_one_grid(volumes: Sequence[Volume], names: Sequence[str]) -> NDArray[np.float32]:
    """Return values (channels, slices, rows, columns) on the grid of the first volume, interpolated linearly; 0 where
    another does not reach. Raises `NotAnalysable` (CHANNELS_APART)."""
    first = volumes[0]
    for volume, name in zip(volumes, names, strict=True):
        if _frame_of_reference(volume) != _frame_of_reference(first) or not _frame_of_reference(first):
            raise NotAnalysable(
                "CHANNELS_APART",
                f"The series for {name} and {names[0]} do not share a frame of reference, so that nobody knows which "
                "of their voxels belong together.",
            )
    return np.stack([_laid_on(volume, first, name) for volume, name in zip(volumes, names, strict=True)])


def _frame_of_reference(volume: Volume) -> str:
    return str(volume.sources[0].get("FrameOfReferenceUID", ""))


def _laid_on(volume: Volume, grid: Volume, name: str) -> NDArray[np.float32]:
    values = volume.values_zyx.astype(np.float32)
    # Affines take (column, row, slice); arrays count the other way round.
    way_xyz = np.linalg.inv(volume.affine_lps_mm) @ grid.affine_lps_mm
    way_zyx = way_xyz[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
    shape = grid.values_zyx.shape
    if values.shape == shape and np.allclose(way_zyx, np.eye(4), atol=_SAME_GRID):
        return values
    covered = _covered(way_zyx, values.shape, shape)
    if covered < _LEAST_COVERED:
        raise NotAnalysable(
            "CHANNELS_APART", f"The series for {name} covers {covered:.0%} of what the first series shows."
        )
    laid: NDArray[np.float32] = affine_transform(
        values, way_zyx[:3, :3], way_zyx[:3, 3], output_shape=shape, order=1, mode="constant", cval=0.0
    )
    return laid


def _covered(way_zyx: NDArray[np.float64], size: tuple[int, ...], grid: tuple[int, ...]) -> float:
    """Return the share of a grid's voxels that lie in an array of this size, at most half a voxel beyond its ends."""
    axes = np.meshgrid(*(np.linspace(0, count - 1, min(count, 32)) for count in grid), indexing="ij")
    places = way_zyx[:3, :3] @ np.stack([one.ravel() for one in axes]) + way_zyx[:3, 3:]
    ends = np.array(size)[:, None] - 0.5
    return float(np.all((places >= -0.5) & (places <= ends), axis=0).mean())

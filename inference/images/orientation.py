"""The same volume seen feet to head, front to back, patient's right to left, whatever way it was scanned or stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.images.volume import Volume


@dataclass(frozen=True, slots=True)
class PatientAxes:
    """How array axes map to the patient: `order` are the array axes that run most along z, y, x; `flips` tells which
    of them (in that order) run against +z (head), +y (back), +x (left)."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def _flipped(self) -> tuple[int, ...]:
        return tuple(axis for axis, flip in enumerate(self.flips) if flip)

    def view(self, array: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return (slices, rows, columns) of the source as (feet to head, front to back, right to left); no copy."""
        turned = np.transpose(array, self.order)
        return np.flip(turned, self._flipped)

    def restore(self, array: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Undo `view`."""
        turned = np.flip(array, self._flipped)
        return np.ascontiguousarray(np.transpose(turned, np.argsort(self.order)))

    def spacing_mm(self, spacing_zyx_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return the spacing of the turned array."""
        z, y, x = (spacing_zyx_mm[axis] for axis in self.order)
        return (z, y, x)


def patient_axes(volume: Volume) -> PatientAxes:
    """Find for each patient axis the array axis nearest to it; correct for any scan within 45 degrees of a plane."""
    # Columns of the affine are (column, row, slice); array axes count the other way round.
    directions = volume.affine_lps_mm[:3, 2::-1] / np.linalg.norm(volume.affine_lps_mm[:3, 2::-1], axis=0)
    remaining, order, flips = [0, 1, 2], [], []
    for patient_axis in (2, 1, 0):
        along = np.abs(directions[patient_axis])
        best = max(remaining, key=along.__getitem__)
        remaining.remove(best)
        order.append(best)
        flips.append(bool(directions[patient_axis, best] < 0))
    return PatientAxes((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

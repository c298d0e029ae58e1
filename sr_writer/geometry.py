"""Where images lie in the patient (PS3.3 C.7.6.2), and which slices of a volume show what was segmented."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, Segment

#: A direction gets a second letter when its component is at least this large.
_OBLIQUE = 0.2


def slice_normal(source: Dataset) -> NDArray[np.float64] | None:
    """Return the unit vector (x, y, z) across the image plane, `None` for an image without orientation."""
    orientation = source.get("ImageOrientationPatient")
    if orientation is None or len(orientation) != 6:
        return None
    row, column = np.array(orientation, dtype=float).reshape(2, 3)
    return np.asarray(np.cross(row, column), dtype=np.float64)


def slice_position_mm(source: Dataset) -> float | None:
    """Return the position along the slice normal in mm, `None` for an image without position."""
    normal, position = slice_normal(source), source.get("ImagePositionPatient")
    if normal is None or position is None or len(position) != 3:
        return None
    return float(np.dot(normal, np.array(position, dtype=float)))


def patient_orientation(source: Dataset) -> list[str] | str:
    """Return PatientOrientation of the source, or what its orientation vectors say, or empty (type 2C)."""
    stated = source.get("PatientOrientation")
    if stated and len(stated) == 2 and all(stated):
        return [str(value) for value in stated]
    orientation = source.get("ImageOrientationPatient")
    if orientation is None or len(orientation) != 6:
        return ""
    row, column = np.array(orientation, dtype=float).reshape(2, 3)
    return [direction_letters(row), direction_letters(column)]


def direction_letters(direction: NDArray[np.float64]) -> str:
    """Return the letters of a direction (x, y, z), the one it points to most first."""
    named = [
        (abs(value), pair[0] if value > 0 else pair[1])
        for value, pair in zip(direction, ("LR", "PA", "HF"), strict=True)
    ]
    named.sort(key=lambda item: -item[0])
    return "".join(letter for size, letter in named if size >= _OBLIQUE) or named[0][1]


# --- which slices to show --------------------------------------------------------------------------------------------

_SHARES = (0.25, 0.5, 0.75)


def key_slices(analysis: Analysis) -> Sequence[int]:
    """Return indices into `Analysis.sources`, most telling first; empty without key slices and segments."""
    if analysis.key_slices:
        return analysis.key_slices
    return telling_slices(analysis.segments) if analysis.segments else []


def telling_slices(segments: Sequence[Segment]) -> list[int]:
    """Return the slices at a quarter, half and three quarters of what is segmented."""
    area = np.sum([segment.mask.sum(axis=(1, 2)) for segment in segments], axis=0)
    filled = np.flatnonzero(area)
    if filled.size == 0:
        return []
    return sorted({int(filled[int(share * (filled.size - 1))]) for share in _SHARES})

"""How a frontal radiograph is stored, and how it is turned upright for a model and a model's answer back again.

Upright is how it is hung: rows run to the patient's left, columns to the feet (``L\\F``). The eight ways an image can
be stored are a turn by quarters, mirrored or not (PS3.3 C.7.6.1.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.headers.sound import unreadable_in
from dicom_node.inference.prediction import Box, Prediction

Scalar = TypeVar("Scalar", bound=np.generic)

_ACROSS, _DOWN = {"L", "R"}, {"F", "H"}
#: What a direction vector points to, by axis (x, y, z) and by sign (PS3.3 C.7.6.2.1.1).
_POINTS_TO = (("R", "L"), ("A", "P"), ("F", "H"))
_AXIS_OF_LENGTH = 2


@dataclass(frozen=True, slots=True)
class Turn:
    """From stored to upright: rows and columns exchanged first, then each axis of the result turned round."""

    exchanged: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @property
    def is_none(self) -> bool:
        """Whether the image is stored upright."""
        return self == Turn()

    def upright(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an array whose last two axes are stored rows and columns, upright."""
        values = np.swapaxes(values, -1, -2) if self.exchanged else values
        return np.ascontiguousarray(self._reversed(values))

    def stored(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return an upright array as the image is stored."""
        values = self._reversed(values)
        values = np.swapaxes(values, -1, -2) if self.exchanged else values
        return np.ascontiguousarray(values)

    def stored_box(self, box: Box, shape: Sequence[int]) -> Box:
        """Return a box on the stored pixels; `shape` is that of the stored image, (rows, columns)."""
        rows, columns = (shape[1], shape[0]) if self.exchanged else (shape[0], shape[1])
        low, high = list(box.low_xyz_px), list(box.high_xyz_px)
        for axis, length, is_reversed in ((0, columns, self.columns_reversed), (1, rows, self.rows_reversed)):
            if is_reversed:
                low[axis], high[axis] = length - high[axis], length - low[axis]
        if self.exchanged:
            low[0], low[1], high[0], high[1] = low[1], low[0], high[1], high[0]
        return replace(box, low_xyz_px=(low[0], low[1], low[2]), high_xyz_px=(high[0], high[1], high[2]))

    def stored_prediction(self, one: Prediction, shape: Sequence[int]) -> Prediction:
        """Return all of a prediction that has a place on the stored pixels; `shape` as for `stored_box`."""
        if self.is_none:
            return one
        return replace(
            one,
            labels=None if one.labels is None else self.stored(one.labels),
            masks=None if one.masks is None else {value: self.stored(mask) for value, mask in one.masks.items()},
            probabilities=None if one.probabilities is None else self.stored(one.probabilities),
            boxes=tuple(self.stored_box(box, shape) for box in one.boxes),
        )

    def _reversed(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        values = values[..., ::-1, :] if self.rows_reversed else values
        return values[..., ::-1] if self.columns_reversed else values


#: How an image is stored that needs no turn.
UPRIGHT = Turn()


@dataclass(frozen=True, slots=True)
class Stance:
    """How an image is stored, and what a reader must be told of it ("": nothing)."""

    turn: Turn
    remark: str = ""


def stance_of(header: Dataset) -> Stance:
    """Return how a frontal image is stored; one that does not say it, or not in a way of use, counts as upright."""
    number = header.get("InstanceNumber", "?")
    letters = frontal_letters(header)
    if letters is None:
        return Stance(UPRIGHT, f"Image {number} {_unsaid(header)}; the model was shown it as it is stored.")
    turn = _turn(*letters)
    if turn.is_none:
        return Stance(turn)
    how = "turned" if turn.exchanged or turn.rows_reversed else "mirrored"
    return Stance(
        turn,
        f"Image {number} is stored {how} (its rows run to {letters[0]}, its columns to {letters[1]}); the model was "
        "shown it upright, and what it marked lies on the image as it is stored.",
    )


def directions(header: Dataset) -> tuple[str, str] | None:
    """Return where rows and columns run to, each by its foremost letter of L, R, A, P, H and F; `None` if unsaid.

    By PatientOrientation, whose letters stand in order of their share; else by ImageOrientationPatient, but not that of
    a slice across the body: no radiograph of a chest lies so, and what converts pictures writes it as a default. Where
    both are said and contradict each other, neither counts.
    """
    stated, computed = _stated(header), _computed(header)
    if stated and computed and stated != computed:
        return None
    return stated or computed


def frontal_letters(header: Dataset) -> tuple[str, str] | None:
    """Return `directions` where they are those of a frontal image, else `None`."""
    found = directions(header)
    if found is None:
        return None
    row, column = found
    is_frontal = (row in _ACROSS and column in _DOWN) or (row in _DOWN and column in _ACROSS)
    return found if is_frontal else None


def _turn(row: str, column: str) -> Turn:
    exchanged = row in _DOWN
    across, down = (column, row) if exchanged else (row, column)
    return Turn(exchanged, rows_reversed=down == "H", columns_reversed=across == "R")


def _stated(header: Dataset) -> tuple[str, str] | None:
    value = header.get("PatientOrientation")
    letters = [] if value is None or isinstance(value, str) else [str(one).strip().upper()[:1] for one in value]
    if len(letters) != 2 or not set(letters) <= set("LRAPHF"):
        return None
    return letters[0], letters[1]


def _computed(header: Dataset) -> tuple[str, str] | None:
    value = header.get("ImageOrientationPatient")
    if value is None or isinstance(value, str) or len(value) != 6:
        return None
    vectors = np.array(value, dtype=float).reshape(2, 3)
    if not np.isfinite(vectors).all() or not np.abs(vectors).max(axis=1).min() > 0:
        return None
    foremost = [int(np.abs(vector).argmax()) for vector in vectors]
    if _AXIS_OF_LENGTH not in foremost:
        return None
    row, column = (_POINTS_TO[axis][int(v[axis] > 0)] for axis, v in zip(foremost, vectors, strict=True))
    return row, column


def _unsaid(header: Dataset) -> str:
    """Say what is missing; that the detector's picture was turned or mirrored says nothing of the patient."""
    if header.get("PatientOrientation") or "PatientOrientation" in unreadable_in(header):
        told = "has a PatientOrientation that cannot be used"
    else:
        told = "does not say which way it is stored (PatientOrientation)"
    rotated = str(header.get("FieldOfViewRotation") or "0").strip() not in {"0", "0.0"}
    flipped = str(header.get("FieldOfViewHorizontalFlip") or "").upper() == "YES"
    return f"{told}, though the detector's picture was turned or mirrored" if rotated or flipped else told

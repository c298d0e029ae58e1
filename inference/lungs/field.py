"""Where the field of view cuts a lung off at its side: the image ends there, or the circle that was reconstructed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]
Values = NDArray[np.int16]

#: What is darker than this holds no tissue: it is air beside the patient.
_AIR_HU = -965.0
#: Skin that touches the side has a blurred border; a lung lies there with far more.
_AT_SIDE_MM = 30.0
#: A chest wall is thicker than the folds of a blanket.
_WALL_MM = 12.0
#: What lies in a fold of the armpit does not reach so deep.
_DEPTH_MM = 20.0


def sides_cut_off(
    hu_zyx: Values, trunk_zyx: Bools, spacing_zyx_mm: tuple[float, float, float], midline_x_px: float
) -> tuple[bool, bool]:
    """Tell whether the (left, right) lung is cut off by a side of the field of view.

    Arrays run feet to head, front to back, patient's right to left; `trunk_zyx` is the tissue of the trunk. A lung lies
    at a side where, along the edge of the field, something dark that is not plain air lies between two walls of the
    trunk. Between arm, blanket and table there is such a thing, too, but never the trunk at both of its ends; behind
    a back that reaches from side to side there is, but from one side of the spine to the other.
    """
    field = _field(hu_zyx)
    left = right = False
    for across, pixel_mm, depth_mm in ((False, *spacing_zyx_mm[1:]), (True, *spacing_zyx_mm[:0:-1])):
        values, trunk, lines = (
            (hu_zyx.swapaxes(1, 2), trunk_zyx.swapaxes(1, 2), field.T) if across else (hu_zyx, trunk_zyx, field)
        )
        along = np.nonzero(lines.any(axis=1))[0]
        first, last = _first(lines)[along], lines.shape[1] - 1 - _first(lines[:, ::-1])[along]
        for at, inwards in ((first, 1), (last, -1)):
            deep = np.clip(at + inwards * round(_DEPTH_MM / depth_mm), 0, lines.shape[1] - 1)
            dark = np.logical_and.reduce([~trunk[:, along, x] & (values[:, along, x] > _AIR_HU) for x in (at, deep)])
            x_px = along if across else at
            walls = _walls(trunk[:, along, at], pixel_mm)
            for run in _runs(dark & _between(walls), _AT_SIDE_MM / pixel_mm):
                opening = x_px[_opening(walls, run)]
                left |= bool((opening > midline_x_px).all())
                right |= bool((opening < midline_x_px).all())
    return left, right


def _field(hu_zyx: Values) -> Bools:
    """Return the pixels (rows, columns) that were reconstructed: not those around a circle, equal in all slices."""
    parts, _ = ndimage.label((hu_zyx == hu_zyx[0, 0, 0]).all(axis=0))
    corners = {int(parts[y, x]) for y in (0, -1) for x in (0, -1)} - {0}
    field = ~np.isin(parts, list(corners))
    return field if field.any() else np.ones_like(field)


def _first(lines: Bools) -> NDArray[np.intp]:
    """Return the place of the first pixel of the field in each line; beside a circle, of the second: the first is
    blurred."""
    first: NDArray[np.intp] = lines.argmax(axis=1)
    blurred: NDArray[np.intp] = first + ((first > 0) & (first < lines.shape[1] - 1))
    return blurred


def _walls(trunk: Bools, pixel_mm: float) -> Bools:
    """Return what is as thick as a wall of the trunk, along an edge (slices, places)."""
    walls: Bools = ndimage.binary_opening(trunk, np.ones((1, max(1, round(_WALL_MM / pixel_mm))), bool))
    return walls


def _between(walls: Bools) -> Bools:
    """Tell what lies along an edge between two walls."""
    before = np.maximum.accumulate(walls, axis=1)
    between: Bools = before & np.maximum.accumulate(walls[:, ::-1], axis=1)[:, ::-1]
    return between


def _runs(dark: Bools, least_px: float) -> Iterator[tuple[int, slice]]:
    """Return where along the edge something dark lies without a gap, in each slice (row of the array)."""
    runs, _ = ndimage.label(dark, np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]]))
    for at, along in ndimage.find_objects(runs):
        if along.stop - along.start > least_px:
            yield at.start, along


def _opening(walls: Bools, run: tuple[int, slice]) -> slice:
    """Return all that lies between the two walls around a run: a lung reaches from one to the other, but so may a table
    in pieces, with air between, from one arm to the other."""
    at, along = run
    before, behind = np.nonzero(walls[at, : along.start])[0], np.nonzero(walls[at, along.stop :])[0]
    return slice(int(before[-1]) + 1, along.stop + int(behind[0]))

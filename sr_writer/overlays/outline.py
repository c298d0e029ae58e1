"""The outline of a mask as closed polygons along pixel edges: filled again, they give the mask to the pixel.

Contour finders of image libraries run between pixel centres and cut corners; here every point is a corner of a pixel,
in the coordinates that GSPS and SCOORD share (0,0 is the outer corner of the first pixel).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.int64]

#: Steps along an edge as (x, y), clockwise as seen on the screen: the mask is always on the right hand.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(mask: NDArray[np.bool_]) -> list[Polygon]:
    """Return the polygons (points, 2) of (column, row) around every part of `mask` (rows, columns), largest first.

    First and last point are equal; only points where the outline turns are kept. Holes are polygons of their own.
    Pixels that touch at a corner alone belong to different polygons.
    """
    leaving = _edges(mask)
    polygons = list(_loops(leaving, mask.shape[1] + 1))
    return sorted(polygons, key=lambda polygon: -_area(polygon))


def _edges(mask: NDArray[np.bool_]) -> dict[int, list[int]]:
    """Return the directions of the edges that leave each corner; a corner is row * (columns + 1) + column."""
    inside = np.pad(mask, 1)
    here, width = inside[1:-1, 1:-1], mask.shape[1] + 1
    # The edge above, right of, below and left of a pixel starts at another of its corners each.
    neighbours = (inside[:-2, 1:-1], inside[1:-1, 2:], inside[2:, 1:-1], inside[1:-1, :-2])
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))
    leaving: dict[int, list[int]] = {}
    for direction, (neighbour, (dx, dy)) in enumerate(zip(neighbours, starts, strict=True)):
        rows, columns = np.nonzero(here & ~neighbour)
        for corner in ((rows + dy) * width + columns + dx).tolist():
            leaving.setdefault(corner, []).append(direction)
    return leaving


def _loops(leaving: dict[int, list[int]], width: int) -> Iterator[Polygon]:
    """Follow the edges until each has been walked once."""
    ahead = [dx + dy * width for dx, dy in _STEPS]
    walked: set[tuple[int, int]] = set()
    for first in ((corner, direction) for corner, directions in leaving.items() for direction in directions):
        corner, direction = first
        turns: list[int] = []
        while (corner, direction) not in walked:
            walked.add((corner, direction))
            corner += ahead[direction]
            followed = _next(leaving[corner], direction)
            if followed != direction:
                turns.append(corner)
            direction = followed
        if turns:
            points = np.array([*turns, turns[0]], dtype=np.int64)
            yield np.stack([points % width, points // width], axis=1)


def _next(directions: list[int], arriving: int) -> int:
    """Return where the outline goes on; where two pixels touch at this corner alone, around the same pixel."""
    return directions[0] if len(directions) == 1 else (arriving + 1) % len(_STEPS)


def _area(polygon: Polygon) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2

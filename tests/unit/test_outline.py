"""An outline filled again is the mask it was drawn around, pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.sr_writer.overlays.outline import outlines


def filled(polygons: list[NDArray[np.int64]], rows: int, columns: int) -> NDArray[np.bool_]:
    """Return the pixels whose centre has an odd number of vertical edges to its left (even-odd rule)."""
    crossings = np.zeros((rows, columns + 1), dtype=int)
    for polygon in polygons:
        for (x, y), (next_x, next_y) in pairwise(polygon):
            assert (x == next_x) != (y == next_y), "an edge runs along one axis"
            if x == next_x:
                crossings[min(y, next_y) : max(y, next_y), x] += 1
    return np.asarray(np.cumsum(crossings, axis=1)[:, :columns] % 2 == 1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 12), columns=st.integers(1, 12), share=st.floats(0, 1))
def test_any_mask_comes_back_from_its_outlines(seed: int, rows: int, columns: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    polygons = outlines(mask)
    assert np.array_equal(filled(polygons, rows, columns), mask)
    assert all(np.array_equal(polygon[0], polygon[-1]) for polygon in polygons)


def test_one_pixel_is_a_square_around_it() -> None:
    mask = np.zeros((5, 7), dtype=bool)
    mask[2, 3] = True
    (square,) = outlines(mask)
    assert {tuple(point) for point in square.tolist()} == {(3, 2), (4, 2), (4, 3), (3, 3)}


def test_straight_edges_have_no_points_between_their_ends() -> None:
    (polygon,) = outlines(np.ones((40, 60), dtype=bool))
    assert len(polygon) == 5


@pytest.mark.parametrize("touching", [[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
def test_pixels_that_touch_at_a_corner_have_outlines_of_their_own(touching: list[list[int]]) -> None:
    assert [len(polygon) for polygon in outlines(np.array(touching, dtype=bool))] == [5, 5]


def test_the_largest_part_comes_first_and_a_hole_is_outlined_too() -> None:
    mask = np.zeros((30, 30), dtype=bool)
    mask[0, 0] = True
    mask[5:25, 5:25] = True
    mask[10:20, 10:20] = False
    spans = [int(np.ptp(polygon[:, 0])) for polygon in outlines(mask)]
    assert spans == [20, 10, 1]


def test_an_empty_mask_has_no_outline() -> None:
    assert outlines(np.zeros((4, 4), dtype=bool)) == []

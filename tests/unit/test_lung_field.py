"""Which lung a side of the field of view cuts off, and what beside a whole chest only looks like it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.inference.lungs.field import sides_cut_off

Bools = NDArray[np.bool_]
AIR, FOAM, LUNG, TISSUE = -1000, -900, -860, 40
SIZE, PIXEL_MM = 160, 2.0
Y_MM, X_MM = np.meshgrid(*((np.arange(SIZE) - SIZE / 2) * PIXEL_MM,) * 2, indexing="ij")


def ellipse(x_mm: float, y_mm: float, half_x_mm: float, half_y_mm: float) -> Bools:
    inside: Bools = ((X_MM - x_mm) / half_x_mm) ** 2 + ((Y_MM - y_mm) / half_y_mm) ** 2 <= 1
    return inside


def chest() -> NDArray[np.int16]:
    """One slice: trunk of 280 by 200 mm, two lungs; the patient's left is at high x."""
    hu = np.full((SIZE, SIZE), AIR, np.int16)
    hu[ellipse(0, 0, 140, 100)] = TISSUE
    hu[ellipse(-65, 0, 55, 75) | ellipse(65, 0, 55, 75)] = LUNG
    return hu


def cut_off(hu: NDArray[np.int16]) -> tuple[bool, bool]:
    slices = np.repeat(hu[None], 3, axis=0)
    return sides_cut_off(slices, slices > -500, (5.0, PIXEL_MM, PIXEL_MM), (hu.shape[1] - 1) / 2)


def within_circle(radius_mm: float, x_mm: float = 0.0) -> NDArray[np.int16]:
    return np.where(ellipse(x_mm, 0, radius_mm, radius_mm), chest(), np.int16(-1024))


def test_a_chest_inside_the_field_is_cut_nowhere() -> None:
    assert cut_off(chest()) == (False, False)
    assert cut_off(within_circle(150)) == (False, False)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [((40, 120), (True, True)), ((0, 125), (True, False)), ((35, 160), (False, True))],
    ids=["both", "left", "right"],
)
def test_a_field_that_ends_in_a_lung_cuts_this_lung(columns: tuple[int, int], expected: tuple[bool, bool]) -> None:
    assert cut_off(chest()[:, slice(*columns)]) == expected


def test_a_circle_that_was_reconstructed_cuts_as_the_image_does() -> None:
    assert cut_off(within_circle(95)) == (True, True)
    assert cut_off(within_circle(120, x_mm=60)) == (False, True)


def test_a_field_that_ends_behind_a_lung_cuts_it() -> None:
    assert cut_off(chest()[:110]) == (True, True)


def test_what_lies_between_arm_blanket_and_table_is_no_lung() -> None:
    hu = chest()
    hu[ellipse(150, -70, 25, 25) | ellipse(150, 75, 25, 25)] = TISSUE
    between = (X_MM > 140) & (np.abs(Y_MM) < 60) & (hu == AIR)
    hu[between] = FOAM
    slices = np.repeat(hu[None], 3, axis=0)
    trunk = np.repeat(ellipse(0, 0, 140, 100)[None], 3, axis=0) & (slices > -500)

    assert sides_cut_off(slices, trunk, (5.0, PIXEL_MM, PIXEL_MM), (SIZE - 1) / 2) == (False, False)


def test_a_fold_at_the_armpit_of_a_wide_patient_is_no_lung() -> None:
    hu = chest()
    hu[ellipse(0, 0, 175, 110) & ~ellipse(0, 0, 140, 100)] = TISSUE
    hu[ellipse(165, 0, 12, 22)] = FOAM

    assert cut_off(hu) == (False, False)


def test_the_mattress_behind_a_back_as_wide_as_the_field_is_no_lung() -> None:
    hu = chest()
    hu[np.abs(X_MM) > 130] = TISSUE
    hu[(Y_MM > 100) & (hu == AIR)] = FOAM

    assert cut_off(hu) == (False, False)


def test_a_table_in_pieces_between_arms_that_reach_the_sides_is_no_lung() -> None:
    hu = chest()
    hu[(np.abs(X_MM) > 130) & (Y_MM > -100)] = TISSUE
    hu[(Y_MM > 100) & (hu == AIR)] = FOAM
    # Plain air inside the table, and its shells, part the foam at the left from that at the right.
    hu[(Y_MM > 100) & (np.abs(X_MM) < 24)] = AIR
    hu[(Y_MM > 100) & (np.abs(np.abs(X_MM) - 90) < 3)] = TISSUE

    assert cut_off(hu) == (False, False)

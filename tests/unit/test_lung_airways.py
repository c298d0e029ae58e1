"""The trachea is followed beside a lung from which no whole pixel of wall parts it; where it is lost, this is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.lungs.airways import find_airways, reach_the_bronchi

Bools = NDArray[np.bool_]
SPACING_MM = (5.0, 2.0, 2.0)
SLICES, SIZE = 40, 64
LUMEN, WALL, LUNG, TISSUE = -980, -760, -860, 40
Y_PX, X_PX = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
#: Slices of the trachea that touch the lung, counted from the feet; it divides below them.
TOUCHING, DIVISION = range(14, 24), 12


def disk(x_px: float, radius_px: float) -> Bools:
    inside: Bools = (X_PX - x_px) ** 2 + (Y_PX - SIZE / 2) ** 2 <= radius_px**2
    return inside


def chest(beside: int = WALL) -> NDArray[np.int16]:
    """Trachea at the midline, wider in every second slice, and a lung at its right that touches it in some slices."""
    hu = np.full((SLICES, SIZE, SIZE), TISSUE, np.int16)
    for z in range(SLICES):
        lumen = disk(SIZE / 2, 4.0 if z % 2 else 4.3) if z >= DIVISION else disk(26, 3.0) | disk(39, 3.0)
        lung = (27 if z in TOUCHING else 18) > X_PX
        hu[z][lung & (X_PX > 2)] = LUNG
        if z in TOUCHING:
            hu[z][disk(SIZE / 2, 5.4)] = beside
        hu[z][lumen if z > 4 else np.zeros_like(lumen)] = LUMEN
    return hu


def followed(hu: NDArray[np.int16]) -> Bools:
    return find_airways(hu, hu < -500, SPACING_MM, SIZE / 2)


def test_a_trachea_that_touches_the_lung_is_followed_to_its_bronchi() -> None:
    hu = chest()

    airways = followed(hu)

    assert np.array_equal(np.nonzero(airways.any(axis=(1, 2)))[0], np.arange(5, SLICES))
    assert airways.sum() > 0.95 * (hu == LUMEN).sum()
    assert not airways[hu == LUNG].any()
    assert reach_the_bronchi(airways, SPACING_MM)


def test_a_trachea_that_is_lost_on_its_way_is_known_to_be() -> None:
    airways = followed(chest(beside=LUMEN))

    assert airways.any()
    assert np.nonzero(airways.any(axis=(1, 2)))[0][0] > DIVISION
    assert not reach_the_bronchi(airways, SPACING_MM)


def test_no_airways_reach_nothing() -> None:
    assert not reach_the_bronchi(np.zeros((4, 8, 8), bool), SPACING_MM)

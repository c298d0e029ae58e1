"""Gas of stomach and bowel is told from lung; bullae, emphysema and what is no gas at all stay lung."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.inference.lungs.gas import abdominal_gas

Bools = NDArray[np.bool_]
Values = NDArray[np.int16]
SPACING_MM = (5.0, 2.5, 2.5)
SHAPE = (40, 80, 80)
#: The severest emphysema of a whole lung has a mean of some -920 HU.
GAS, LUNG, EMPHYSEMA, TISSUE = -960, -860, -925, 40
Z, Y, X = np.meshgrid(*(np.arange(n) * mm for n, mm in zip(SHAPE, SPACING_MM, strict=True)), indexing="ij")


def ball(x_mm: float, z_mm: float, radius_mm: float, y_mm: float = 100.0) -> Bools:
    inside: Bools = (X - x_mm) ** 2 + (Y - y_mm) ** 2 + (Z - z_mm) ** 2 <= radius_mm**2
    return inside


def chest(lung: int = LUNG) -> Values:
    """One lung from 60 to 180 mm above the feet, uneven, with vessels 15 mm apart."""
    hu = np.full(SHAPE, TISSUE, np.int16)
    texture = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, SHAPE), 1.0)
    hu[ball(100, 120, 60)] = (lung + texture * (30 / texture.std()))[ball(100, 120, 60)]
    hu[ball(100, 120, 60) & (X % 15 < 2.5) & (Y % 15 < 2.5)] = TISSUE
    return hu


def gas_in(hu: Values) -> Bools:
    noisy = (hu + np.random.default_rng(3).normal(0, 8, hu.shape)).astype(np.int16)
    return abdominal_gas(noisy, noisy < -470, noisy >= -470, SPACING_MM)


def stomach(hu: Values) -> Bools:
    """Paint a bubble under the lung, parted from it by less than a voxel at one place."""
    bubble = ball(130, 45, 26)
    hu[bubble & (hu == TISSUE)] = GAS
    neck = ball(112, 66, 9)
    hu[neck & (hu == TISSUE)] = -600
    return bubble


def test_the_stomach_under_a_diaphragm_that_is_not_seen_is_gas_and_the_lung_stays() -> None:
    hu = chest()
    bubble = stomach(hu)

    gas = gas_in(hu)

    assert gas[bubble & (hu == GAS)].mean() > 0.97
    assert gas[ball(100, 120, 60)].mean() < 0.01


@pytest.mark.parametrize("lung", [LUNG, EMPHYSEMA], ids=["healthy", "emphysematous"])
def test_a_lung_by_itself_holds_no_such_gas(lung: int) -> None:
    assert not gas_in(chest(lung)).any()


@pytest.mark.parametrize(("x_mm", "z_mm"), [(100, 120), (140, 100), (100, 165)], ids=["inside", "at the side", "apex"])
def test_a_bulla_joined_to_the_lung_stays_lung(x_mm: float, z_mm: float) -> None:
    hu = chest()
    hu[ball(x_mm, z_mm, 25) & ball(100, 120, 60)] = GAS

    assert not gas_in(hu).any()


def test_a_bulla_behind_a_thick_wall_stays_lung() -> None:
    hu = chest()
    hu[ball(100, 105, 30)] = TISSUE
    hu[ball(100, 105, 24)] = GAS

    assert not gas_in(hu).any()


def test_gas_beside_no_lung_at_all_is_gas() -> None:
    hu = np.full(SHAPE, TISSUE, np.int16)
    hu[ball(100, 100, 30)] = GAS

    assert gas_in(hu)[hu == GAS].mean() > 0.95


def test_gas_as_large_as_the_lung_beside_it_is_no_stomach() -> None:
    hu = chest()
    hu[ball(100, 50, 58) & (hu == TISSUE)] = GAS

    assert not gas_in(hu).any()

"""Gas of stomach and bowel, which lies against the lungs under a diaphragm thinner than a voxel; bullae stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bools = NDArray[np.bool_]
Values = NDArray[np.int16]
Spacing = tuple[float, float, float]

#: Of six whole chests, gas had medians of -944 to -988 HU, lung of -732 to -898.
_GAS_HU = -930.0
#: What is smaller, or no thicker than twice this, changes no number.
_LEAST_ML = 10.0
_OPENING_MM = 3.0
#: Darker than the air of any lung tissue, and how much of it in one piece is worth a word.
_EMPTY_HU = -965.0
_TELLING_ML = 50.0
#: How far the border of gas is blurred, and how far it leaves something thin beside itself.
_BLUR_MM = 4.0
_BESIDE_MM = 10.0
#: From where to where around gas it is looked what encloses it.
_AROUND_MM = (4.0, 8.0)
#: Stomach and bowel lie in tissue all around; a bulla has lung at least at one side.
_ENCLOSED = 0.75
#: Gas has no vessels: closing its gaps adds nothing. The air of an emphysematous lung is full of them.
_CLOSING_MM = 6.0
_SOLID = 0.85
#: Of the other air; what is larger is no stomach, but a pneumothorax or a bulla.
_MOST_SHARE = 0.4
#: Of the gas; less other air than this is its own border, and no lung.
_REMNANT = 0.2


def abdominal_gas(hu_zyx: Values, air_zyx: Bools, tissue_zyx: Bools, spacing_zyx_mm: Spacing) -> Bools:
    """Return the part of `air_zyx` that is gas of stomach and bowel, with its blurred border.

    Arrays run from feet to head, on a grid of about 2 mm, where the noise of single voxels is averaged. Such gas is
    dark throughout, holds no vessel, is enclosed by tissue, and lies lower than half of the other air. A bulla differs
    in what encloses it, an emphysematous lung in its vessels and septa, gas that fills half a chest in its size.
    """
    dark = ndimage.binary_opening(air_zyx & (hu_zyx < _GAS_HU), disk(_OPENING_MM, spacing_zyx_mm))
    labels, _ = ndimage.label(dark)
    least_voxels = _LEAST_ML * 1000.0 / float(np.prod(spacing_zyx_mm))
    gas = np.zeros_like(air_zyx)
    for label, found in enumerate(ndimage.find_objects(labels), start=1):
        box = _around(found, spacing_zyx_mm, air_zyx.shape)
        part = labels[box] == label
        if part.sum() >= least_voxels and _is_gas(part, tissue_zyx[box], spacing_zyx_mm):
            gas[box] |= part
    return _with_border(_below_lungs(gas, air_zyx), air_zyx, spacing_zyx_mm)


def gas_without_tissue_ml(hu_zyx: Values, lungs_zyx: Bools, spacing_zyx_mm: Spacing) -> float:
    """Return how much of the lungs is gas in one piece with nothing in it: a large bulla, or a pneumothorax."""
    dark = ndimage.binary_opening(lungs_zyx & (hu_zyx < _EMPTY_HU), disk(_OPENING_MM, spacing_zyx_mm))
    labels, _ = ndimage.label(dark)
    voxel_ml = float(np.prod(spacing_zyx_mm)) / 1000.0
    found_ml = 0.0
    for label, found in enumerate(ndimage.find_objects(labels), start=1):
        box = _around(found, spacing_zyx_mm, lungs_zyx.shape)
        part = labels[box] == label
        part_ml = float(part.sum()) * voxel_ml
        if part_ml >= _TELLING_ML and _is_solid(part, spacing_zyx_mm):
            found_ml += part_ml
    return found_ml


def _is_gas(part: Bools, tissue: Bools, spacing_zyx_mm: Spacing) -> bool:
    """Tell whether something dark is solid and enclosed by tissue."""
    if not _is_solid(part, spacing_zyx_mm):
        return False
    distance_mm = ndimage.distance_transform_edt(~part, sampling=spacing_zyx_mm)
    around = (distance_mm > _AROUND_MM[0]) & (distance_mm <= _AROUND_MM[1])
    return float(tissue[around].mean()) > _ENCLOSED if around.any() else False


def _is_solid(part: Bools, spacing_zyx_mm: Spacing) -> bool:
    closed = ndimage.binary_closing(part, disk(_CLOSING_MM, spacing_zyx_mm))
    return float(part.sum()) >= _SOLID * float(closed.sum())


def _below_lungs(gas: Bools, air: Bools) -> Bools:
    """Return the parts of the gas that lie lower than half of the other air and are small beside it; all parts, where
    there is no other air."""
    heights = np.cumsum((air & ~gas).sum(axis=(1, 2)))
    if float(heights[-1]) < _REMNANT * float(gas.sum()):
        return gas
    middle = int(np.searchsorted(heights, heights[-1] / 2))
    labels, count = ndimage.label(gas)
    centres = ndimage.center_of_mass(gas, labels, range(1, count + 1))
    small = np.bincount(labels.ravel())[1:] < _MOST_SHARE * float(heights[-1])
    below = [label for label, (z, _, _) in enumerate(centres, start=1) if z < middle and small[label - 1]]
    found: Bools = np.isin(labels, below)
    return found


def _with_border(gas: Bools, air: Bools, spacing_zyx_mm: Spacing) -> Bools:
    """Return gas with the air that belongs to it: a blurred border, and what is thin beside it, as above a fluid."""
    grown = np.zeros_like(gas)
    if gas.any():
        box = _around(ndimage.find_objects(gas.astype(np.uint8))[0], spacing_zyx_mm, gas.shape)
        distance_mm = ndimage.distance_transform_edt(~gas[box], sampling=spacing_zyx_mm)
        beyond = air[box] & (distance_mm > _BLUR_MM)
        thin = beyond & ~ndimage.binary_opening(beyond, disk(_BLUR_MM, spacing_zyx_mm))
        grown[box] = (air[box] & ~beyond) | (thin & (distance_mm <= _BESIDE_MM))
    return grown


def _around(found: tuple[slice, ...], spacing_zyx_mm: Spacing, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return a box with all that is looked at around what was found."""
    return tuple(
        slice(max(0, one.start - int(_BESIDE_MM / mm) - 1), min(size, one.stop + int(_BESIDE_MM / mm) + 1))
        for one, mm, size in zip(found, spacing_zyx_mm, shape, strict=True)
    )


def disk(radius_mm: float, spacing_zyx_mm: Spacing) -> Bools:
    """Return an in-plane structuring element, at least three pixels wide."""
    reach = [max(1, int(radius_mm / mm)) for mm in spacing_zyx_mm[1:]]
    y, x = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    inside: Bools = (y / (reach[0] + 0.5)) ** 2 + (x / (reach[1] + 0.5)) ** 2 <= 1.0
    return inside[None]

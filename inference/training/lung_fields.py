"""Where the lungs lie on a frontal radiograph of a child, by grays and shape alone: no label, no learned weight.

Lungs are darker than what surrounds them and lie on both sides of the middle. Where a chest shows them plainly, each is
the convex hull of what is dark in it (`plain_lung_fields`). Disease makes lungs bright, so most ill chests do not: they
get the lungs of the plain ones that look most like them, each laid where it fits best (`LungAtlas`). That is made for
figures over many images, not for one patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import ConvexHull, QhullError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

#: Images are looked at in this size (rows and columns).
SIDE_PX = 128
#: Finer than this is noise and ribs; coarser than that is the darkness of a whole region.
_FINE_PX, _COARSE_PX = 2.0, 20.0
#: Grays below this that touch the rim are air around the patient, or the collimator.
_AIR = 25
#: A lung has this share of the image, and its middle lies within these rows and columns (right lung; left mirrored).
_LEAST_SHARE, _MOST_SHARE = 0.04, 0.26
_ROWS, _COLUMNS = (0.25, 0.68), (0.12, 0.46)
#: The larger lung is at most this many times the smaller one.
_MOST_UNEVEN = 2.2
#: What comes this close to the upper edge or a side is no lung alone, but has run out into the air.
_RIM_PX = 2


@dataclass(frozen=True, slots=True)
class LungFields:
    """Masks (rows, columns) of an image: both lungs, and what lies between them."""

    lungs: Bools
    between: Bools


def plain_lung_fields(pixels: NDArray[np.uint8]) -> LungFields | None:
    """Return the lungs of an image (rows, columns), bright = dense; `None` where they do not show plainly.

    The masks are squares of `SIDE_PX`, whatever the shape of the image.
    """
    image = _resized(pixels.astype(np.float32), SIDE_PX)
    dark = _dark(image)
    sides = [_side(dark, right=right) for right in (True, False)]
    if any(one is None for one in sides):
        return None
    right, left = (one for one in sides if one is not None)
    areas = sorted((int(right.sum()), int(left.sum())))
    lungs = right | left
    if (
        areas[1] > _MOST_UNEVEN * areas[0]
        or lungs[:_RIM_PX].any()
        or lungs[:, [*range(_RIM_PX), *range(-_RIM_PX, 0)]].any()
    ):
        return None
    return LungFields(lungs, _hull(lungs) & ~lungs)


def _dark(image: Floats) -> Bools:
    """Return what is darker than its wider surroundings, without the air around the patient."""
    fine = ndimage.gaussian_filter(image, _FINE_PX)
    dark = fine < ndimage.gaussian_filter(image, _COARSE_PX)
    labels, _ = ndimage.label(fine < _AIR)
    outside = np.isin(labels, np.unique(np.concatenate([labels[0], labels[:, 0], labels[:, -1]]))) & (labels > 0)
    return np.asarray(ndimage.binary_opening(dark & ~outside, iterations=2))


def _side(dark: Bools, *, right: bool) -> Bools | None:
    """Return the hull of the largest dark place that may be a lung on one side of the middle."""
    half = np.zeros_like(dark)
    middle = SIDE_PX // 2
    half[:, slice(0, middle) if right else slice(middle, SIDE_PX)] = True
    labels, count = ndimage.label(dark & half)
    found = [_hull(labels == number) for number in range(1, count + 1) if _may_be_lung(labels == number, right=right)]
    return max(found, key=np.count_nonzero, default=None)


def _may_be_lung(place: Bools, *, right: bool) -> bool:
    share = float(place.mean())
    if not _LEAST_SHARE / 2 <= share <= _MOST_SHARE:
        return False
    row, column = (float(at) / SIDE_PX for at in ndimage.center_of_mass(place))
    return _ROWS[0] <= row <= _ROWS[1] and _COLUMNS[0] <= (column if right else 1 - column) <= _COLUMNS[1]


def _hull(place: Bools) -> Bools:
    """Return the convex hull of a mask; the mask itself where it has none."""
    points = np.argwhere(place)
    try:
        equations = ConvexHull(points).equations
    except (QhullError, ValueError):
        return place
    grid = np.stack(np.meshgrid(*(np.arange(length) for length in place.shape), indexing="ij"), axis=-1)
    return np.asarray((grid @ equations[:, :2].T + equations[:, 2] <= 1e-9).all(axis=-1))


# --- lungs that do not show plainly: those of the chests that look most like them --------------------------------

#: Chests are compared in this size, each atlas stretched by all of these factors down and across, and moved by up to
#: this many pixels.
_COMPARED_PX = 64
_FACTORS = (0.85, 1.0, 1.15)
_MOST_SHIFT_PX = 12
#: More chests than this make it slower and hardly better.
_MOST_ATLASES = 60
#: So many of the best fitting atlases vote.
_VOTES = 7


class LungAtlas:
    """Chests whose lungs show plainly, to find the lungs of others by."""

    def __init__(self, chests: Sequence[NDArray[np.uint8]]) -> None:
        """Take the first of `chests` that show their lungs plainly. Raises `ValueError` where too few do."""
        plain = ((chest, fields) for chest in chests if (fields := plain_lung_fields(chest)) is not None)
        found = list(islice(plain, _MOST_ATLASES))
        if len(found) < _VOTES:
            raise ValueError(f"{len(found)} of {len(chests)} chests show their lungs plainly; {_VOTES} are needed.")
        self.size = len(found)
        looks = [(_looks(chest), _resized(fields.lungs.astype(np.float32), _COMPARED_PX)) for chest, fields in found]
        pairs = [
            (_stretched(look, factors), _stretched(lungs, factors))
            for look, lungs in looks
            for factors in product(_FACTORS, _FACTORS)
        ]
        self._lungs = np.stack([lungs for _, lungs in pairs])
        self._spectra = np.stack(
            [np.conj(_spectrum(look)) / max(float(np.linalg.norm(look)), 1e-6) for look, _ in pairs]
        )

    def fields(self, pixels: NDArray[np.uint8]) -> LungFields:
        """Return the lungs of any chest (rows, columns), as squares of 64 pixels, by vote of the best fitting."""
        fit = fft.irfft2(self._spectra * _spectrum(_looks(pixels)), s=(2 * _COMPARED_PX,) * 2)
        steps = np.r_[0 : _MOST_SHIFT_PX + 1, -_MOST_SHIFT_PX:0]
        near = fit[:, steps[:, None], steps].reshape(len(fit), -1)
        best = near.argmax(axis=1)
        chosen = np.argsort(-near.max(axis=1))[:_VOTES]
        moves = [(steps[best[one] // len(steps)], steps[best[one] % len(steps)]) for one in chosen]
        votes = [ndimage.shift(self._lungs[one], move, order=1) for one, move in zip(chosen, moves, strict=True)]
        lungs = np.mean(votes, axis=0) >= 0.5
        return LungFields(lungs, _hull(lungs) & ~lungs)


def agreement(one: LungFields, other: LungFields) -> float:
    """Return the Dice coefficient of the lungs of two masks, on the grid of the second."""
    shown = _resized(one.lungs.astype(np.float32), len(other.lungs)) >= 0.5
    return float(2 * (shown & other.lungs).sum() / (shown.sum() + other.lungs.sum()))


def _looks(pixels: NDArray[np.uint8]) -> Floats:
    """Return a chest without brightness and contrast of its regions, small."""
    image = _resized(pixels.astype(np.float32), SIDE_PX)
    fine = ndimage.gaussian_filter(image, _FINE_PX) - ndimage.gaussian_filter(image, _COARSE_PX)
    spread = np.sqrt(ndimage.gaussian_filter(fine**2, _COARSE_PX)) + 1.0
    return _resized(np.asarray(fine / spread, dtype=np.float32), _COMPARED_PX)


def _stretched(image: Floats, factors: tuple[float, float]) -> Floats:
    """Stretch an image about its middle, in the same frame."""
    inverse = 1 / np.array(factors)
    middle = (np.array(image.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(image, inverse, middle - inverse * middle, order=1), dtype=np.float32)


def _spectrum(image: Floats) -> NDArray[np.complex64]:
    return np.asarray(fft.rfft2(image, s=(2 * _COMPARED_PX,) * 2), dtype=np.complex64)


def _resized(image: Floats, side_px: int) -> Floats:
    smaller = np.divide(image.shape, side_px)
    smooth = ndimage.gaussian_filter(image, np.maximum(0.0, (smaller - 1) / 2))
    return np.asarray(ndimage.zoom(smooth, 1 / smaller, order=1), dtype=np.float32)

"""Whether a radiograph was taken like those a model learned from, told from its rim, and what that does to its score.

A model that was measured on one hospital's framing and collimation says nothing sure about others. How far an image
lies from every known look is measured in units of what 99 % of the training images stay below; how far off the score
was at such distances is measured with whole looks held out, and stands in the card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn.functional import interpolate

from dicom_node.core.errors import ModelUnavailable

Floats = NDArray[np.float64]

#: Images are averaged to this many rows and columns first, so that their resolution says nothing.
_SIDE_PX = 128
#: The rim is this share of rows and columns at each side: chin and neck, arms, upper abdomen, collimator, letters.
_RIM = 0.14
#: Cells along each side of the rim.
_CELLS = 8
#: Distances are told apart here: known, just beyond, and far beyond what is known.
BANDS = (1.0, 1.3)


def rim_of(values: NDArray[np.floating[Any]]) -> Floats:
    """Describe the rim of an image (rows, columns): grey and unevenness of its cells, (64,), whatever its window.

    The inner part, where the lungs lie, only sets the scale: a disease must not make an image unfamiliar.
    """
    plain = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    image = interpolate(plain, size=(_SIDE_PX, _SIDE_PX), mode="area")[0, 0].numpy().astype(np.float64)
    image = (image - image.mean()) / max(float(image.std()), 1e-6)
    deep = round(_RIM * _SIDE_PX)
    sides = (image[:deep].T, image[-deep:].T, image[:, :deep], image[:, -deep:])
    cells = [cell for side in sides for cell in np.array_split(side, _CELLS)]
    return np.array([cell.mean() for cell in cells] + [cell.std() for cell in cells])


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLooks:
    """The looks of the images a model has learned from.

    `means` and `scales` (features,) make features comparable; `directions` (features, n) lead to the main ones, each of
    variance 1; `spanned` (n, features) are the same as unit vectors; `centres` (looks, n) are the looks. `limits` are
    what 99 % of the training images stay below: their distance from the nearest look, and what the main directions
    leave out.
    """

    means: Floats
    scales: Floats
    directions: Floats
    spanned: Floats
    centres: Floats
    limits: Floats

    def distances(self, features: Floats) -> Floats:
        """Return how far images (images, features) lie from what is known, (images,); 1 is the limit."""
        from_look, left_out = self.parts(features)
        found: Floats = np.maximum(from_look / self.limits[0], left_out / self.limits[1])
        return found

    def parts(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the distance from the nearest look and what the main directions leave out, not yet held against the
        limits; each (images,), about 1 for a usual image in every direction."""
        centred = (features - self.means) / self.scales
        main = centred @ self.directions
        from_look = np.sqrt(((main[:, None] - self.centres) ** 2).sum(axis=2).min(axis=1) / main.shape[1])
        rest = centred - (centred @ self.spanned.T) @ self.spanned
        return from_look, np.sqrt((rest**2).sum(axis=1) / max(1, rest.shape[1] - len(self.spanned)))

    def save(self, path: Path) -> None:
        """Write a safetensors file, which holds numbers and no code."""
        save_file({name: np.ascontiguousarray(getattr(self, name)) for name in self.__slots__}, path)


def read_looks(path: Path) -> KnownLooks:
    """Read what `KnownLooks.save` wrote. Raises `ModelUnavailable` when it is missing or holds something else."""
    try:
        found = load_file(path)
        looks = KnownLooks(**{name: found[name].astype(np.float64) for name in KnownLooks.__slots__})
        looks.distances(np.zeros((1, len(looks.means))))
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise ModelUnavailable(
            f"The looks that a model knows cannot be read from {path}: {type(error).__name__}. Restore the file."
        ) from error
    return looks


def familiarity_remark(number: object, distance: float, calibration_errors: tuple[float, ...]) -> str:
    """Return what a reader is told of one image: how uncertain its score is, and whether it was ever calibrated there.

    `calibration_errors` are the expected calibration errors of the bands (`BANDS`), 0 to 1.
    """
    off = 100 * calibration_errors[int(np.searchsorted(BANDS, distance, side="right"))]
    if distance < BANDS[0]:
        return (
            f"Image {number}: taken like known images (distance {distance:.1f}, known is below 1); scores were off by "
            f"{off:.0f} of 100 with their look held out."
        )
    return (
        f"Image {number}: framed or exposed unlike known images (distance {distance:.1f}, known is below 1): not "
        f"calibrated here; scores were off by {off:.0f} of 100 or more."
    )

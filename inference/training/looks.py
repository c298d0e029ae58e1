"""How a radiograph was taken, told from its rim alone: framing, collimation, markers and exposure, without any label.

A split by patient shares one room's habits between its sets, and a network may answer by them. Whole looks that are
held out show what it answers by without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from dicom_node.inference.familiarity import KnownLooks
from dicom_node.inference.training.data import Radiograph

Floats = NDArray[np.float64]

#: The rim is this share of rows and columns at each side: chin and neck, arms, upper abdomen, collimator, letters.
_RIM = 0.14
#: Cells along each side of the rim.
_CELLS = 8
#: So many looks are told apart.
LOOKS = 12


def rim_features(pixels: NDArray[np.uint8]) -> Floats:
    """Describe the rim of an image (rows, columns): the grey of its cells and how uneven each is, (4 sides * 16,).

    The inner part, where the lungs lie, is not looked at: what a disease changes there must not choose the look.
    """
    image = pixels / 255.0
    down, across = (max(1, round(_RIM * length)) for length in image.shape)
    sides = (image[:down].T, image[-down:].T, image[:, :across], image[:, -across:])
    cells = [cell for side in sides for cell in np.array_split(side, _CELLS)]
    return np.array([cell.mean() for cell in cells] + [cell.std() for cell in cells])


def looks_of(radiographs: Sequence[Radiograph], *, count: int, seed: int) -> NDArray[np.intp]:
    """Return the look of each radiograph, 0..count - 1: k-means over the main directions of what rims show.

    Labels are not read. Equal seeds give equal looks. Raises `ValueError` for fewer radiographs than looks.
    """
    if len(radiographs) < count:
        raise ValueError(f"{len(radiographs)} radiographs cannot have {count} looks.")
    features = np.stack([rim_features(radiograph.pixels) for radiograph in radiographs])
    centred = (features - features.mean(axis=0)) / features.std(axis=0).clip(min=1e-6)
    _, widths, directions = np.linalg.svd(centred, full_matrices=False)
    main = centred @ directions[: np.searchsorted(np.cumsum(widths**2) / np.sum(widths**2), 0.8) + 1].T
    _, looks = kmeans2(main, count, minit="++", rng=np.random.default_rng(seed), iter=50)
    return np.asarray(looks, dtype=np.intp)


def known_looks(features: Floats, *, count: int, seed: int) -> KnownLooks:
    """Return the looks that rims (images, features; `familiarity.rim_of`) fall into, to hold other images against.

    Equal seeds give equal looks. Raises `ValueError` for fewer images than looks.
    """
    if len(features) < count:
        raise ValueError(f"{len(features)} radiographs cannot have {count} looks.")
    means, scales = features.mean(axis=0), features.std(axis=0).clip(min=1e-6)
    centred = (features - means) / scales
    _, widths, directions = np.linalg.svd(centred, full_matrices=False)
    main = int(np.searchsorted(np.cumsum(widths**2) / np.sum(widths**2), 0.9)) + 1
    spanned = directions[:main]
    whitening = spanned.T / (widths[:main] / np.sqrt(len(features)))
    centres, _ = kmeans2(centred @ whitening, count, minit="++", rng=np.random.default_rng(seed), iter=50)
    looks = KnownLooks(
        means=means, scales=scales, directions=whitening, spanned=spanned, centres=centres, limits=np.ones(2)
    )
    return replace(looks, limits=np.array([np.quantile(part, 0.99) for part in looks.parts(features)]))


@dataclass(frozen=True, slots=True)
class Fold:
    """Whole looks that one network has not seen, and what it may be trained on: nobody in both."""

    training: tuple[Radiograph, ...]
    held_out: tuple[Radiograph, ...]


def folds_by_look(radiographs: Sequence[Radiograph], *, folds: int, looks: int = LOOKS, seed: int) -> tuple[Fold, ...]:
    """Share whole looks out over folds with about as many normal radiographs each; each radiograph is held out once.

    A patient whose radiographs have several looks is trained on by no network that is asked about any of them. Raises
    `ValueError` for fewer looks than folds.
    """
    if looks < folds:
        raise ValueError(f"{looks} looks cannot be shared out over {folds} folds.")
    look_of = looks_of(radiographs, count=looks, seed=seed)
    normal = np.array([not radiograph.has_pneumonia for radiograph in radiographs])
    weights = [int(normal[look_of == look].sum()) for look in range(looks)]
    fold_of_look = np.zeros(looks, dtype=np.intp)
    filled = np.zeros(folds)
    for look in sorted(range(looks), key=lambda one: -weights[one]):
        fold_of_look[look] = filled.argmin()
        filled[fold_of_look[look]] += weights[look] + 1
    return tuple(_fold(radiographs, fold_of_look[look_of] == fold) for fold in range(folds))


def _fold(radiographs: Sequence[Radiograph], is_held_out: NDArray[np.bool_]) -> Fold:
    held_out = tuple(one for one, out in zip(radiographs, is_held_out, strict=True) if out)
    asked = {one.patient for one in held_out}
    return Fold(tuple(one for one in radiographs if one.patient not in asked), held_out)

"""From the classes of the network to outlined structures with sides, and the figures that a card holds them against.

A network outlines something in whatever it is given: a fruit, a leg, a head upside down. So it leaves numbers that are
other in a brain (`[[check]]` of the card): how sure it is, in how many pieces, how large, how it lies.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from dicom_node.inference.brain.sides import Labels, MidPlane, mid_plane
from dicom_node.inference.runtimes.monai_bundle.outputs import FIGURES

_UNSURE = 0.6
_NEIGHBOURS = np.ones((3, 3, 3), bool)
_SLAB = 16


class Outlinesd(MapTransform):
    """Make labels of logits: the strongest class of each voxel, the largest cluster of all of them, and sides.

    `structures` names the classes from 1 on, each with words: ``two-sided`` keeps its number on the left and has it
    plus `right_from` on the right; a ``pair`` lies in two halves and says where the mid-plane is; the sides of all of
    the ``hemisphere`` are compared, and those of each ``nucleus``. Leaves figures: `mean-probability`,
    `unsure-percent`, `clusters`, `largest-cluster-percent`, `total-ml`, `NAME-ml`, `paired-structures`,
    `tilt-degrees`, `smaller-hemisphere-percent`, `smaller-nucleus-percent`.
    """

    def __init__(self, keys: str, orig_keys: str, structures: Mapping[str, Sequence[str]], right_from: int) -> None:
        super().__init__(keys)
        self._image, self._names, self._right_from = orig_keys, tuple(structures), right_from
        self._two_sided, self._pairs, self._hemispheres, self._nuclei = (
            [place for place, words in enumerate(structures.values(), 1) if word in words]
            for word in ("two-sided", "pair", "hemisphere", "nucleus")
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with labels (1, x, y, z) in place of logits, and with figures."""
        done = dict(data)
        for key in self.key_iterator(done):
            affine_ras = np.asarray(done[self._image].affine, np.float64)
            labels, figures = strongest(torch.as_tensor(done[key]).as_subclass(torch.Tensor))
            figures |= self._volumes(labels, float(abs(np.linalg.det(affine_ras[:3, :3]))) / 1000.0)
            figures |= self._with_sides(labels, affine_ras)
            done[key] = MetaTensor(torch.from_numpy(labels[None].astype(np.float32)), affine=done[self._image].affine)
            done[FIGURES] = {**done.get(FIGURES, {}), **figures}
        return done

    def _volumes(self, labels: Labels, voxel_ml: float) -> dict[str, float]:
        counts = np.bincount(labels.ravel(), minlength=len(self._names) + 1)
        volumes = {f"{name}-ml": counts[place] * voxel_ml for place, name in enumerate(self._names, 1)}
        return {"total-ml": counts[1:].sum() * voxel_ml, **volumes}

    def _with_sides(self, labels: Labels, affine_ras: NDArray[np.float64]) -> dict[str, float]:
        """Number what lies on the right anew, in place; return what is told of the sides."""
        plane = mid_plane(labels, self._pairs, affine_ras)
        if plane is None:
            return {"paired-structures": 0.0}
        right = np.isin(labels, self._two_sided) & ~plane.is_left(labels.shape, affine_ras)
        labels[right] += self._right_from
        counts = np.bincount(labels.ravel(), minlength=2 * self._right_from)
        return {
            **_placed(plane),
            "smaller-hemisphere-percent": self._smaller_side(counts, self._hemispheres),
            "smaller-nucleus-percent": min(self._smaller_side(counts, [one]) for one in self._nuclei),
        }

    def _smaller_side(self, counts: NDArray[np.intp], values: Sequence[int]) -> float:
        """Return which share of structures lies on the side that holds less of them, in percent."""
        sides = [sum(int(counts[one + shift]) for one in values) for shift in (0, self._right_from)]
        return 100.0 * min(sides) / max(1, sum(sides))


def strongest(logits: torch.Tensor) -> tuple[Labels, dict[str, float]]:
    """Return the strongest class of each voxel in the largest cluster, 0 elsewhere, and how sure and how scattered all
    of them were. Slab by slab: probabilities of a whole head would take as much memory as the network."""
    labels = np.zeros(tuple(logits.shape[1:]), np.uint8)
    chance = np.zeros(labels.shape, np.float32)
    for start in range(0, labels.shape[0], _SLAB):
        part = slice(start, start + _SLAB)
        best = torch.softmax(logits[:, part].float(), 0).max(0)
        chance[part], labels[part] = best.values.cpu().numpy(), best.indices.cpu().numpy()
    inside = labels > 0
    sure = chance[inside]
    pieces, count = ndimage.label(inside, _NEIGHBOURS)
    if not count:
        return labels, {"mean-probability": 0.0, "unsure-percent": 100.0, "clusters": 0.0}
    sizes = np.bincount(pieces.ravel())[1:]
    labels[pieces != 1 + int(sizes.argmax())] = 0
    return labels, {
        "mean-probability": float(sure.mean(dtype=np.float64)),
        "unsure-percent": 100.0 * float((sure < _UNSURE).mean()),
        "clusters": float(count),
        "largest-cluster-percent": 100.0 * float(sizes.max() / sizes.sum()),
    }


class CutFacesd(MapTransform):
    """Leave the figure `cut-cm2`: the largest area that the outlines have in an outermost plane of the images, of all
    six. A brain that reaches them was not scanned whole."""

    def __init__(self, keys: str) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the figure; labels are on the grid of the images."""
        done = dict(data)
        for key in self.key_iterator(done):
            found = cut_cm2(np.asarray(done[key])[0] > 0, np.asarray(done[key].affine, np.float64))
            done[FIGURES] = {**done.get(FIGURES, {}), "cut-cm2": found}
        return done


def cut_cm2(inside: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Return the largest area of a mask in a face of its array."""
    steps_mm = np.linalg.norm(affine[:3, :3], axis=0)
    areas = []
    for axis in range(3):
        across_mm2 = float(np.prod(np.delete(steps_mm, axis)))
        areas += [np.count_nonzero(inside.take(end, axis)) * across_mm2 / 100.0 for end in (0, -1)]
    return max(areas)


def _placed(plane: MidPlane) -> dict[str, float]:
    return {"paired-structures": float(plane.pairs), "tilt-degrees": plane.tilt_degrees}

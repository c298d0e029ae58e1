"""Left and right of a brain whose classes hold both: by a plane between the centroids of structures that come in pairs.

The middle of the image is no mid-plane: heads lie turned and off centre.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]
Points = NDArray[np.float64]

_NEIGHBOURS = np.ones((3, 3, 3), bool)
#: A half of a pair holds at least this share of its class: less is a stray piece, or a pair grown together.
_HALF = 0.25
#: A pair whose line lies further from that of the others than this, in degrees, is none.
_ASTRAY_DEGREES = 20.0
#: Of RAS, the world of MONAI: the axis that grows to the patient's right.
_RIGHT = 0


@dataclass(frozen=True, slots=True)
class MidPlane:
    """A plane in the patient (RAS, mm): a point, the unit normal towards the left, and how many pairs say so."""

    point_mm: Points
    to_left: Points
    pairs: int

    @property
    def tilt_degrees(self) -> float:
        """How far the line from right to left is from that of the scanner."""
        return float(np.degrees(np.arccos(np.clip(-self.to_left[_RIGHT], -1.0, 1.0))))

    def is_left(self, shape: Sequence[int], affine_ras: Points) -> NDArray[np.bool_]:
        """Tell for each voxel of a grid whether it lies on the left."""
        along = self.to_left @ affine_ras[:3, :3]
        start = float(self.to_left @ (affine_ras[:3, 3] - self.point_mm))
        x, y, z = (np.arange(size, dtype=np.float32) * step for size, step in zip(shape, along, strict=True))
        found: NDArray[np.bool_] = (x[:, None, None] + y[None, :, None] + z[None, None, :] + start) > 0
        return found


def mid_plane(labels: Labels, paired: Sequence[int], affine_ras: Points) -> MidPlane | None:
    """Find the plane between the halves of the `paired` classes; `None` where no class has two halves."""
    found = list(_halves(labels, paired, affine_ras))
    if not found:
        return None
    lines = np.array([left - right for left, right in found])
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    common = np.median(lines, axis=0)
    common /= np.linalg.norm(common)
    kept = lines @ common > np.cos(np.radians(_ASTRAY_DEGREES))
    if not kept.any():
        return None
    to_left = lines[kept].mean(axis=0)
    middles = np.array([(left + right) / 2 for left, right in found])[kept]
    return MidPlane(middles.mean(axis=0), to_left / np.linalg.norm(to_left), int(kept.sum()))


def _halves(labels: Labels, paired: Sequence[int], affine_ras: Points) -> Iterator[tuple[Points, Points]]:
    """Yield where the left and the right half of each class have their centre, in mm, of classes in two pieces."""
    # A class that is nowhere has no box.
    boxes: list[tuple[slice, ...] | None] = [*ndimage.find_objects(labels, max(paired))]
    for value in paired:
        box = boxes[value - 1]
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == value, _NEIGHBOURS)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        first, second = np.argsort(sizes)[::-1][:2] + 1
        if sizes[second - 1] < _HALF * sizes.sum():
            continue
        centres = ndimage.center_of_mass(np.ones_like(pieces), pieces, [int(first), int(second)])
        corner = [one.start for one in box]
        one, other = (affine_ras[:3, :3] @ np.add(centre, corner) + affine_ras[:3, 3] for centre in centres)
        yield (one, other) if one[_RIGHT] < other[_RIGHT] else (other, one)

"""What the scan cuts off of each lung: at its first or last slice, or at the side of its field of view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.lungs import Lungs
from dicom_node.inference.volume import Volume

Bools = NDArray[np.bool_]

#: More of a lung than this in an end slice is no tip of an apex or recess.
_CUT_AREA_MM2 = 400.0
#: Less of a truncated lung than this tells nothing about the whole one.
_SENSIBLE_PART_ML = 300.0


@dataclass(frozen=True, slots=True)
class SeenLung:
    """One lung as far as the scan shows it: `cut_at` names where it is cut off, in words."""

    name: str
    mask_zyx: Bools
    volume_ml: float
    cut_at: tuple[str, ...]

    @property
    def is_sensible(self) -> bool:
        """Whether its density tells something about the lung: it is whole, or enough of it is seen."""
        return self.volume_ml > 0 and (not self.cut_at or self.volume_ml >= _SENSIBLE_PART_ML)

    @property
    def remark(self) -> str:
        """Say what is missing and what that means for the numbers; empty for a whole or absent lung."""
        if not self.cut_at:
            return ""
        told = f"Lungs truncated: volume not reported. The {self.name} lung reaches {' and '.join(self.cut_at)}; "
        if self.is_sensible:
            return told + "its density is that of the part seen."
        return told + f"only {self.volume_ml:.0f} ml of it are seen, so its density is not reported either."


def seen_lungs(lungs: Lungs, volume: Volume) -> tuple[SeenLung, SeenLung]:
    """Return (left, right)."""
    return _seen("left", lungs.left_zyx, lungs, volume), _seen("right", lungs.right_zyx, lungs, volume)


def _seen(name: str, mask: Bools, lungs: Lungs, volume: Volume) -> SeenLung:
    ends = [f"the {which} slice" for which, plane in (("first", 0), ("last", -1)) if _is_cut(mask[plane], volume)]
    sides = ["the side of the images"] if lungs.cut_by_field and mask.any() else []
    return SeenLung(name, mask, float(mask.sum()) * volume.voxel_ml, tuple(ends + sides))


def _is_cut(plane: Bools, volume: Volume) -> bool:
    pixel_mm2 = volume.spacing_zyx_mm[1] * volume.spacing_zyx_mm[2]
    return float(plane.sum()) * pixel_mm2 > _CUT_AREA_MM2

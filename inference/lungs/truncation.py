"""What the scan cuts off of each lung: at its first or last slice, or at the side of its field of view."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.images.volume import Volume
from dicom_node.inference.lungs.segmentation import Lungs

Bools = NDArray[np.bool_]

#: More of a lung than this in an end slice is no tip of an apex or recess.
_CUT_AREA_MM2 = 400.0
#: Less of a truncated lung than this tells nothing about the whole one.
_SENSIBLE_PART_ML = 300.0
#: A lung of which no more is missing than this is measured as if it were whole, and said to lack it.
_NEARLY_WHOLE = 0.03
#: Over which distance from the end it is seen how a lung tapers.
_TAPER_MM = 10.0


@dataclass(frozen=True, slots=True)
class SeenLung:
    """One lung as far as the scan shows it: `cut_at` names where it is cut off, in words; `missing_ml` is what the
    taper of the lung lets expect beyond the end slices, `None` where it does not taper there."""

    name: str
    mask_zyx: Bools
    volume_ml: float
    cut_at: tuple[str, ...]
    missing_ml: float | None = 0.0

    @property
    def key(self) -> str:
        """Key of its finding."""
        return f"{self.name}-lung"

    @property
    def is_truncated(self) -> bool:
        """Whether too much of it may lie outside the scan for its volume to mean anything."""
        return bool(self.cut_at) and (self.missing_ml is None or self.missing_ml > _NEARLY_WHOLE * self.volume_ml)

    @property
    def is_sensible(self) -> bool:
        """Whether its density tells something about the lung: it is whole, or enough of it is seen."""
        return self.volume_ml > 0 and (not self.is_truncated or self.volume_ml >= _SENSIBLE_PART_ML)

    @property
    def remark(self) -> str:
        """Say what is missing and what that means for the numbers; empty for a whole or absent lung."""
        if not self.cut_at:
            return ""
        reaches = f"The {self.name} lung reaches {' and '.join(self.cut_at)}; "
        if not self.is_truncated:
            return f"{reaches}about {self.missing_ml:.0f} ml of it are outside the scan and not counted."
        told = f"Lungs truncated: volume not reported. {reaches}"
        if self.is_sensible:
            return told + "its density is that of the part seen."
        return told + f"only {self.volume_ml:.0f} ml of it are seen, so its density is not reported either."


def seen_lungs(lungs: Lungs, volume: Volume) -> tuple[SeenLung, SeenLung]:
    """Return (left, right)."""
    left_cut, right_cut = lungs.cut_at_side
    left, right = _seen("left", lungs.left_zyx, volume), _seen("right", lungs.right_zyx, volume)
    return _at_side(left) if left_cut else left, _at_side(right) if right_cut else right


def _seen(name: str, mask: Bools, volume: Volume) -> SeenLung:
    areas_mm2 = mask.sum(axis=(1, 2)) * volume.spacing_zyx_mm[1] * volume.spacing_zyx_mm[2]
    slice_mm = volume.spacing_zyx_mm[0]
    cut_at: list[str] = []
    missing_ml: float | None = 0.0
    for which, towards_inside in (("the first slice", areas_mm2), ("the last slice", areas_mm2[::-1])):
        if towards_inside[0] > _CUT_AREA_MM2:
            cut_at.append(which)
            beyond_ml = _beyond_ml(towards_inside, slice_mm)
            missing_ml = None if missing_ml is None or beyond_ml is None else missing_ml + beyond_ml
    return SeenLung(name, mask, float(mask.sum()) * volume.voxel_ml, tuple(cut_at), missing_ml)


def _at_side(lung: SeenLung) -> SeenLung:
    """Return a lung that a side of the field of view cuts off; an absent one stays as it is."""
    if not lung.volume_ml:
        return lung
    return replace(lung, cut_at=(*lung.cut_at, "the side of the images"), missing_ml=None)


def _beyond_ml(areas_mm2: NDArray[np.float64], slice_mm: float) -> float | None:
    """Return the volume beyond the end if the lung goes on to taper as it does towards it; `None` if it does not taper.

    `areas_mm2` begin at the end slice. A wedge or cone that shrinks by a constant area per mm: area squared over twice
    that.
    """
    step = max(1, round(_TAPER_MM / slice_mm / 2))
    inner = areas_mm2[step : 2 * step + 1 : step]
    if inner.size < 2:
        return None
    slopes = (inner - areas_mm2[0]) / (np.arange(1, 3) * step * slice_mm)
    taper = float(slopes.min())
    return float(areas_mm2[0]) ** 2 / (2 * taper) / 1000.0 if taper > 0 else None

"""What is measured of each lung and of both, and which of these numbers are withheld: each with a coded reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.core.codes import (
    ATTENUATION_COEFFICIENT,
    HOUNSFIELD_UNIT,
    LEFT,
    LOW_ATTENUATION_AREA_950,
    LUNG,
    LUNG_DENSITY_PERCENTILE_15,
    MEAN,
    MILLILITER,
    PERCENT,
    RIGHT,
    VOLUME,
)
from dicom_node.core.entities import Code, Finding, Measurement, Withheld
from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.answers.plausible import held_finding
from dicom_node.inference.cards.outputs import CardMeasurement
from dicom_node.inference.images.volume import Volume
from dicom_node.inference.lungs.kernel import SeriesReconstruction
from dicom_node.inference.lungs.truncation import SeenLung

Bools = NDArray[np.bool_]

PERCENTILE = 15
_SIDES = {"left": LEFT, "right": RIGHT}


@dataclass(frozen=True, slots=True)
class Measuring:
    """What numbers are made of and held against: the volume, how it was reconstructed, the card's ranges."""

    volume: Volume
    reconstruction: SeriesReconstruction
    ranges: tuple[CardMeasurement, ...]
    laa_threshold_hu: float

    def lung(self, one: SeenLung) -> Finding:
        """Measure one lung. A number out of its range costs all of them: what was outlined is no lung."""
        cut = "the scan cuts it off." if one.is_truncated else ""
        finding = self._finding(one.key, f"{one.name.capitalize()} lung", one.mask_zyx, cut)
        number = list(_SIDES).index(one.name) + 1
        return held_finding(replace(finding, laterality=_SIDES[one.name], segment_number=number), self.ranges)

    def both(self, mask_zyx: Bools, *, cut: tuple[str, ...]) -> Finding:
        """Measure both lungs as one; `cut` names those that the scan cuts off."""
        told = f"the scan cuts the {' and the '.join(cut)} lung off." if cut else ""
        return self._finding("both-lungs", "Both lungs", mask_zyx, told)

    def _finding(self, key: str, label: str, mask_zyx: Bools, cut: str) -> Finding:
        """Measure voxels; `cut` says what the scan cuts off, and is empty for what is whole."""
        numbers = _measure(self.volume, mask_zyx, self.laa_threshold_hu)
        reasons = {VOLUME: ("LUNGS_TRUNCATED", cut)} if cut else {}
        if self.reconstruction.is_too_sharp:
            sharp = ("SHARP_KERNEL", f"{self.reconstruction.cause}.")
            reasons |= {_laa_name(self.laa_threshold_hu): sharp, LUNG_DENSITY_PERCENTILE_15: sharp}
        return Finding(
            key=key,
            label=label,
            code=LUNG,
            site=LUNG,
            measurements=tuple(one for one in numbers if one.name not in reasons),
            withheld=tuple(
                Withheld(one.name, reason, f"{label}: {one.label} is not reported: {why}", one.derivation)
                for one in numbers
                if one.name in reasons
                for reason, why in [reasons[one.name]]
            ),
        )


def lung_findings(measuring: Measuring, seen: tuple[SeenLung, SeenLung]) -> tuple[Finding, ...]:
    """Return both lungs, then left and right, as far as enough of them is seen; with numbers only where plausible.

    Raises `NotAnalysable` (IMPLAUSIBLE_VALUE) where neither lung has any.
    """
    lungs = [measuring.lung(one) for one in seen if one.is_sensible]
    implausible = [one for one in lungs if not one.measurements]
    if len(implausible) == len(lungs):
        raise NotAnalysable("IMPLAUSIBLE_VALUE", " ".join(one.message for lung in lungs for one in lung.withheld))
    # What is left of two lungs when one is hardly seen, or is none, is not both.
    if implausible or not all(one.is_sensible or not one.volume_ml for one in seen):
        return tuple(lungs)
    mask_zyx = np.logical_or.reduce([one.mask_zyx for one in seen if one.is_sensible])
    both = measuring.both(mask_zyx, cut=tuple(one.name for one in seen if one.is_truncated))
    return both, *lungs


def _measure(volume: Volume, mask: Bools, laa_threshold_hu: float) -> tuple[Measurement, ...]:
    """Measure the voxels of a mask: volume, mean, share below the threshold, 15th percentile."""
    inside = volume.hu_zyx[mask]
    low = Measurement(_laa_name(laa_threshold_hu), round(float((inside < laa_threshold_hu).mean() * 100), 1), PERCENT)
    return (
        Measurement(VOLUME, float(round(inside.size * volume.voxel_ml)), MILLILITER),
        Measurement(ATTENUATION_COEFFICIENT, round(float(inside.mean(dtype=np.float64)), 1), HOUNSFIELD_UNIT, MEAN),
        low,
        Measurement(LUNG_DENSITY_PERCENTILE_15, float(round(np.percentile(inside, PERCENTILE))), HOUNSFIELD_UNIT),
    )


def _laa_name(threshold_hu: float) -> Code:
    if threshold_hu == -950:
        return LOW_ATTENUATION_AREA_950
    meaning = f"LAA{threshold_hu:g}, lung volume below {threshold_hu:g} HU"
    return Code(f"LAA{abs(threshold_hu):g}", "99AINODE", meaning)

"""What is measured of each lung and of both, and which of these numbers are withheld: each with a coded reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.core.codes import (
    LEFT,
    LUNG,
    LUNG_WEIGHT,
    RIGHT,
    VOLUME,
)
from dicom_node.core.entities import Code, Finding, Withheld
from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.answers.plausible import held_finding
from dicom_node.inference.cards.outputs import CardMeasurement
from dicom_node.inference.images.volume import Volume, patient_axes
from dicom_node.inference.lungs.kernel import SeriesReconstruction
from dicom_node.inference.lungs.numbers import Measured, is_of_density, is_of_thirds, numbers_of
from dicom_node.inference.lungs.regions import LungRegions, regions_of
from dicom_node.inference.lungs.truncation import SeenLung

Bools = NDArray[np.bool_]

_SIDES = {"left": LEFT, "right": RIGHT}


@dataclass(frozen=True, slots=True)
class Measuring:
    """What numbers are made of and held against: the volume, how it was reconstructed, the card's ranges.

    `predicted_capacity_ml` is that of a patient of this height and sex, and `None` where it is not known or means
    nothing; `breathed_out` tells that the series was taken so.
    """

    volume: Volume
    reconstruction: SeriesReconstruction
    ranges: tuple[CardMeasurement, ...]
    laa_threshold_hu: float
    breathed_out: bool = False
    predicted_capacity_ml: float | None = None

    def lung(self, one: SeenLung) -> Finding:
        """Measure one lung. A number out of its range costs all of them: what was outlined is no lung."""
        cut = "the scan cuts it off." if one.is_truncated else ""
        measured = self._measured(one.mask_zyx, (one,))
        finding = self._finding(one.key, f"{one.name.capitalize()} lung", measured, cut)
        number = list(_SIDES).index(one.name) + 1
        return held_finding(replace(finding, laterality=_SIDES[one.name], segment_number=number), self.ranges)

    def both(self, lungs: tuple[SeenLung, ...]) -> Finding:
        """Measure both lungs as one."""
        cut = [one.name for one in lungs if one.is_truncated]
        told = f"the scan cuts the {' and the '.join(cut)} lung off." if cut else ""
        measured = self._measured(np.logical_or.reduce([one.mask_zyx for one in lungs]), lungs)
        return self._finding(
            "both-lungs", "Both lungs", replace(measured, capacity_ml=self.predicted_capacity_ml), told
        )

    def _measured(self, mask_zyx: Bools, lungs: tuple[SeenLung, ...]) -> Measured:
        """Return the voxels of a mask, and the thirds of the lungs in it, as far as every one of them is whole."""
        regions = [None if one.is_truncated else self._regions(one) for one in lungs]
        return Measured(
            inside_hu=self.volume.hu_zyx[mask_zyx],
            voxel_ml=self.volume.voxel_ml,
            laa_threshold_hu=self.laa_threshold_hu,
            regions=tuple(one for one in regions if one is not None) if all(regions) else (),
            breathed_out=self.breathed_out,
        )

    def _regions(self, one: SeenLung) -> LungRegions | None:
        axes = patient_axes(self.volume)
        slice_mm = axes.spacing_mm(self.volume.spacing_zyx_mm)[0]
        return regions_of(axes.view(self.volume.hu_zyx), axes.view(one.mask_zyx), slice_mm)

    def _finding(self, key: str, label: str, measured: Measured, cut: str) -> Finding:
        """Measure voxels; `cut` says what the scan cuts off, and is empty for what is whole."""
        numbers = numbers_of(measured)
        reasons: dict[Code, tuple[str, str]] = {}
        if self.reconstruction.is_too_sharp:
            sharp = ("SHARP_KERNEL", f"{self.reconstruction.cause}.")
            reasons |= {one.name: sharp for one in numbers if is_of_density(one.name)}
            # The parts of what is withheld are not listed one by one.
            numbers = tuple(one for one in numbers if not is_of_thirds(one.name))
        if cut:
            reasons |= dict.fromkeys((VOLUME, LUNG_WEIGHT), ("LUNGS_TRUNCATED", cut))
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
    return measuring.both(tuple(one for one in seen if one.is_sensible)), *lungs

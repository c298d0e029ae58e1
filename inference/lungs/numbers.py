"""The numbers of a lung, or of both: the main ones first, then what regions say, each with its code and unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dicom_node.core.codes import (
    ATTENUATION_COEFFICIENT,
    GODDARD_LIKE_SCORE,
    GRAM,
    GRAM_PER_LITER,
    HOUNSFIELD_UNIT,
    LOW_ATTENUATION_AREA_856,
    LOW_ATTENUATION_AREA_910,
    LOW_ATTENUATION_AREA_950,
    LOW_ATTENUATION_HETEROGENEITY,
    LOW_ATTENUATION_THIRDS,
    LUNG_DENSITY_PERCENTILE_15,
    LUNG_DENSITY_PERCENTILE_15_ADJUSTED,
    LUNG_WEIGHT,
    MEAN,
    MILLILITER,
    NO_UNITS,
    PERCENT,
    PERCENTILE_15_THIRDS,
    PRIVATE_SCHEME,
    THIRDS,
    VOLUME,
)
from dicom_node.core.entities import Code, Measurement
from dicom_node.inference.lungs.adjusted import AIR_HU, adjusted_percentile
from dicom_node.inference.lungs.regions import LungRegions, Values, joined, low_share

PERCENTILE = 15
_ALSO_HU, _GAS_TRAPPING_HU = -910.0, -856.0
_ALWAYS = frozenset({VOLUME, ATTENUATION_COEFFICIENT, LUNG_WEIGHT})
_REGIONAL = frozenset({*LOW_ATTENUATION_THIRDS, *PERCENTILE_15_THIRDS, LOW_ATTENUATION_HETEROGENEITY})


@dataclass(frozen=True, slots=True)
class Measured:
    """Voxels to measure. `regions` are those of each lung among them, none where a lung is not whole; `capacity_ml` is
    what the percentile is adjusted to."""

    inside_hu: Values
    voxel_ml: float
    laa_threshold_hu: float
    regions: tuple[LungRegions, ...]
    breathed_out: bool
    capacity_ml: float | None = None


def is_of_density(name: Code) -> bool:
    """Tell whether a number is one of how density is distributed, which sharp kernels and noise change."""
    return name not in _ALWAYS


def is_of_thirds(name: Code) -> bool:
    """Tell whether a number tells parts of the lung apart."""
    return name in _REGIONAL or (name.scheme == PRIVATE_SCHEME and name.value.endswith(tuple(_suffixes())))


def numbers_of(measured: Measured) -> tuple[Measurement, ...]:
    """Return what is measured, rounded for reporting."""
    inside, threshold_hu = measured.inside_hu, measured.laa_threshold_hu
    volume_ml, mean_hu = inside.size * measured.voxel_ml, float(inside.mean(dtype=np.float64))
    percentile_hu = float(np.percentile(inside, PERCENTILE))
    return (
        Measurement(VOLUME, float(round(volume_ml)), MILLILITER),
        Measurement(ATTENUATION_COEFFICIENT, round(mean_hu, 1), HOUNSFIELD_UNIT, MEAN),
        _share(laa_name(threshold_hu), inside, threshold_hu),
        Measurement(LUNG_DENSITY_PERCENTILE_15, float(round(percentile_hu)), HOUNSFIELD_UNIT),
        *(_share(name, inside, hu) for name, hu in _further_shares(measured)),
        # A millilitre weighs a gram where it is all water, and nothing where it is all air.
        Measurement(LUNG_WEIGHT, float(round(volume_ml * (mean_hu - AIR_HU) / 1000.0)), GRAM),
        *_adjusted(measured, percentile_hu, volume_ml),
        *_regional(measured),
    )


def laa_name(threshold_hu: float) -> Code:
    """Return what the share below a threshold is called."""
    if threshold_hu == -950:
        return LOW_ATTENUATION_AREA_950
    meaning = f"LAA{threshold_hu:g}, lung volume below {threshold_hu:g} HU"
    return Code(f"LAA{abs(threshold_hu):g}", PRIVATE_SCHEME, meaning)


def _share(name: Code, inside: Values, threshold_hu: float) -> Measurement:
    return Measurement(name, round(low_share(inside, threshold_hu), 1), PERCENT)


def _further_shares(measured: Measured) -> Iterator[tuple[Code, float]]:
    """Yield LAA-910, and after breathing out LAA-856, the share that holds trapped gas (Schroeder et al., AJR
    2013;201:W460-W470)."""
    if measured.laa_threshold_hu != _ALSO_HU:
        yield LOW_ATTENUATION_AREA_910, _ALSO_HU
    if measured.breathed_out and measured.laa_threshold_hu != _GAS_TRAPPING_HU:
        yield LOW_ATTENUATION_AREA_856, _GAS_TRAPPING_HU


def _adjusted(measured: Measured, percentile_hu: float, volume_ml: float) -> Iterator[Measurement]:
    # Volume is not reported of lungs that are cut off, nor anything that follows from it.
    if measured.capacity_ml is not None and measured.regions:
        adjusted = adjusted_percentile(percentile_hu, volume_ml, measured.capacity_ml)
        yield Measurement(LUNG_DENSITY_PERCENTILE_15_ADJUSTED, round(adjusted, 1), GRAM_PER_LITER)


def _regional(measured: Measured) -> Iterator[Measurement]:
    """Yield the score by regions, how far the thirds differ, and the thirds."""
    if not measured.regions:
        return
    threshold_hu = measured.laa_threshold_hu
    points = sum(one.points(threshold_hu) for one in measured.regions)
    shares = [share for one in measured.regions for share in one.shares(threshold_hu)]
    yield Measurement(GODDARD_LIKE_SCORE, float(points), NO_UNITS)
    yield Measurement(LOW_ATTENUATION_HETEROGENEITY, round(float(np.std(shares)), 1), PERCENT)
    thirds = joined(measured.regions)
    for name, third in zip(_laa_thirds(threshold_hu), thirds, strict=True):
        yield _share(name, third, threshold_hu)
    for name, third in zip(PERCENTILE_15_THIRDS, thirds, strict=True):
        yield Measurement(name, float(round(np.percentile(third, PERCENTILE))), HOUNSFIELD_UNIT)


def _laa_thirds(threshold_hu: float) -> tuple[Code, ...]:
    if threshold_hu == -950:
        return LOW_ATTENUATION_THIRDS
    value = laa_name(threshold_hu).value
    names = zip(THIRDS, _suffixes(), strict=True)
    return tuple(Code(value + end, PRIVATE_SCHEME, f"LAA{threshold_hu:g}, {third} third") for third, end in names)


def _suffixes() -> tuple[str, ...]:
    return tuple(f"-{third.upper()}" for third in THIRDS)

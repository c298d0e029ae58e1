"""ct-lung-density: volume and density of each lung on chest CT. Measures; makes no diagnosis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis import Analysis, Histogram, Segment
from dicom_node.codes import (
    ANATOMICAL_STRUCTURE,
    ATTENUATION_COEFFICIENT,
    HOUNSFIELD_UNIT,
    LEFT,
    LEFT_LUNG,
    LOW_ATTENUATION_AREA_950,
    LUNG,
    LUNG_DENSITY_PERCENTILE_15,
    MEAN,
    MILLILITER,
    PERCENT,
    RIGHT,
    RIGHT_LUNG,
    VOLUME,
)
from dicom_node.errors import NotAnalysable
from dicom_node.inference.age import age_years
from dicom_node.inference.lungs import Lungs, segment_lungs
from dicom_node.inference.model_run import ModelRun
from dicom_node.inference.orientation import patient_axes
from dicom_node.inference.volume import Volume, read_volume
from dicom_node.model import Code, Finding, Measurement

Bools = NDArray[np.bool_]

_PERCENTILE = 15
_HISTOGRAM_HU = (-1050, -450, 10)
_CUT_AREA_MM2 = 400.0
_THICK_SLICE_MM = 2.5
_KEY_SLICES = 6
_UNEQUAL = 0.25
_ADULT_YEARS = 18
_USUAL_ADULT_ML = (2000.0, 8000.0)


def analyse(run: ModelRun) -> Analysis:
    """Measure the lungs of the largest coherent CT volume of a series.

    Raises `NotAnalysable`: what the gate refuses, NO_LUNGS, or IMPLAUSIBLE_VOLUME.
    """
    with run.stage("read"):
        volume = read_volume(run.images, run.card.gate, run.notes)
    with run.stage("segment"):
        lungs = _segment(volume)
    with run.stage("measure"):
        both = lungs.left_zyx | lungs.right_zyx
        _check_plausible(float(both.sum()) * volume.voxel_ml, run.parameters)
        findings = _findings(volume, lungs, both, run.parameters)
        histogram = _histogram(volume.hu_zyx[both])
    cut = _cut_ends(both, volume)
    run.notes.extend(_unusual_volume(volume, both))
    run.notes.extend(_remarks(volume, lungs, cut=cut))
    return Analysis(
        model=run.identity,
        sources=volume.sources,
        findings=findings,
        segments=_segments(lungs),
        histogram=histogram,
        key_slices=_key_slices(both),
        notes=tuple(run.notes),
        partial=bool(cut),
        stage_times_s=dict(run.stage_times_s),
    )


def _segment(volume: Volume) -> Lungs:
    """Segment in patient axes and bring the masks back to source geometry, so flips and directions cannot matter."""
    axes = patient_axes(volume)
    turned = np.ascontiguousarray(axes.view(volume.hu_zyx)).astype(np.int16, copy=False)
    lungs = segment_lungs(turned, axes.spacing_mm(volume.spacing_zyx_mm))
    return Lungs(
        left_zyx=axes.restore(lungs.left_zyx),
        right_zyx=axes.restore(lungs.right_zyx),
        airways_zyx=axes.restore(lungs.airways_zyx),
        threshold_hu=lungs.threshold_hu,
    )


def _check_plausible(total_ml: float, parameters: Mapping[str, float]) -> None:
    low_ml, high_ml = parameters["min_total_volume_ml"], parameters["max_total_volume_ml"]
    if not low_ml <= total_ml <= high_ml:
        raise NotAnalysable(
            "IMPLAUSIBLE_VOLUME",
            f"What looks like lung measures {total_ml:.0f} ml; {low_ml:.0f} to {high_ml:.0f} ml would be plausible. "
            "The images may not show a whole chest.",
        )


# --- what is measured --------------------------------------------------------------------------------------------


def _findings(volume: Volume, lungs: Lungs, both: Bools, parameters: Mapping[str, float]) -> tuple[Finding, ...]:
    laa_hu = parameters["laa_threshold_hu"]
    wanted = (
        ("both-lungs", "Both lungs", None, both, None),
        ("left-lung", "Left lung", LEFT, lungs.left_zyx, 1),
        ("right-lung", "Right lung", RIGHT, lungs.right_zyx, 2),
    )
    return tuple(
        _finding(key, label, side, number, _measure(volume, mask, laa_hu))
        for key, label, side, mask, number in wanted
        if mask.any()
    )


def _finding(
    key: str, label: str, side: Code | None, segment_number: int | None, measurements: tuple[Measurement, ...]
) -> Finding:
    return Finding(
        key=key,
        label=label,
        code=LUNG,
        site=LUNG,
        laterality=side,
        measurements=measurements,
        segment_number=segment_number,
    )


def _measure(volume: Volume, mask: Bools, laa_threshold_hu: float) -> tuple[Measurement, ...]:
    """Measure the voxels of a mask: volume, mean, share below the threshold, 15th percentile."""
    inside = volume.hu_zyx[mask]
    low = Measurement(_laa_name(laa_threshold_hu), round(float((inside < laa_threshold_hu).mean() * 100), 1), PERCENT)
    return (
        Measurement(VOLUME, float(round(inside.size * volume.voxel_ml)), MILLILITER),
        Measurement(ATTENUATION_COEFFICIENT, round(float(inside.mean(dtype=np.float64)), 1), HOUNSFIELD_UNIT, MEAN),
        low,
        Measurement(LUNG_DENSITY_PERCENTILE_15, float(round(np.percentile(inside, _PERCENTILE))), HOUNSFIELD_UNIT),
    )


def _laa_name(threshold_hu: float) -> Code:
    if threshold_hu == -950:
        return LOW_ATTENUATION_AREA_950
    return Code(f"LAA{abs(threshold_hu):g}", "99AINODE", f"Lung volume below {threshold_hu:g} HU, fraction")


def _histogram(inside_hu: NDArray[np.int16]) -> Histogram:
    edges = np.arange(_HISTOGRAM_HU[0], _HISTOGRAM_HU[1] + 1, _HISTOGRAM_HU[2], dtype=np.float64)
    counts, _ = np.histogram(inside_hu, bins=edges)
    marks = {"-950 HU": -950.0, "15th percentile": float(np.percentile(inside_hu, _PERCENTILE))}
    return Histogram(
        title="Lung density, both lungs", x_label="HU", bin_edges=edges, counts=counts.astype(np.float64), marks=marks
    )


def _segments(lungs: Lungs) -> tuple[Segment, ...]:
    wanted = (
        (1, "Left lung", LEFT_LUNG, lungs.left_zyx, "left-lung", (240, 150, 60)),
        (2, "Right lung", RIGHT_LUNG, lungs.right_zyx, "right-lung", (70, 160, 230)),
    )
    return tuple(
        Segment(
            number=number,
            label=label,
            category=ANATOMICAL_STRUCTURE,
            type=LUNG,
            mask=mask,
            finding_key=key,
            anatomic_region=region,
            color_rgb=color,
        )
        for number, label, region, mask, key, color in wanted
        if mask.any()
    )


def _key_slices(both: Bools) -> tuple[int, ...]:
    """Return slices spread evenly over the lungs, the one with most lung first."""
    areas = both.sum(axis=(1, 2))
    holding = np.nonzero(areas)[0]
    spread = holding[np.linspace(0, len(holding) - 1, min(_KEY_SLICES, len(holding)) + 2).round().astype(int)[1:-1]]
    most = int(areas.argmax())
    return (most, *(int(z) for z in dict.fromkeys(spread.tolist()) if z != most))[:_KEY_SLICES]


# --- what limits the answer --------------------------------------------------------------------------------------


def _cut_ends(both: Bools, volume: Volume) -> tuple[str, ...]:
    """Tell at which ends of the stack the lungs are cut off."""
    pixel_mm2 = volume.spacing_zyx_mm[1] * volume.spacing_zyx_mm[2]
    ends = (("first", both[0]), ("last", both[-1]))
    return tuple(name for name, plane in ends if float(plane.sum()) * pixel_mm2 > _CUT_AREA_MM2)


def _unusual_volume(volume: Volume, both: Bools) -> list[str]:
    """Say so when the aerated lung is not as large as an adult's usually is; a child's may be any size."""
    years = age_years(volume.sources[0])
    total_ml = float(both.sum()) * volume.voxel_ml
    low_ml, high_ml = _USUAL_ADULT_ML
    if (years is not None and years < _ADULT_YEARS) or low_ml <= total_ml <= high_ml:
        return []
    less = total_ml < low_ml
    usual = f"{'Less' if less else 'More'} aerated lung than usual in an adult (2 to 8 l): {total_ml / 1000:.2f} l."
    return [usual + (" Effusion, dense lung and what lies outside the scan are not counted." if less else "")]


def _remarks(volume: Volume, lungs: Lungs, *, cut: tuple[str, ...]) -> list[str]:
    first = volume.sources[0]
    remarks = []
    if cut:
        remarks.append(f"Lungs truncated: they reach the {' and the '.join(cut)} slice, so volumes are too small.")
    if not lungs.left_zyx.any() or not lungs.right_zyx.any():
        absent = "right" if lungs.left_zyx.any() else "left"
        remarks.append(f"No air-filled {absent} lung was found; only the other one is measured.")
    elif _share_of_smaller(lungs) < _UNEQUAL:
        remarks.append("One lung holds far less air than the other; effusion, dense lung and masses are not counted.")
    if not lungs.airways_zyx.any():
        remarks.append("The trachea was not found, so the airways were not removed from the lungs.")
    if first.get("ContrastBolusAgent"):
        remarks.append("Contrast medium was given; it raises lung density.")
    thickness_mm = float(first.get("SliceThickness") or 0.0)
    if thickness_mm > _THICK_SLICE_MM:
        remarks.append(f"Slices are {thickness_mm:g} mm thick; LAA-950 is lower than on thin slices.")
    if 0 < thickness_mm < 0.75 * volume.spacing_zyx_mm[0]:
        remarks.append(f"Slices of {thickness_mm:g} mm lie {volume.spacing_zyx_mm[0]:.1f} mm apart: lung is sampled.")
    return remarks


def _share_of_smaller(lungs: Lungs) -> float:
    left, right = int(lungs.left_zyx.sum()), int(lungs.right_zyx.sum())
    return min(left, right) / (left + right)

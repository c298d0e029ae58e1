"""ct-lung-density: volume and density of each lung on chest CT. Measures; makes no diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, Histogram, Segment
from dicom_node.core.codes import ANATOMICAL_STRUCTURE, LEFT_LUNG, LUNG, RIGHT_LUNG
from dicom_node.core.errors import NotAnalysable
from dicom_node.core.series.facts import is_expiratory
from dicom_node.inference.images.card_gate import age_years
from dicom_node.inference.images.contrast import contrast_was_given
from dicom_node.inference.images.volume import Volume, patient_axes, read_volume
from dicom_node.inference.lungs.adjusted import predicted_capacity_ml
from dicom_node.inference.lungs.findings import Measuring, lung_findings
from dicom_node.inference.lungs.kernel import SeriesReconstruction, reconstruction
from dicom_node.inference.lungs.numbers import PERCENTILE
from dicom_node.inference.lungs.segmentation import Lungs, segment_lungs
from dicom_node.inference.lungs.truncation import SeenLung, seen_lungs
from dicom_node.inference.model_run import ModelRun

Bools = NDArray[np.bool_]
#: Left and right.
Seen = tuple[SeenLung, SeenLung]

#: Number, region and colour of each segment.
_SEGMENTS = {"left-lung": (1, LEFT_LUNG, (240, 150, 60)), "right-lung": (2, RIGHT_LUNG, (70, 160, 230))}
_HISTOGRAM_HU = (-1050, -450, 10)
_THICK_SLICE_MM = 2.5
_KEY_SLICES = 6
_UNEQUAL = 0.25
_ADULT_YEARS = 18
_USUAL_ADULT_ML = (2000.0, 8000.0)


def analyse(run: ModelRun) -> Analysis:
    """Measure the lungs of the largest coherent CT volume of a series.

    Of a lung that the scan cuts off no volume is reported, and its density only where enough of it is seen; of a sharp
    reconstruction neither LAA nor percentile; of a lung with a number outside the card's ranges nothing. Raises
    `NotAnalysable`: what the gate refuses, NO_LUNGS, LUNGS_TRUNCATED, IMPLAUSIBLE_VOLUME or IMPLAUSIBLE_VALUE.
    """
    with run.stage("read"):
        volume = read_volume(run.images, run.card.gate, run.notes)
    with run.stage("segment"):
        lungs = _segment(volume)
    seen = seen_lungs(lungs, volume)
    with run.stage("measure"):
        _check_plausible(seen, run.parameters)
        scan = reconstruction(volume.sources[0], volume.hu_zyx, _union(seen))
        findings = lung_findings(_measuring(run, volume, scan), seen)
        reported = {finding.key for finding in findings if finding.measurements}
        measured = _union([one for one in seen if one.key in reported])
    run.notes.extend(_unusual_volume(volume, seen))
    run.notes.extend(_breathed_out(volume))
    run.notes.extend(_not_asked(volume, scan, seen))
    run.notes.extend(_remarks(volume, lungs, seen))
    run.notes.extend(_thickness(volume) if not scan.is_too_sharp else [])
    run.notes.extend(one.message for finding in findings if finding.key not in reported for one in finding.withheld)
    run.notes.append(scan.remark)
    return Analysis(
        model=run.identity,
        sources=volume.sources,
        findings=findings,
        segments=_segments([one for one in seen if one.key in reported]),
        histogram=None if scan.is_too_sharp else _histogram(volume.hu_zyx[measured]),
        key_slices=_key_slices(measured),
        notes=tuple(run.notes),
        partial=any(one.cut_at or (one.is_sensible and one.key not in reported) for one in seen),
        stage_times_s=dict(run.stage_times_s),
    )


def _measuring(run: ModelRun, volume: Volume, scan: SeriesReconstruction) -> Measuring:
    header = volume.sources[0]
    breathed_out = _is_breathed_out(header)
    capacity_ml = None if breathed_out else predicted_capacity_ml(header)
    return Measuring(
        volume,
        scan,
        run.card.measurements,
        run.parameters["laa_threshold_hu"],
        breathed_out=breathed_out,
        predicted_capacity_ml=capacity_ml if isinstance(capacity_ml, float) else None,
    )


def _is_breathed_out(header: Dataset) -> bool:
    return is_expiratory([str(header.get(keyword) or "") for keyword in ("SeriesDescription", "ProtocolName")])


def _breathed_out(volume: Volume) -> list[str]:
    if not _is_breathed_out(volume.sources[0]):
        return []
    return [
        "The series says that it was taken after breathing out: volumes are smaller and densities higher than in full "
        "inspiration, so LAA-950 and the 15th percentile say little of emphysema."
    ]


def _not_asked(volume: Volume, scan: SeriesReconstruction, seen: Seen) -> list[str]:
    """Say which numbers are left out because this scan, or its header, does not allow them."""
    header = volume.sources[0]
    told = []
    if _is_breathed_out(header):
        told.append("the 15th percentile adjusted for volume (the series was taken after breathing out)")
    else:
        told.append("LAA-856, of trapped gas (the series does not say that it was taken after breathing out)")
        capacity_ml = predicted_capacity_ml(header)
        if isinstance(capacity_ml, str):
            told.append(f"the 15th percentile adjusted for volume ({capacity_ml})")
    if any(one.is_truncated for one in seen):
        told.append("thirds, their heterogeneity and the Goddard-like score of what the scan cuts off")
    elif scan.is_too_sharp:
        told.append("thirds and their heterogeneity (the kernel)")
    return [f"Not reported: {'; '.join(told)}."]


def _union(lungs: Sequence[SeenLung]) -> Bools:
    """Return the voxels of the lungs of which enough is seen."""
    return np.asarray(np.logical_or.reduce([one.mask_zyx for one in lungs if one.is_sensible]))


def _segment(volume: Volume) -> Lungs:
    """Segment in patient axes and bring the masks back to source geometry, so flips and directions cannot matter."""
    axes = patient_axes(volume)
    turned = np.ascontiguousarray(axes.view(volume.hu_zyx)).astype(np.int16, copy=False)
    lungs = segment_lungs(turned, axes.spacing_mm(volume.spacing_zyx_mm))
    return replace(
        lungs,
        left_zyx=axes.restore(lungs.left_zyx),
        right_zyx=axes.restore(lungs.right_zyx),
        airways_zyx=axes.restore(lungs.airways_zyx),
    )


def _check_plausible(seen: Seen, parameters: Mapping[str, float]) -> None:
    total_ml = sum(one.volume_ml for one in seen)
    low_ml, high_ml = parameters["min_total_volume_ml"], parameters["max_total_volume_ml"]
    truncated = any(one.is_truncated for one in seen)
    if truncated and not any(one.is_sensible for one in seen):
        raise NotAnalysable(
            "LUNGS_TRUNCATED",
            f"The scan cuts the lungs off; only {total_ml:.0f} ml of them are seen, too little to measure.",
        )
    if not (0 if truncated else low_ml) <= total_ml <= high_ml:
        raise NotAnalysable(
            "IMPLAUSIBLE_VOLUME",
            f"What looks like lung measures {total_ml:.0f} ml; {low_ml:.0f} to {high_ml:.0f} ml would be plausible. "
            "The images may not show a whole chest.",
        )


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _histogram(inside_hu: NDArray[np.int16]) -> Histogram:
    edges = np.arange(_HISTOGRAM_HU[0], _HISTOGRAM_HU[1] + 1, _HISTOGRAM_HU[2], dtype=np.float64)
    counts, _ = np.histogram(inside_hu, bins=edges)
    marks = {"-950 HU": -950.0, "15th percentile": float(np.percentile(inside_hu, PERCENTILE))}
    return Histogram(
        title="Lung density, both lungs", x_label="HU", bin_edges=edges, counts=counts.astype(np.float64), marks=marks
    )


def _segments(lungs: Sequence[SeenLung]) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            number=number,
            label=f"{one.name.capitalize()} lung",
            category=ANATOMICAL_STRUCTURE,
            type=LUNG,
            mask=one.mask_zyx,
            finding_key=one.key,
            anatomic_region=region,
            color_rgb=color,
        )
        for one in lungs
        for number, region, color in [_SEGMENTS[one.key]]
    )


def _key_slices(both: Bools) -> tuple[int, ...]:
    """Return slices spread evenly over the lungs, the one with most lung first."""
    areas = both.sum(axis=(1, 2))
    holding = np.nonzero(areas)[0]
    spread = holding[np.linspace(0, len(holding) - 1, min(_KEY_SLICES, len(holding)) + 2).round().astype(int)[1:-1]]
    most = int(areas.argmax())
    return (most, *(int(z) for z in dict.fromkeys(spread.tolist()) if z != most))[:_KEY_SLICES]


# --- what limits the answer --------------------------------------------------------------------------------------


def _unusual_volume(volume: Volume, seen: Seen) -> list[str]:
    """Say so when the aerated lung is not as large as an adult's usually is; a child's may be any size."""
    years = age_years(volume.sources[0])
    total_ml = sum(one.volume_ml for one in seen)
    low_ml, high_ml = _USUAL_ADULT_ML
    less = total_ml < low_ml
    cut = any(one.is_truncated for one in seen)
    if (years is not None and years < _ADULT_YEARS) or low_ml <= total_ml <= high_ml or (less and cut):
        return []
    usual = f"{'Less' if less else 'More'} aerated lung than usual in an adult (2 to 8 l): {total_ml / 1000:.2f} l."
    return [usual + (" Effusion, dense lung and what lies outside the scan are not counted." if less else "")]


def _remarks(volume: Volume, lungs: Lungs, seen: Seen) -> list[str]:
    first = volume.sources[0]
    remarks = [one.remark for one in seen if one.remark]
    if not lungs.left_zyx.any() or not lungs.right_zyx.any():
        absent = "right" if lungs.left_zyx.any() else "left"
        remarks.append(f"No air-filled {absent} lung was found; only the other one is measured.")
    elif _share_of_smaller(lungs) < _UNEQUAL:
        less = min(seen, key=lambda one: one.volume_ml)
        remarks.append(
            f"The {less.name} lung holds {less.volume_ml:.0f} ml of air, far less than the other: effusion, dense lung "
            "and masses, which may fill its side of the chest, are not counted."
        )
    if lungs.empty_ml:
        remarks.append(
            f"About {lungs.empty_ml:.0f} ml of what is counted as lung is gas without any tissue in it: a bulla or a "
            "pneumothorax. It raises LAA and volume."
        )
    if not lungs.airways_zyx.any():
        remarks.append("The trachea was not found, so the airways were not removed from the lungs.")
    elif not lungs.airways_are_whole:
        remarks.append("The trachea was not followed to its division: what is below is counted as lung, some 10 ml.")
    if contrast_was_given(first):
        remarks.append("Contrast medium was given; it raises lung density.")
    thickness_mm = float(first.get("SliceThickness") or 0.0)
    if 0 < thickness_mm < 0.75 * volume.spacing_zyx_mm[0]:
        remarks.append(f"Slices of {thickness_mm:g} mm lie {volume.spacing_zyx_mm[0]:.1f} mm apart: lung is sampled.")
    return remarks


def _thickness(volume: Volume) -> list[str]:
    """Say what thick slices do to a share that is reported."""
    thickness_mm = float(volume.sources[0].get("SliceThickness") or 0.0)
    if thickness_mm <= _THICK_SLICE_MM:
        return []
    return [f"Slices are {thickness_mm:g} mm thick; LAA-950 is lower than on thin slices."]


def _share_of_smaller(lungs: Lungs) -> float:
    left, right = int(lungs.left_zyx.sum()), int(lungs.right_zyx.sum())
    return min(left, right) / (left + right)

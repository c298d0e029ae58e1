"""A second opinion on the lungs of public chests: another algorithm, from seeds set by hand, beside `ct-lung-density`.

``python -m tools.lung_reference FOLDER [NAME …]`` prints the table of docs/explanation/shipped-models.md; FOLDER holds
clones of the repositories that `lung_seeds.toml` names. Nothing of `inference.lungs` is used for the reference:

- air is what is darker than a fixed -500 HU, where the model seeks a threshold of its own;
- the airways are grown from a seed in the trachea at the highest threshold that does not leak into the lung (Mori et
  al., IEEE TMI 2000;19:103-114), where the model follows them slice by slice;
- lungs, gas of the bowel and outside air flood from their seeds, the widest spaces first (a watershed of the distance
  to tissue from markers), where the model takes connected pieces and judges what they are.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels import apply_rescale
from scipy import ndimage

from dicom_node.inference.lungs.segmentation import segment_lungs

Bools = NDArray[np.bool_]
Values = NDArray[np.int16]
Labels = NDArray[np.uint8]
Spacing = tuple[float, float, float]

SEEDS = Path(__file__).with_name("lung_seeds.toml")
_AIR_HU = -500
_RIGHT, _LEFT, _GAS, _OUTSIDE = 1, 2, 3, 4
_AIRWAY_STEPS_HU = range(-600, -1000, -10)
#: What trachea and bronchi hold: less is a part of them, more has leaked into a lung.
_AIRWAY_ML = (10.0, 90.0)
#: Flooded is on a grid of about this; the borders are drawn on the full one.
_GRID_MM = 2.0
#: How far the blurred border of a lumen reaches.
_WALL_MM = 1.5
#: How far from tissue the air is given to the seeds, one after the other.
_DEPTHS_MM = (8.0, 6.0, 4.0, 2.5, 0.0)
_VESSEL_MM = 4.0
_VESSEL_MM2 = 250.0


@dataclass(frozen=True)
class PublicChest:
    """One public chest: slices from the feet, rows from the front, columns from the patient's right."""

    name: str
    hu_zyx: Values
    spacing_zyx_mm: Spacing
    seeds: Mapping[str, Any]

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_zyx_mm)) / 1000.0


@dataclass(frozen=True)
class Numbers:
    """What is compared: volumes of left and right, and of both LAA-950 and the 15th percentile."""

    left_ml: float
    right_ml: float
    laa950_percent: float
    percentile15_hu: float

    @classmethod
    def of(cls, left: Bools, right: Bools, study: PublicChest) -> Numbers:
        inside = study.hu_zyx[left | right]
        return cls(
            float(left.sum()) * study.voxel_ml,
            float(right.sum()) * study.voxel_ml,
            float((inside < -950).mean() * 100),
            float(np.percentile(inside, 15)),
        )

    @property
    def total_ml(self) -> float:
        return self.left_ml + self.right_ml


def read(name: str, seeds: Mapping[str, Any], root: Path) -> PublicChest:
    """Read a chest of the table from the clones in `root`."""
    paths = sorted((root / seeds["folder"]).glob(seeds["files"]))
    if not paths:
        raise FileNotFoundError(f"{name}: no file {seeds['files']} in {root / seeds['folder']}")
    hu_zyx, spacing = _nifti(paths[0]) if paths[0].name.endswith(".nii.gz") else _dicom(paths, seeds)
    return PublicChest(name, np.clip(hu_zyx, -1024, 3000).astype(np.int16), spacing, seeds)


def _nifti(path: Path) -> tuple[NDArray[np.float64], Spacing]:
    image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
    width, depth, height = (float(mm) for mm in image.header.get_zooms())
    # Canonical axes run to the right, the front and the head.
    return np.rint(image.get_fdata()).transpose(2, 1, 0)[:, ::-1, ::-1], (height, depth, width)


def _dicom(paths: Sequence[Path], seeds: Mapping[str, Any]) -> tuple[NDArray[np.float64], Spacing]:
    images = [dcmread(path) for path in paths]
    kernel, acquisition = seeds.get("kernel"), seeds.get("acquisition")
    images = [one for one in images if "ImagePositionPatient" in one]
    images = [one for one in images if kernel is None or one.get("ConvolutionKernel") == kernel]
    images = [one for one in images if acquisition is None or one.get("AcquisitionNumber") == acquisition]
    images.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    first, second = images[:2]
    slice_mm = float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    rows_mm, columns_mm = (float(mm) for mm in first.PixelSpacing)
    return np.stack([apply_rescale(one.pixel_array, one) for one in images]), (slice_mm, rows_mm, columns_mm)


# --- the reference ---------------------------------------------------------------------------------------------------


def reference(study: PublicChest) -> tuple[Bools, Bools]:
    """Return (left, right) lung by the other algorithm."""
    air: Bools = study.hu_zyx < _AIR_HU
    airway = _with_wall(_airway(study), study)
    every = tuple(max(1, int(_GRID_MM / mm)) for mm in study.spacing_zyx_mm)
    sampled = tuple(slice(None, None, step) for step in every)
    labels = np.zeros_like(airway[sampled], np.uint8)
    # Outside: the first and last row and column.
    labels[:, [0, -1]] = labels[:, :, [0, -1]] = _OUTSIDE
    for label, name in ((_RIGHT, "right"), (_LEFT, "left"), (_GAS, "gas")):
        for voxel in study.seeds[name]:
            labels[tuple(at // step for at, step in zip(voxel, every, strict=True))] = label
    spacing: Spacing = tuple(mm * step for mm, step in zip(study.spacing_zyx_mm, every, strict=True))  # type: ignore[assignment]
    labels = _flooded(labels, (air & ~airway)[sampled], spacing)
    labels = np.where(labels > 0, labels, ndimage.grey_dilation(labels, size=3))
    for axis, step in enumerate(every):
        labels = np.repeat(labels, step, axis=axis)
    labels = labels[tuple(slice(size) for size in air.shape)]
    left, right = (air & ~airway & (labels == label) for label in (_LEFT, _RIGHT))
    return _with_vessels(left, right | airway, study), _with_vessels(right, left | airway, study)


def _flooded(labels: Labels, air: Bools, spacing_zyx_mm: Spacing) -> Labels:
    """Return the air given to the seeds, the widest spaces first: what is joined by a strait only stays apart."""
    depth_mm = ndimage.distance_transform_edt(air, sampling=spacing_zyx_mm)
    for least_mm in _DEPTHS_MM:
        parts, count = ndimage.label((depth_mm > least_mm) | (air & (labels > 0)))
        numbers = np.arange(count + 1)
        highest = ndimage.maximum(labels, parts, numbers).astype(np.uint8)
        lowest = ndimage.minimum(np.where(labels > 0, labels, 255), parts, numbers).astype(np.uint8)
        highest[0] = 0
        free = (parts > 0) & (labels == 0)
        only = np.where(lowest == highest, highest, 0)
        contested = ((highest > 0) & (lowest < highest))[parts]
        labels = np.where(free, only[parts], labels)
        if contested.any():
            # What several reach goes to the one that is nearest.
            _, nearest = ndimage.distance_transform_edt(
                ~(contested & (labels > 0)), sampling=spacing_zyx_mm, return_indices=True
            )
            labels = np.where(free & contested, labels[tuple(nearest)], labels)
    return labels


def _with_wall(lumen: Bools, study: PublicChest) -> Bools:
    """Return the airways with the blurred border of their lumen."""
    reach = max(1, round(_WALL_MM / study.spacing_zyx_mm[1]))
    cross = ndimage.generate_binary_structure(2, 1)[None]
    walled: Bools = ndimage.binary_dilation(lumen, cross, iterations=reach)
    return walled


def _airway(study: PublicChest) -> Bools:
    """Return the lumen of trachea and bronchi: grown from the seed, at the highest threshold that does not leak."""
    seed, cross = tuple(study.seeds["trachea"]), ndimage.generate_binary_structure(2, 1)[None]
    for pixels in (0, 1, 2):
        for threshold_hu in _AIRWAY_STEPS_HU:
            dark = study.hu_zyx < threshold_hu
            dark = ndimage.binary_erosion(dark, cross, iterations=pixels) if pixels else dark
            labels, _ = ndimage.label(dark)
            grown: Bools = (labels == labels[seed]) & dark
            if _AIRWAY_ML[0] <= float(grown.sum()) * study.voxel_ml <= _AIRWAY_ML[1]:
                return ndimage.binary_dilation(grown, cross, iterations=pixels) if pixels else grown
    raise ValueError(f"{study.name}: the airways leak at every threshold")


def _with_vessels(lung: Bools, other: Bools, study: PublicChest) -> Bools:
    """Return a lung with its vessels: narrow gaps closed in each slice, and small holes filled."""
    rows_mm, columns_mm = study.spacing_zyx_mm[1:]
    most_px = _VESSEL_MM2 / (rows_mm * columns_mm)
    found = lung.copy()
    for z in np.nonzero(lung.any(axis=(1, 2)))[0]:
        far = ndimage.distance_transform_edt(~np.pad(lung[z], 20), sampling=(rows_mm, columns_mm)) > _VESSEL_MM
        closed = ndimage.distance_transform_edt(~far, sampling=(rows_mm, columns_mm)) > _VESSEL_MM
        found[z] |= closed[20:-20, 20:-20]
        holes, _ = ndimage.label(ndimage.binary_fill_holes(found[z]) & ~found[z])
        found[z] |= (holes > 0) & (np.bincount(holes.ravel()) <= most_px)[holes]
    return found & ~other


# --- the comparison --------------------------------------------------------------------------------------------------


def compared(study: PublicChest) -> tuple[Numbers, Numbers]:
    """Return the numbers of the reference and of the model's own segmentation."""
    lungs = segment_lungs(study.hu_zyx, study.spacing_zyx_mm)
    left, right = reference(study)
    return Numbers.of(left, right, study), Numbers.of(lungs.left_zyx, lungs.right_zyx, study)


def row(study: PublicChest) -> str:
    """Return the table's row of one chest: reference / model."""
    theirs, ours = compared(study)
    off = (ours.total_ml / theirs.total_ml - 1) * 100
    cells = (
        f"{study.seeds['title']}{' *' if study.seeds['tuned'] else ''}",
        f"{theirs.left_ml:.0f} / {ours.left_ml:.0f}",
        f"{theirs.right_ml:.0f} / {ours.right_ml:.0f}",
        f"{off:+.1f} %",
        f"{theirs.laa950_percent:.2f} / {ours.laa950_percent:.2f}",
        f"{theirs.percentile15_hu:.0f} / {ours.percentile15_hu:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    """Print the table of the chests that are there."""
    root, names = Path(arguments[0]), arguments[1:]
    sys.stdout.write("| chest | left, ml | right, ml | both | LAA-950, % | P15, HU |\n|---|---|---|---|---|---|\n")
    for name, seeds in tomllib.loads(SEEDS.read_text()).items():
        if not names or name in names:
            sys.stdout.write(f"{row(read(name, seeds, root))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

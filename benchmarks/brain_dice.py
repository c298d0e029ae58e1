"""How far the outlines of mr-brain-volumes are from labels of FreeSurfer, as the Dice coefficient of each structure.

Run ``python -m benchmarks.brain_dice IMAGE LABELS``: NIfTI files (.nii, .nii.gz) of one grid, or the same .npz with
`vol` and `seg` for both, whose axes are said by ``--axes`` (LIA: left, inferior, anterior; 1 mm). Such an .npz is
`data/test_scan.npz` of the repository voxelmorph/voxelmorph, one scan of OASIS with labels by FreeSurfer. The gates
and checks of the card do not apply here: what the network says is measured as it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes.monai_bundle.model import load

MODEL = SHIPPED_MODELS / "mr-brain-volumes"
RIGHT_FROM = 32
#: Labels of FreeSurfer's aseg by class of the network, left and right; in the middle both are one.
ASEG: dict[str, tuple[int, ...]] = {
    "cerebral-white-matter": (2, 41),
    "cerebral-cortex": (3, 42),
    "lateral-ventricle": (4, 43),
    "inferior-horn": (5, 44),
    "cerebellar-white-matter": (7, 46),
    "cerebellar-cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "third-ventricle": (14,),
    "fourth-ventricle": (15,),
    "brainstem": (16,),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "ventral-diencephalon": (28, 60),
}
_UNSIDED = frozenset({"cerebellar-white-matter", "cerebellar-cortex", "ventral-diencephalon"})
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TOWARDS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}

Volume = NDArray[Any]


def read(path: Path, name: str, axes: str) -> tuple[Volume, NDArray[np.float64]]:
    """Return a volume and its affine (RAS, mm)."""
    if path.suffix == ".npz":
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for column, letter in enumerate(axes):
            row, sign = _TOWARDS[letter]
            affine[row, column] = sign
        return np.load(path)[name], affine
    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj), np.asarray(image.affine, np.float64)


def outlined(image: Volume, affine_ras: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the classes of the model, with sides, on the voxels of the image."""
    values = np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 1, 0))[None]
    given = ModelInput(values=values, affine_lps_mm=_RAS_TO_LPS @ affine_ras)
    (prediction,) = load(load_card(MODEL), "cpu").predict([given])
    if prediction.labels is None:
        raise SystemExit("The model gave no labels.")
    return prediction.labels.transpose(2, 1, 0)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks; not a number where both are empty."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else float("nan")


def table(found: NDArray[np.uint8], labels: Volume, voxel_ml: float) -> list[tuple[str, float, float, float]]:
    """Return for each structure and side: name, Dice, volume by the labels and by the model, ml."""
    rows = []
    for value, (name, known) in enumerate(ASEG.items(), 1):
        sided = len(known) > 1 and name not in _UNSIDED
        parts = (
            [("left ", known[:1], value), ("right ", known[1:], value + RIGHT_FROM)] if sided else [("", known, value)]
        )
        for side, numbers, number in parts:
            truth, mask = np.isin(labels, numbers), found == number
            rows.append((side + name, dice(mask, truth), truth.sum() * voxel_ml, mask.sum() * voxel_ml))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--axes", default="LIA", help="of .npz: the sides that its axes grow to")
    options = parser.parse_args()
    image, affine = read(options.image, "vol", options.axes)
    labels, _ = read(options.labels, "seg", options.axes)
    if image.shape != labels.shape:
        parser.error(f"the image has {image.shape} voxels and the labels {labels.shape}: they must be of one grid")
    started = time.perf_counter()
    found = outlined(image, affine)
    rows = table(found, labels, abs(float(np.linalg.det(affine[:3, :3]))) / 1000)
    print(f"{'structure':34}{'Dice':>7}{'labels ml':>11}{'model ml':>10}")
    for name, value, truth_ml, model_ml in rows:
        print(f"{name:34}{value:7.3f}{truth_ml:11.2f}{model_ml:10.2f}")
    structures = [
        np.nanmean([row[1] for row in rows if row[0].removeprefix("left ").removeprefix("right ") == name])
        for name in ASEG
    ]
    print(f"mean of {len(ASEG)} structures {np.mean(structures):.3f}; {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

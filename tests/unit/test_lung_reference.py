"""The second opinion on the lungs of public chests: right on a chest that was drawn, and read as it lies."""

from __future__ import annotations

import tomllib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.integration import chests
from tests.integration.chests import Scan
from tools.lung_reference import SEEDS, Numbers, PublicChest, read, reference


def drawn(scan: Scan) -> tuple[chests.Chest, PublicChest]:
    body, scan = chests.scanned(chests.diaphragm, scan)

    def voxel(x_mm: float, y_mm: float, z_mm: float) -> list[int]:
        grid = scan.grid
        places = ((grid.z_mm, z_mm), (grid.y_mm, y_mm), (grid.x_mm, x_mm))
        return [int(np.abs(axis - at).argmin()) for axis, at in places]

    seeds = {
        "right": [voxel(-85, 20, 0)],
        "left": [voxel(85, 20, 0)],
        "trachea": voxel(0, 20, 110),
        "gas": [voxel(85, -10, -140)],
    }
    return body, PublicChest(
        "drawn", body.hu_zyx.astype(np.int16), (scan.spacing_mm, scan.pixel_mm, scan.pixel_mm), seeds
    )


def test_the_other_algorithm_finds_the_lungs_that_were_drawn() -> None:
    body, study = drawn(Scan())

    left, right = reference(study)

    found, truth = Numbers.of(left, right, study), Numbers.of(body.left_lung_zyx, body.right_lung_zyx, study)
    assert found.left_ml == pytest.approx(truth.left_ml, rel=0.04)
    assert found.right_ml == pytest.approx(truth.right_ml, rel=0.04)
    assert found.laa950_percent == pytest.approx(truth.laa950_percent, abs=0.5)
    # The stomach, which no voxel of a diaphragm parts from the lung, is none of it.
    assert found.laa950_percent < 12


def test_the_reference_uses_nothing_of_the_models_segmentation() -> None:
    source = SEEDS.with_name("lung_reference.py").read_text(encoding="utf-8")

    assert source.count("dicom_node.inference.lungs") == 1
    assert source.count("segment_lungs(") == 1


def test_a_nifti_volume_is_turned_as_it_says_it_lies(tmp_path: Path) -> None:
    values = np.full((4, 5, 6), 40, np.int16)
    # The voxel nearest to the patient's right, front and head of an image that runs left, back, feet.
    values[3, 0, 5] = -900
    affine = np.diag([2.0, 3.0, 4.0, 1.0]) @ np.diag([1.0, -1.0, 1.0, 1.0])
    folder = tmp_path / "clone"
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "one.nii.gz")

    study = read("one", {"folder": "clone", "files": "*.nii.gz"}, tmp_path)

    assert study.spacing_zyx_mm == pytest.approx((4.0, 3.0, 2.0))
    assert np.argwhere(study.hu_zyx == -900).tolist() == [[5, 0, 0]]


def test_every_public_chest_of_the_table_has_its_seeds() -> None:
    table = tomllib.loads(SEEDS.read_text(encoding="utf-8"))

    assert sum(not one["tuned"] for one in table.values()) >= 5
    for name, one in table.items():
        assert all(len(voxel) == 3 for key in ("right", "left", "gas") for voxel in one[key]), name
        assert one["right"], name
        assert one["left"], name

"""ct-lung-density beyond the textbook chest: contrast, posture, slice thickness, what the scan cuts off, no lung."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.codes import LOW_ATTENUATION_AREA_950, VOLUME
from dicom_node.demo.phantoms import Chest
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from tests.integration import chests
from tests.integration.chests import Scan
from tests.support.studies import volumes
from tests.support.studies.data_factories import request_for

MODEL = SHIPPED_MODELS / "ct-lung-density"
FEET_FIRST = np.diag([-1.0, 1.0, -1.0, 1.0])
PRONE = np.diag([-1.0, -1.0, 1.0, 1.0])


def run(datasets: list[Dataset], folder: Path) -> Analysis | NotAnalysed:
    return run_model(request_for(datasets, MODEL, folder))


def measured(datasets: list[Dataset], folder: Path) -> Analysis:
    answer = run(datasets, folder)
    assert isinstance(answer, Analysis), answer.message
    return answer


def declined(datasets: list[Dataset], folder: Path) -> str:
    answer = run(datasets, folder)
    assert isinstance(answer, NotAnalysed), answer.notes
    return answer.reason


def volumes_ml(answer: Analysis) -> dict[str, float]:
    return {f.key: m.value for f in answer.findings for m in f.measurements if m.name == VOLUME}


def means_hu(answer: Analysis) -> dict[str, float]:
    return {f.key: m.value for f in answer.findings for m in f.measurements if m.derivation is not None}


def percentages(answer: Analysis) -> dict[str, float]:
    return {f.key: m.value for f in answer.findings for m in f.measurements if m.name == LOW_ATTENUATION_AREA_950}


def tells_of_gas(answer: Analysis) -> bool:
    return any("gas without any tissue in it: a bulla or a pneumothorax" in note for note in answer.notes)


def true_ml(mask: NDArray[np.bool_], scan: Scan) -> float:
    return float(mask.sum()) * scan.voxel_ml


def assert_meets_truth(answer: Analysis, body: Chest, scan: Scan, within: float = 0.03) -> None:
    found, masks = volumes_ml(answer), {"left-lung": body.left_lung_zyx, "right-lung": body.right_lung_zyx}
    for key, mask in masks.items():
        assert found.get(key, 0.0) == pytest.approx(true_ml(mask, scan), rel=within)
        if mask.any():
            assert means_hu(answer)[key] == pytest.approx(float(body.hu_zyx[mask].mean()), abs=8)


def test_contrast_medium_changes_neither_volume_nor_place(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.contrast)

    answer = measured(chests.series(body, scan, ContrastBolusAgent="IOHEXOL"), tmp_path)

    assert_meets_truth(answer, body, scan)
    assert "Contrast medium was given; it raises lung density." in answer.notes


def test_a_prone_patient_with_the_table_in_front_is_measured_alike(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.prone)
    turned = body.hu_zyx[:, ::-1, ::-1].astype(np.int16)
    place = scan.affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
    place[:3, 3] = (scan.affine @ [scan.rows - 1, scan.rows - 1, 0, 1])[:3]

    answer = measured(volumes.classic(turned, place, name="prone", PatientAge="055Y"), tmp_path)

    assert_meets_truth(answer, body, scan)


def test_a_patient_scanned_feet_first_has_left_and_right_at_their_sides(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.effusion)
    turned = body.hu_zyx[::-1, :, ::-1].astype(np.int16)
    place = scan.affine @ FEET_FIRST
    place[:3, 3] = (scan.affine @ [scan.rows - 1, 0, len(turned) - 1, 1])[:3]

    answer = measured(volumes.classic(turned, place, name="feet", PatientAge="055Y"), tmp_path)

    assert_meets_truth(answer, body, scan, within=0.05)


@pytest.mark.parametrize(("spacing_mm", "rows"), [(1.0, 72), (2.5, 96), (10.0, 128)])
def test_thin_and_thick_slices_give_the_same_lungs(tmp_path: Path, spacing_mm: float, rows: int) -> None:
    body, scan = chests.scanned(scan=Scan(spacing_mm=spacing_mm, rows=rows))

    answer = measured(chests.series(body, scan), tmp_path)

    assert_meets_truth(answer, body, scan, within=0.04)
    assert any("mm thick; LAA-950 is lower" in note for note in answer.notes) is (spacing_mm > 2.5)


def test_fluid_in_the_pleural_space_is_no_lung_and_is_told(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.effusion)

    answer = measured(chests.series(body, scan), tmp_path)

    assert_meets_truth(answer, body, scan, within=0.05)
    segmented = next(s.mask for s in answer.segments if s.finding_key == "right-lung")
    assert not (segmented & (body.hu_zyx > 0) & (body.hu_zyx < 25)).sum() > 0.03 * segmented.sum()


def test_one_lung_is_measured_and_the_absent_one_told(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.one_lung)

    answer = measured(chests.series(body, scan), tmp_path)

    assert_meets_truth(answer, body, scan)
    assert "No air-filled right lung was found; only the other one is measured." in answer.notes
    assert [segment.finding_key for segment in answer.segments] == ["left-lung"]


def test_stomach_and_liver_under_the_diaphragm_are_no_lung(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.diaphragm)

    answer = measured(chests.series(body, scan), tmp_path)

    assert_meets_truth(answer, body, scan)
    lungs = np.logical_or(*(segment.mask for segment in answer.segments))
    stomach = scan.grid.ellipsoid((85, -10, -140), (44, 50, 46))
    assert lungs[stomach].mean() < 0.01


def test_bullae_are_lung_and_told(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.bullae)

    answer = measured(chests.series(body, scan), tmp_path)

    assert_meets_truth(answer, body, scan)
    both = body.left_lung_zyx | body.right_lung_zyx
    assert percentages(answer)["both-lungs"] == pytest.approx(float((body.hu_zyx[both] < -950).mean() * 100), abs=1.0)
    assert tells_of_gas(answer)


def test_a_pneumothorax_is_told(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.pneumothorax)

    assert tells_of_gas(measured(chests.series(body, scan), tmp_path))


def test_arms_foam_and_blanket_at_the_sides_of_the_images_cut_no_lung_off(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.arms_down)

    answer = measured(chests.series(body, scan), tmp_path)

    assert_meets_truth(answer, body, scan)
    assert not answer.partial


def test_the_foam_of_a_table_that_a_thin_chest_wall_touches_is_no_lung(tmp_path: Path) -> None:
    body, scan = chests.scanned(chests.thin_wall_on_a_table)

    answer = measured(chests.series(body, scan, SeriesDescription="Thorax EXP 5.0"), tmp_path)

    assert_meets_truth(answer, body, scan)
    assert [note for note in answer.notes if "taken after breathing out" in note]


def test_a_side_of_the_images_that_cuts_one_lung_leaves_the_other_its_volume(tmp_path: Path) -> None:
    body, scan = chests.scanned()
    narrow = body.hu_zyx[:, :, 14:]
    place = scan.affine.copy()
    place[:3, 3] = (scan.affine @ [14, 0, 0, 1])[:3]

    answer = measured(volumes.classic(narrow.astype(np.int16), place, name="side", PatientAge="055Y"), tmp_path)

    assert answer.partial
    assert volumes_ml(answer) == {"left-lung": pytest.approx(true_ml(body.left_lung_zyx, scan), rel=0.03)}
    assert any("The right lung reaches the side of the images" in note for note in answer.notes)


def test_a_volume_that_was_reformatted_to_coronal_planes_is_measured_alike(tmp_path: Path) -> None:
    body, scan = chests.scanned()
    # Rows run to the feet, columns to the left, slices to the front.
    coronal = body.hu_zyx.transpose(1, 0, 2)[::-1, ::-1].astype(np.int16)
    last_row, last_slice = scan.rows - 1, len(body.hu_zyx) - 1
    turned = np.array([[1, 0, 0, 0], [0, 0, -1, last_row], [0, -1, 0, last_slice], [0, 0, 0, 1.0]])

    answer = measured(volumes.classic(coronal, scan.affine @ turned, name="coronal", PatientAge="055Y"), tmp_path)

    assert_meets_truth(answer, body, scan)


@pytest.mark.parametrize(("low", "high", "end"), [(-160.0, 20.0, "last"), (-20.0, 160.0, "first")])
def test_of_half_a_chest_density_is_reported_and_no_volume(tmp_path: Path, low: float, high: float, end: str) -> None:
    body, scan = chests.scanned(scan=Scan(low_z_mm=low, high_z_mm=high))

    answer = measured(chests.series(body, scan), tmp_path)

    assert answer.partial
    assert volumes_ml(answer) == {}
    assert means_hu(answer)["left-lung"] == pytest.approx(float(body.hu_zyx[body.left_lung_zyx].mean()), abs=8)
    assert any(f"The left lung reaches the {end} slice" in note for note in answer.notes)


def test_of_a_sliver_of_lung_nothing_is_reported(tmp_path: Path) -> None:
    body, scan = chests.scanned(scan=Scan(low_z_mm=-310.0, high_z_mm=-75.0))

    assert declined(chests.series(body, scan), tmp_path) == "LUNGS_TRUNCATED"


def test_a_field_of_view_that_cuts_the_chest_withholds_the_volume(tmp_path: Path) -> None:
    body, scan = chests.scanned(scan=Scan(field_mm=230.0))

    answer = run(chests.series(body, scan), tmp_path)

    if isinstance(answer, NotAnalysed):
        assert answer.reason in {"LUNGS_TRUNCATED", "NO_LUNGS", "IMPLAUSIBLE_VOLUME"}
    else:
        assert volumes_ml(answer) == {}
        assert any("the side of the images" in note for note in answer.notes)


@pytest.mark.parametrize("body_part", [chests.head, chests.abdomen], ids=["head", "abdomen"])
def test_where_there_is_no_lung_there_is_no_number(tmp_path: Path, body_part: object) -> None:
    body, scan = chests.scanned(body_part)  # type: ignore[arg-type]

    assert declined(chests.series(body, scan), tmp_path) == "NO_LUNGS"

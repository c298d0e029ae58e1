"""Studies that were read wrong once: their numbers are those of the same study without the fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from tests.support.needs import real_data
from tests.support.studies.data_factories import request_for

LUNGS = SHIPPED_MODELS / "ct-lung-density"
RADIOGRAPHS = SHIPPED_MODELS / "cxr-pneumonia"

#: Volume (ml), mean (HU), LAA-950 (%), 15th percentile (HU) of both lungs.
_C00 = (4787.0, -869.6)
_A00 = (4799.0, -869.5, 9.7, -884.0)


def answer(name: str, model: Path, folder: Path, **changes: str) -> Analysis | NotAnalysed:
    datasets = [dcmread(path) for path in sorted(real_data(f"faults/{name}").iterdir())]
    for dataset in datasets:
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
    return run_model(request_for(datasets, model, folder))


def lungs(name: str, folder: Path) -> Analysis:
    found = answer(name, LUNGS, folder)
    assert isinstance(found, Analysis), found.message
    return found


def numbers(found: Analysis) -> list[float]:
    (both,) = (finding for finding in found.findings if finding.key == "both-lungs")
    return [measurement.value for measurement in both.measurements]


@pytest.mark.parametrize(
    "name", ["c00_baseline", "c01_trailing_padding", "c03c_overlay_bit12_native", "c03e_overlay_bit12_dcmcjpls"]
)
def test_overlays_and_padding_change_no_number(name: str, tmp_path: Path) -> None:
    volume_ml, mean_hu, *_ = numbers(lungs(name, tmp_path))

    assert (volume_ml, mean_hu) == pytest.approx(_C00, abs=0.6)


@pytest.mark.parametrize("name", ["variety/a00_base", "variety/a03_htj2k_201"])
def test_high_throughput_jpeg_2000_changes_no_number(name: str, tmp_path: Path) -> None:
    found = lungs(name, tmp_path)

    # The main numbers come first.
    assert numbers(found)[: len(_A00)] == pytest.approx(_A00, abs=0.6)
    assert not any("loss" in note for note in found.notes)


def test_jpeg_of_12_bits_is_read_and_its_loss_told(tmp_path: Path) -> None:
    found = lungs("variety/c01_jpeg12_51_original", tmp_path)

    volume_ml, mean_hu, *_ = numbers(found)
    assert volume_ml == pytest.approx(_A00[0], rel=0.01)
    assert mean_hu == pytest.approx(_A00[1], abs=1.5)
    assert any(
        "32 of the 32 images were compressed with loss" in note and "(JPEG, 1.91:1 to 2.21:1)" in note
        for note in found.notes
    )


@pytest.mark.parametrize(
    ("name", "sizes", "number"),
    [
        ("variety/d15_transposed_abdomen", "96 rows of 84 where the header says 84 rows of 96", ""),
        ("variety/d17_smaller_stream", "48 rows of 96 where the header says 96 rows of 96", "Image number 16 "),
    ],
)
def test_frames_of_another_size_are_refused_and_named(name: str, sizes: str, number: str, tmp_path: Path) -> None:
    found = answer(name, LUNGS, tmp_path)

    assert isinstance(found, NotAnalysed)
    assert found.reason == "PIXELS_CONTRADICT_HEADER"
    assert sizes in found.message
    assert number in found.message


def test_a_loss_that_moves_the_density_is_refused(tmp_path: Path) -> None:
    found = answer("variety/e05_j2k_lossy", LUNGS, tmp_path)

    assert isinstance(found, NotAnalysed)
    assert found.reason == "LOSSY_COMPRESSION"


def test_a_display_shutter_is_a_mask_for_the_model(tmp_path: Path) -> None:
    found = answer("variety/b42_dx_shutter", RADIOGRAPHS, tmp_path, PatientAge="003Y")

    assert isinstance(found, Analysis)
    assert any("display shutter of image" in note and "40 %" in note for note in found.notes)


def test_a_bone_image_is_no_view(tmp_path: Path) -> None:
    found = answer("variety/c40_dx_dual_energy_bone", RADIOGRAPHS, tmp_path, PatientAge="003Y")

    assert any("derived from other images" in note for note in found.notes)
    assert len(found.sources) == 1


def test_raw_detector_data_is_no_view_even_if_it_does_not_say_so(tmp_path: Path) -> None:
    found = answer("variety/b01b_dx_processing_no_intent", RADIOGRAPHS, tmp_path, PatientAge="003Y")

    assert isinstance(found, NotAnalysed)
    assert found.reason == "FOR_PROCESSING_ONLY"

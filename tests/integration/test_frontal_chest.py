"""What is no frontal chest radiograph of a person gets no answer from a model for those, and a coded reason why."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.codes import MODEL_SCORE, SHARE_OF_NORMALS, score_code
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.images.pixels import display_values
from dicom_node.inference.images.radiographs.frontal_chest import LEAST_LIKENESS, likeness
from dicom_node.inference.runner import run_model
from dicom_node.sr_writer import write_objects
from tests.support import needs
from tests.support.results import analysis_examples as examples
from tests.support.studies.data_factories import request_for

MODELS = ("cxr-pneumonia", "cxr-anomaly")


@pytest.fixture(scope="module")
def chest() -> Dataset:
    return chest_radiograph_phantom(rows=256)


def with_pixels(image: Dataset, pixels: np.ndarray) -> Dataset:
    changed = copy.deepcopy(image)
    changed.Rows, changed.Columns = pixels.shape
    changed.PixelData = np.ascontiguousarray(pixels, dtype=np.uint16).tobytes()
    return changed


def answered(image: Dataset, model: str, folder: Path) -> Analysis | NotAnalysed:
    return run_model(request_for([image], SHIPPED_MODELS / model, folder))


@pytest.mark.parametrize("model", MODELS)
def test_noise_is_no_chest(chest: Dataset, model: str, tmp_path: Path) -> None:
    noise = with_pixels(chest, np.random.default_rng(1).integers(0, 4096, (256, 256)))

    answer = answered(noise, model, tmp_path)

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "NOT_FRONTAL_CHEST"
    assert answer.message.startswith("Not a frontal chest radiograph: image 1 does not look like")


@pytest.mark.parametrize("way", ["a quarter turn", "another quarter turn", "bright and dark exchanged"])
def test_a_chest_that_is_stored_otherwise_than_said_is_not_read(chest: Dataset, way: str, tmp_path: Path) -> None:
    pixels = chest.pixel_array
    stored = {
        "a quarter turn": np.rot90(pixels),
        "another quarter turn": np.rot90(pixels, 3),
        "bright and dark exchanged": 4095 - pixels,
    }[way]

    answer = answered(with_pixels(chest, stored), "cxr-pneumonia", tmp_path)

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "NOT_FRONTAL_CHEST"


def test_a_chest_that_says_how_it_is_turned_is_read_as_the_upright_one(chest: Dataset, tmp_path: Path) -> None:
    turned = with_pixels(chest, np.rot90(chest.pixel_array))
    turned.PatientOrientation = ["F", "R"]

    answers = [answered(one, "cxr-pneumonia", tmp_path / name) for name, one in (("u", chest), ("t", turned))]

    upright, other = (one.findings[0] for one in answers if isinstance(one, Analysis))
    assert other.probability == pytest.approx(upright.probability, abs=1e-6)
    assert other.presence is upright.presence


@pytest.mark.parametrize("model", MODELS)
def test_a_score_is_sent_as_what_it_is_and_influence_as_no_place(chest: Dataset, model: str, tmp_path: Path) -> None:
    answer = answered(chest, model, tmp_path)

    assert isinstance(answer, Analysis)
    (finding,) = answer.findings
    assert finding.region is None
    assert score_code(finding, answer.model) == {"cxr-pneumonia": MODEL_SCORE, "cxr-anomaly": SHARE_OF_NORMALS}[model]
    (report,) = (one.dataset for one in write_objects(answer, examples.context()) if one.kind == "SR")
    told = {str(element.value) for element in report.iterall() if element.keyword == "CodeMeaning"}
    assert not told & {"Certainty of Finding", "Image Region", "Imaging result abnormal"}


def test_of_several_images_those_that_look_like_a_chest_are_answered(chest: Dataset, tmp_path: Path) -> None:
    noise = with_pixels(chest, np.random.default_rng(1).integers(0, 4096, (256, 256)))
    noise.SOPInstanceUID, noise.InstanceNumber = f"{chest.SOPInstanceUID}9", 2

    answer = run_model(request_for([chest, noise], SHIPPED_MODELS / "cxr-pneumonia", tmp_path))

    assert isinstance(answer, Analysis)
    assert [str(source.SOPInstanceUID) for source in answer.sources] == [str(chest.SOPInstanceUID)]
    assert any(note.startswith("Left out: image 2 does not look like a frontal chest") for note in answer.notes)


# --- real images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_dogs_lateral_thorax_is_not_scored(model: str, tmp_path: Path) -> None:
    dog = dcmread(needs.real_data("cxr") / "dx_image.dcm")

    answer = answered(dog, model, tmp_path)

    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "NOT_HUMAN"


def test_a_dogs_lateral_thorax_is_known_by_its_pixels_alone() -> None:
    dog = dcmread(needs.real_data("cxr") / "dx_image.dcm")

    assert likeness(display_values(dog, voi=True)) < 0.2 < LEAST_LIKENESS


@pytest.mark.parametrize("name", ["gdcm-CR-MONO1-10-chest.dcm", "RG1_J2KI"])
def test_real_chests_of_adults_look_like_chests(name: str) -> None:
    assert likeness(display_values(dcmread(needs.real_data("cxr") / name), voi=True)) > LEAST_LIKENESS


def test_a_film_that_was_turned_by_a_quarter_equals_the_one_that_was_not(tmp_path: Path) -> None:
    films = needs.real_data("faults")
    answers = [
        answered(dcmread(films / name / "0000.dcm"), "cxr-pneumonia", tmp_path / name)
        for name in ("x00_baseline", "x21c_quarter_turn")
    ]

    expected, found = (one.findings[0] for one in answers if isinstance(one, Analysis))
    assert found.presence is expected.presence
    # Two phantoms of different noise.
    assert found.probability == pytest.approx(expected.probability, abs=0.02)

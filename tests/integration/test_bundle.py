"""MONAI bundles: probabilities from the weights, saliency from the weights, placed on source pixels."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.core.entities import Presence
from dicom_node.core.errors import ModelUnavailable
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.runner import run_model
from tests.support.docs.model_page import write_example
from tests.support.studies.data_factories import changed, renumbered, request_for, toy_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles alike but for their weights."""
    folder = tmp_path_factory.mktemp("bundles")
    return toy_bundle(folder / "zero", seed=0), toy_bundle(folder / "one", seed=1)


@pytest.fixture
def radiograph() -> Dataset:
    image = chest_radiograph_phantom(rows=128)
    image.Rows, stored = 96, image.pixel_array[:96]
    image.PixelData = np.ascontiguousarray(stored).tobytes()
    return image


def _answer(datasets: list[Dataset], model: Path, folder: Path, **parameters: float) -> Analysis:
    answer = run_model(request_for(datasets, model, folder, **parameters))
    assert isinstance(answer, Analysis), answer.message
    return answer


def _reason(datasets: list[Dataset], model: Path, folder: Path) -> str:
    answer = run_model(request_for(datasets, model, folder))
    assert isinstance(answer, NotAnalysed)
    return answer.reason


def test_every_class_is_a_finding_and_probabilities_add_up(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    answer = _answer([radiograph], bundles[0], tmp_path)

    assert [finding.key for finding in answer.findings] == ["normal", "pneumonia"]
    assert sum(finding.probability or 0 for finding in answer.findings) == pytest.approx(1.0, abs=1e-3)
    for finding in answer.findings:
        assert (finding.presence is Presence.PRESENT) == ((finding.probability or 0) >= 0.5)


def test_saliency_covers_the_source_pixels_and_depends_on_the_weights(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    maps = [_answer([radiograph], model, tmp_path / model.name, threshold=0.0).saliencies[1].map for model in bundles]

    assert [one.shape for one in maps] == [(96, 128), (96, 128)]
    assert all(float(one.min()) >= 0.0 and float(one.max()) in {0.0, 1.0} for one in maps)
    assert any(one.max() == 1.0 for one in maps)
    assert not np.allclose(maps[0], maps[1], atol=0.05)


def test_the_same_run_twice_gives_the_same_answer(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    first, second = (_answer([radiograph], bundles[0], tmp_path / name) for name in "ab")

    assert first.findings == second.findings
    assert np.array_equal(first.saliencies[0].map, second.saliencies[0].map)


def test_the_explained_finding_names_its_picture_and_takes_influence_for_no_region(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    answer = _answer([radiograph], bundles[0], tmp_path)
    present = next(finding for finding in answer.findings if finding.presence is Presence.PRESENT)

    assert present.explanation_key == f"heatmap:{present.key}:{radiograph.SOPInstanceUID}"
    assert present.region is None


def test_temperature_draws_probabilities_together(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    sharp, flat = (
        _answer([radiograph], bundles[0], tmp_path / str(t), temperature=t).findings[0].probability for t in (1, 100)
    )

    assert sharp is not None
    assert flat is not None
    assert abs(flat - 0.5) < abs(sharp - 0.5)


def test_inverted_polarity_gives_the_same_answer(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    inverted = copy.deepcopy(radiograph)
    inverted.PhotometricInterpretation = "MONOCHROME1"
    inverted.PixelData = (4095 - radiograph.pixel_array).astype("<u2").tobytes()

    straight, turned = (
        _answer([image], bundles[0], tmp_path / image.PhotometricInterpretation).findings[0].probability
        for image in (radiograph, inverted)
    )

    assert straight == pytest.approx(turned, abs=0.01)


def test_lateral_views_are_left_out_and_told(bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path) -> None:
    lateral = renumbered(radiograph, "lateral")
    lateral.ViewPosition, lateral.InstanceNumber = "LL", 2

    answer = _answer([radiograph, lateral], bundles[0], tmp_path / "both")

    assert [source.SOPInstanceUID for source in answer.sources] == [radiograph.SOPInstanceUID]
    assert "Left out: image 2, a lateral view." in answer.notes
    assert _reason([lateral], bundles[0], tmp_path / "alone") == "LATERAL_VIEW_ONLY"


def test_a_lateral_view_code_counts_too(bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399067008", "SCT", "lateral"
    lateral = changed([radiograph], lambda d: setattr(d, "ViewCodeSequence", Sequence([code])))

    assert _reason(lateral, bundles[0], tmp_path) == "LATERAL_VIEW_ONLY"


def test_every_frontal_image_counts_and_the_most_suspicious_one_decides(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path
) -> None:
    second = renumbered(radiograph, "second")
    second.InstanceNumber = 2
    second.PixelData = np.ascontiguousarray(radiograph.pixel_array[::-1]).tobytes()

    both = _answer([radiograph, second], bundles[0], tmp_path / "both")
    alone = [_answer([one], bundles[0], tmp_path / one.SOPInstanceUID[-4:]) for one in (radiograph, second)]

    for position, finding in enumerate(both.findings):
        # One forward pass over two images rounds otherwise than two over one each.
        highest = max(one.findings[position].probability or 0 for one in alone)
        assert finding.probability == pytest.approx(highest, rel=1e-5)
    assert any("the highest of 2 images counts" in note for note in both.notes)


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        (("PresentationIntentType", "FOR PROCESSING"), "FOR_PROCESSING_ONLY"),
        (("PhotometricInterpretation", "RGB"), "NOT_MONOCHROME"),
        (("Modality", "MR"), "WRONG_MODALITY"),
        (("NumberOfFrames", 2), "MULTI_FRAME"),
    ],
)
def test_images_that_are_no_single_radiograph_are_declined(
    bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path, attribute: tuple[str, object], reason: str
) -> None:
    setattr(radiograph, *attribute)

    assert _reason([radiograph], bundles[0], tmp_path) == reason


def test_an_empty_image_is_declined(bundles: tuple[Path, Path], radiograph: Dataset, tmp_path: Path) -> None:
    radiograph.PixelData = bytes(len(radiograph.PixelData))

    assert _reason([radiograph], bundles[0], tmp_path) == "EMPTY_IMAGE"


@pytest.mark.parametrize(
    ("age", "reason"), [("006Y", "AGE_OUT_OF_RANGE"), ("010M", "AGE_OUT_OF_RANGE"), ("", "AGE_UNKNOWN")]
)
def test_a_child_outside_the_ages_of_the_card_is_declined(
    radiograph: Dataset, tmp_path: Path, age: str, reason: str
) -> None:
    model = toy_bundle(tmp_path / "model")
    card = model / "model_card.toml"
    card.write_text(card.read_text() + "[gate]\nage_years = { min = 1, max = 5 }\n")

    radiograph.PatientAge = age
    assert _reason([radiograph], model, tmp_path / "data") == reason
    radiograph.PatientAge = "005Y"
    assert _answer([radiograph], model, tmp_path / "fits")


def test_the_age_is_worked_out_from_the_dates_when_it_is_not_stated(radiograph: Dataset, tmp_path: Path) -> None:
    model = toy_bundle(tmp_path / "model")
    card = model / "model_card.toml"
    card.write_text(card.read_text() + "[gate]\nage_years = { min = 1, max = 5 }\n")
    radiograph.PatientAge, radiograph.PatientBirthDate = "", "20240106"

    assert _answer([radiograph], model, tmp_path / "one-year-old")
    radiograph.PatientBirthDate = "20190104"
    assert _reason([radiograph], model, tmp_path / "seven") == "AGE_OUT_OF_RANGE"


def test_altered_weights_are_refused(radiograph: Dataset, tmp_path: Path) -> None:
    model = toy_bundle(tmp_path / "model")
    weights = model / "models" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")

    with pytest.raises(ModelUnavailable, match="sha256"):
        run_model(request_for([radiograph], model, tmp_path / "data"))


def test_weights_that_do_not_fit_the_network_are_refused(radiograph: Dataset, tmp_path: Path) -> None:
    model = toy_bundle(tmp_path / "model")
    path = model / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"]["growth_rate"] = 6
    path.write_text(json.dumps(config))

    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        run_model(request_for([radiograph], model, tmp_path / "data"))


def test_a_wrong_layer_is_told(radiograph: Dataset, tmp_path: Path) -> None:
    model = toy_bundle(tmp_path / "model")
    card = model / "model_card.toml"
    card.write_text(card.read_text().replace("class_layers.relu", "nowhere"))

    with pytest.raises(ModelUnavailable, match="no layer 'nowhere'"):
        run_model(request_for([radiograph], model, tmp_path / "data"))


def test_the_bundle_of_the_documentation_runs(radiograph: Dataset, tmp_path: Path) -> None:
    model = write_example("a bundle from nothing", tmp_path / "model")
    subprocess.run([sys.executable, "make_weights.py"], cwd=model, env=os.environ | {"PYTHONWARNINGS": ""}, check=True)
    card, digest = model / "model_card.toml", hashlib.sha256((model / "models/model.safetensors").read_bytes())
    card.write_text(card.read_text().replace('sha256 = ""', f'sha256 = "{digest.hexdigest()}"'))
    radiograph.PatientAge = "055Y"

    answer = _answer([radiograph], model, tmp_path / "data")

    assert [finding.key for finding in answer.findings] == ["pneumonia"]
    assert answer.saliencies[0].method == "Grad-CAM, layer layer3"

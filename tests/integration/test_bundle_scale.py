"""A bundle of pictures is given the values of the files it was trained on, known and never guessed, and colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import VLPhotographicImageStorage

pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.analysis.answer import Analysis
from dicom_node.core.errors import ModelUnavailable
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runner import run_model
from dicom_node.inference.runtimes.monai_bundle.model import LoadedBundle, WantedAnswer, open_bundle
from dicom_node.inference.runtimes.weights import read_state
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.models import zoo_bundles
from tests.support.studies.data_factories import request_for
from tests.support.validators import objects as validators

Steps = list[dict[str, Any]]
Said = tuple[float, float] | None

RANGE_255 = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1}
RANGE_1 = {**RANGE_255, "a_max": 1.0}
RANGE_HU = {**RANGE_255, "a_min": -1000, "a_max": 400}
IMAGENET_255 = {
    "_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": [127.5], "divisor": [255.0], "channel_wise": True,
}  # fmt: skip
IMAGENET_1 = {**IMAGENET_255, "subtrahend": [0.5], "divisor": [1.0]}
STANDARDISED = {"_target_": "NormalizeIntensityd", "keys": "image"}
STRETCHED = {"_target_": "ScaleIntensityd", "keys": "image"}


def mean_of(folder: Path, steps: Steps, told: object, said: Said) -> LoadedBundle:
    """Open a bundle that gives 100 times the mean of what its network is given."""
    model = zoo_bundles.regressor(folder / "mean")
    config = json.loads((model / "configs" / "inference.json").read_text())
    config["preprocessing"]["transforms"][2:2] = steps
    (model / "configs" / "inference.json").write_text(json.dumps(config))
    about = {"network_data_format": {"inputs": {"image": {"value_range": told}}}}
    (model / "configs" / "metadata.json").write_text(json.dumps(about))
    wanted = WantedAnswer(task="regression", picture_range=said)
    return open_bundle(model, "cpu", wanted, read_state(model / "models" / "model.safetensors"))


def quarter_bright() -> ModelInput:
    values = np.zeros((1, 32, 32), np.float32)
    values[:, :8] = 1.0
    return ModelInput(values=values)


@pytest.mark.parametrize(
    ("steps", "beside", "mean", "known_from"),
    [
        ([RANGE_255], (None, None), 0.25, "ScaleIntensityRanged"),
        ([RANGE_255], ([0, 1], None), 0.25, "ScaleIntensityRanged"),
        ([RANGE_1], ([0, 255], None), 0.25, "ScaleIntensityRanged"),
        ([IMAGENET_255], (None, None), -0.25, "NormalizeIntensityd"),
        ([IMAGENET_1], (None, None), -0.25, "NormalizeIntensityd"),
        ([STANDARDISED], (None, None), 0.0, "any scale is the same"),
        ([STRETCHED], (None, None), 0.25, "any scale is the same"),
        ([], ([0, 255], None), 63.75, "its metadata"),
        ([], ([0.0, 1.0], None), 0.25, "its metadata"),
        ([], (None, (0, 255)), 63.75, "the card"),
        ([], ([0, 1], (0, 255)), 63.75, "the card"),
        ([RANGE_HU], ([0, 1], (-1000, 400)), 0.25, "the card"),
    ],
)
def test_a_network_is_given_the_values_it_was_trained_on(
    tmp_path: Path, steps: Steps, beside: tuple[object, Said], mean: float, known_from: str
) -> None:
    model = mean_of(tmp_path, steps, *beside)

    (prediction,) = model.predict([quarter_bright()])

    assert prediction.scores is not None
    assert prediction.scores[0] / 100 == pytest.approx(mean, abs=1e-5)
    assert known_from in " ".join(model.understood)


@pytest.mark.parametrize(("steps", "told"), [([], None), ([], [-1, 1]), ([], []), ([RANGE_HU], [0, 1]), ([], ["0", 1])])
def test_a_scale_that_nothing_tells_is_asked_in_the_card(tmp_path: Path, steps: Steps, told: object) -> None:
    model = mean_of(tmp_path, steps, told, None)

    with pytest.raises(ModelUnavailable, match=r"\[preprocessing\] range = \[0, 255\]"):
        model.predict([quarter_bright()])


def test_values_that_are_far_from_those_the_metadata_name_are_told(tmp_path: Path) -> None:
    model = mean_of(tmp_path, [], [0, 255], (0, 1))

    model.predict([quarter_bright()])

    assert "pixels, with values of 0 to 1, its metadata say 0 to 255, which does not fit" in model.understood[-1]


# --- colour ----------------------------------------------------------------------------------------------------------

IN_COLOR = zoo_bundles.TWO_CLASSES.replace('task = "classification"', 'task = "classification"\ncolor = "rgb"')


def redness(folder: Path, *, card: str = IN_COLOR) -> Path:
    """Write a bundle that says how red a picture is, and how blue."""
    torch = pytest.importorskip("torch")
    config = {
        "network_def": "$torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(3, 2, 1), "
        "torch.nn.Flatten())",
        "preprocessing": zoo_bundles.compose(
            {"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": zoo_bundles.compose({"_target_": "Activationsd", "keys": "pred", "sigmoid": True}),
    }
    weights = torch.zeros(2, 3, 1, 1)
    weights[0, 0], weights[1, 2] = 10.0, 10.0
    state = {"1.weight": weights, "1.bias": torch.full((2,), -5.0)}
    told = {"network_data_format": {"inputs": {"image": {"value_range": [0, 1], "num_channels": 3}}}}
    return zoo_bundles.write_bundle(folder, config, state, card, metadata=told)


def photograph(rgb: tuple[int, int, int]) -> Dataset:
    """A photograph of one colour and a black corner."""
    image = chest_radiograph_phantom(rows=64)
    pixels = np.full((64, 64, 3), rgb, np.uint8)
    pixels[:2, :2] = 0
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = VLPhotographicImageStorage
    image.Modality, image.ImageType = "XC", ["ORIGINAL", "PRIMARY"]
    for keyword in ("ViewPosition", "KVP", "PlateType", "PlateID", "WindowCenter", "WindowWidth", "ImagerPixelSpacing"):
        delattr(image, keyword)
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelData = 7, pixels.tobytes()
    image["PixelData"].VR = "OB"
    return image


def test_a_model_of_colours_is_given_them_and_its_report_shows_them(tmp_path: Path) -> None:
    model = redness(tmp_path / "redness", card=IN_COLOR + '[explain]\nmethod = "occlusion"\n')
    request = request_for([photograph((240, 20, 30))], model, tmp_path / "study")

    found = run_model(request)

    assert isinstance(found, Analysis), found.message
    red, blue = (finding.probability or 0.0 for finding in found.findings)
    assert red == pytest.approx(1 / (1 + np.exp(5 - 10 * 240 / 255)), abs=2e-3)
    assert blue == pytest.approx(1 / (1 + np.exp(5 - 10 * 30 / 255)), abs=2e-3)
    for one in write_objects(found, request.context):
        path = tmp_path / f"{one.order:02}.dcm"
        path.write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(path, request.files[0].path)


def test_a_grey_image_is_repeated_for_a_model_of_colours(tmp_path: Path) -> None:
    image = chest_radiograph_phantom(rows=64)
    stored = np.full((64, 64), 4095, np.uint16)
    stored[32:] = 0
    image.PixelData = stored.tobytes()

    found = run_model(request_for([image], redness(tmp_path / "redness"), tmp_path / "study"))

    assert isinstance(found, Analysis), found.message
    assert [finding.probability for finding in found.findings] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_a_model_of_greys_still_declines_colours(tmp_path: Path) -> None:
    model = zoo_bundles.classifier(tmp_path / "halves")

    found = run_model(request_for([photograph((9, 200, 30))], model, tmp_path / "study"))

    assert getattr(found, "reason", "") == "NOT_MONOCHROME"

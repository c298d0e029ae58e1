"""The shipped chest radiograph classifier: its folder loads as it says, and its answers rest on the image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from dicom_node.inference.cards.card import load_card  # noqa: E402
from dicom_node.inference.explain import methods  # noqa: E402
from dicom_node.inference.training import bundle_folder  # noqa: E402
from dicom_node.inference.training.figures import report  # noqa: E402
from tests.support.needs import real_data  # noqa: E402

FOLDER = bundle_folder.SHIPPED
FloatArray = NDArray[np.float64]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return bundle_folder.trained_network(FOLDER)


def chest(rows: int = 448, columns: int = 512) -> FloatArray:
    """A smooth chest-like picture, 0..1: bright body, two dark lungs, one with a dense patch, a bright spine."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]

    def blob(centre_y: float, centre_x: float, height: float, width: float) -> FloatArray:
        return np.exp(-((((y - centre_y) / height) ** 2 + ((x - centre_x) / width) ** 2) ** 2))

    body = 0.75 * blob(0.55, 0.5, 0.6, 0.46)
    lungs = 0.5 * (blob(0.45, 0.3, 0.28, 0.13) + blob(0.45, 0.7, 0.28, 0.13))
    return np.clip(0.05 + body - lungs + 0.25 * blob(0.6, 0.3, 0.1, 0.1) + 0.2 * blob(0.5, 0.5, 0.6, 0.05), 0, 1)


def prepared(pixels: FloatArray) -> torch.Tensor:
    preprocessing = bundle_folder.definitions(FOLDER).get_parsed_content("preprocessing")
    return preprocessing({"image": torch.from_numpy(pixels).float()[None]})["image"][None]


def probability(network: torch.nn.Module, pixels: FloatArray) -> float:
    card = load_card(FOLDER)
    with torch.no_grad():
        logits = network(prepared(pixels))[0] / card.parameters["temperature"]
    postprocessing = bundle_folder.definitions(FOLDER).get_parsed_content("postprocessing")
    return float(postprocessing({"pred": logits})["pred"][card.findings[0].output_index])


def grad_cam(network: torch.nn.Module, pixels: FloatArray) -> NDArray[np.float32]:
    card = load_card(FOLDER)
    return methods.grad_cam(
        network,
        prepared(pixels),
        layer=card.explain["layer"],
        output_index=card.findings[0].output_index,
        shape=(pixels.shape[0], pixels.shape[1]),
    )


def test_the_weights_are_those_the_card_names_and_small_enough_for_a_repository() -> None:
    card = load_card(FOLDER)
    card.verify_weights()
    assert card.weights_file is not None
    assert card.weights_file.stat().st_size <= 10_000_000


def test_the_weights_fit_the_network_key_by_key(network: torch.nn.Module) -> None:
    expected = bundle_folder.definitions(FOLDER).get_parsed_content("network_def").state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert any(not torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def test_the_network_gives_two_finite_logits_for_any_size(network: torch.nn.Module) -> None:
    for rows, columns in ((64, 96), (224, 224), (1500, 1100)):
        logits = network(prepared(chest(rows, columns)))
        assert logits.shape == (1, 2)
        assert torch.isfinite(logits).all()


def test_a_blank_image_gives_a_finite_probability(network: torch.nn.Module) -> None:
    assert 0.0 <= probability(network, np.zeros((300, 300))) <= 1.0


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_probability_does_not_depend_on_the_bit_depth(network: torch.nn.Module, bits: int) -> None:
    steps = 2**bits - 1
    quantised = np.round(chest() * steps) / steps
    assert probability(network, quantised) == pytest.approx(probability(network, chest()), abs=0.02)


def test_the_probability_does_not_depend_on_a_linear_rescale(network: torch.nn.Module) -> None:
    assert probability(network, 0.2 + 0.5 * chest()) == pytest.approx(probability(network, chest()), abs=0.005)


def test_an_image_twice_as_large_gives_the_same_probability(network: torch.nn.Module) -> None:
    once, twice = chest(448, 512), chest(896, 1024)
    assert probability(network, twice) == pytest.approx(probability(network, once), abs=0.03)


def test_different_images_give_different_probabilities(network: torch.nn.Module) -> None:
    noise = np.random.default_rng(1).uniform(size=(300, 300))
    assert abs(probability(network, noise) - probability(network, chest())) > 1e-3


def test_the_explanation_is_a_map_that_varies_over_the_image(network: torch.nn.Module) -> None:
    heat = grad_cam(network, chest())
    assert heat.shape == chest().shape
    assert heat.max() == pytest.approx(1.0, abs=1e-6)
    assert heat.std() > 0.05


def test_the_explanation_depends_on_the_weights(network: torch.nn.Module) -> None:
    torch.manual_seed(0)
    untrained = bundle_folder.definitions(FOLDER).get_parsed_content("network_def").eval()
    assert np.abs(grad_cam(network, chest()) - grad_cam(untrained, chest())).mean() > 0.02


def test_the_explanation_depends_on_the_image(network: torch.nn.Module) -> None:
    mirrored = chest()[:, ::-1].copy()
    assert np.abs(grad_cam(network, chest()) - grad_cam(network, mirrored)).mean() > 0.005


def test_the_card_gates_the_age_and_carries_the_measured_operating_point() -> None:
    card, metrics = load_card(FOLDER), measured()
    assert (card.gate.min_age_years, card.gate.max_age_years) == (1, 5)
    assert card.parameters["threshold"] == metrics["operating_point"]["threshold"]
    assert card.parameters["temperature"] == metrics["operating_point"]["temperature"]


def test_the_figures_in_the_readme_are_the_measured_ones() -> None:
    assert report.table(measured()) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_card_versions_agree() -> None:
    metadata = json.loads((FOLDER / "configs" / "metadata.json").read_text(encoding="utf-8"))
    card = load_card(FOLDER)
    assert (metadata["name"], metadata["version"]) == (card.name, card.version)


def test_real_radiographs_of_adults_run_though_their_answer_means_nothing(network: torch.nn.Module) -> None:
    folder = real_data("cxr_png_nih_labelled")
    with (folder / "labels.csv").open(encoding="utf-8") as stream:
        assert list(csv.reader(stream))
    answers = [probability(network, grey(path)) for path in sorted(folder.glob("*.png"))]
    assert all(0.0 <= answer <= 1.0 for answer in answers)
    assert np.std(answers) > 0.0


def test_a_real_monochrome1_radiograph_runs_once_turned_bright_on_dark(network: torch.nn.Module) -> None:
    dataset = dcmread(real_data("cxr") / "gdcm-CR-MONO1-10-chest.dcm")
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    stored = dataset.pixel_array.astype(np.float64)
    assert 0.0 <= probability(network, 1.0 - stored / stored.max()) <= 1.0


def grey(path: Path) -> FloatArray:
    return np.asarray(Image.open(path).convert("L"), dtype=np.float64) / 255.0


def measured() -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    return figures

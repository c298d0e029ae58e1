"""The anomaly detector: trained on drawn pictures without an ill one, run through the node, explained by attention."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the inference extra is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402

from dicom_node.analysis.answer import Analysis, NotAnalysed  # noqa: E402
from dicom_node.core.entities import Presence  # noqa: E402
from dicom_node.core.errors import ModelUnavailable  # noqa: E402
from dicom_node.demo.phantoms import chest_radiograph_phantom  # noqa: E402
from dicom_node.inference.anomaly import cxr  # noqa: E402
from dicom_node.inference.anomaly.detector import TERMS, Detector, encoder_of, prepared  # noqa: E402
from dicom_node.inference.cards.card import load_card  # noqa: E402
from dicom_node.inference.runner import run_model  # noqa: E402
from dicom_node.inference.training import anomaly_stages, bundle_folder, cxr_anomaly  # noqa: E402
from dicom_node.inference.training.data import Radiograph, Split  # noqa: E402
from dicom_node.inference.training.figures import anomaly_report  # noqa: E402
from dicom_node.sr_writer import to_part10, write_objects  # noqa: E402
from tests.support.results import analysis_examples as examples  # noqa: E402
from tests.support.studies.data_factories import request_for  # noqa: E402
from tests.support.validators.objects import assert_valid_dicom  # noqa: E402

FOLDER = cxr_anomaly.SHIPPED
QUICK = anomaly_stages.AnomalyRecipe(encoder_epochs=2, vae_epochs=4, scorer_epochs=6, batch_size=16, latent=8)


def drawn_chest(random: np.random.Generator, *, opaque: bool) -> np.ndarray:
    """Two dark lungs in a bright body, a little different each time; one lung is filled when `opaque`."""
    down, across = np.mgrid[0:1:64j, 0:1:64j]
    middle = 0.5 + random.uniform(-0.02, 0.02)
    body = 0.7 * (np.abs(across - middle) < 0.4)
    for side in (-0.2, 0.2):
        lung = ((down - 0.45) / 0.28) ** 2 + ((across - middle - side) / 0.13) ** 2 < 1
        body -= 0.45 * lung * (0.2 if opaque and side > 0 else 1.0)
    noisy = body + random.normal(0, 0.02, body.shape)
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def drawn_radiographs(count: int, *, ill: bool, seed: int) -> tuple[Radiograph, ...]:
    random = np.random.default_rng(seed)
    return tuple(
        Radiograph(
            name=f"{seed}-{n}",
            patient=f"{seed}-{n}",
            has_pneumonia=ill,
            pixels=drawn_chest(random, opaque=ill),
        )
        for n in range(count)
    )


@pytest.fixture(scope="module")
def drawn_split() -> Split:
    return Split(
        training=drawn_radiographs(48, ill=False, seed=1),
        validation=drawn_radiographs(20, ill=False, seed=2),
        test=drawn_radiographs(20, ill=False, seed=3) + drawn_radiographs(20, ill=True, seed=4),
    )


@pytest.fixture(scope="module")
def quick(drawn_split: Split) -> Detector:
    torch.manual_seed(0)
    return cxr_anomaly.trained(drawn_split, QUICK, None)


def test_filled_lungs_are_told_from_normal_ones_without_having_been_seen(drawn_split: Split, quick: Detector) -> None:
    figures = anomaly_report.figures(quick, drawn_split)
    assert figures["test"]["auroc"]["value"] > 0.9
    assert figures["sets"]["training (normal only)"] == {"patients": 48, "images": 48, "pneumonia": 0}
    assert set(TERMS) <= figures["ablation"].keys()
    assert len(figures["ablation"]) == 7


def test_ill_images_in_the_training_set_change_nothing(drawn_split: Split, quick: Detector) -> None:
    with_ill = Split(
        training=drawn_split.training + drawn_radiographs(10, ill=True, seed=5),
        validation=drawn_split.validation + drawn_radiographs(10, ill=True, seed=6),
        test=drawn_split.test,
    )
    torch.manual_seed(0)
    again = cxr_anomaly.trained(with_ill, QUICK, None)
    for name, value in quick.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_limit_lets_the_wanted_share_of_held_out_normals_pass(quick: Detector) -> None:
    limit = anomaly_report.limit_of(quick)
    shares = quick.share_of_normals_below(torch.tensor([limit, limit - 1e-3 * abs(limit) - 1e-6]))
    assert float(shares[0]) >= anomaly_report.SHARE_OF_NORMALS
    assert float(shares[1]) < anomaly_report.SHARE_OF_NORMALS


def test_the_vgg16_encoder_takes_weights_as_torchvision_names_them(drawn_split: Split, tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = {f"features.{key}": value for key, value in encoder_of("vgg16").state_dict().items()}
    published["classifier.6.bias"] = torch.zeros(1000)
    save_file(published, tmp_path / "vgg16.safetensors")
    recipe = anomaly_stages.AnomalyRecipe(
        encoder="vgg16", encoder_epochs=1, vae_epochs=1, scorer_epochs=1, batch_size=16, latent=4
    )
    small = Split(training=drawn_split.training[:16], validation=drawn_split.validation[:4], test=())

    detector = cxr_anomaly.trained(small, recipe, tmp_path / "vgg16.safetensors")
    assert torch.equal(detector.encoder.state_dict()["0.weight"], published["features.0.weight"])
    assert torch.isfinite(detector(prepared(torch.rand(2, 1, 90, 70)))).all()
    with pytest.raises(SystemExit, match="--vgg16-weights"):
        cxr_anomaly.trained(small, recipe, None)


def test_the_script_writes_a_folder_that_the_node_takes(tmp_path: Path) -> None:
    data, out = tmp_path / "images", tmp_path / "model"
    data.mkdir()
    random = np.random.default_rng(0)
    for patient in range(20):
        for ill, name in (
            (False, f"NORMAL__IM-{patient:04d}-0001.png"),
            (True, f"PNEUMONIA__person{patient}_virus_1.png"),
        ):
            Image.fromarray(drawn_chest(random, opaque=ill)).save(data / name)
    command = [sys.executable, "-m", "dicom_node.inference.training.cxr_anomaly", "--data", str(data)]
    epochs = [f"--{stage}-epochs=1" for stage in ("encoder", "vae", "scorer")]
    ended = subprocess.run([*command, "--out", str(out), *epochs], check=False, text=True, capture_output=True)
    assert ended.returncode == 0, ended.stderr

    measured = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert measured["sets"]["training (normal only)"]["pneumonia"] == 0
    assert anomaly_report.table(measured) in (out / "README.md").read_text(encoding="utf-8")
    answer = run_model(request_for([chest_radiograph_phantom()], out, tmp_path / "run"))
    assert isinstance(answer, Analysis), answer.message


# --- the shipped model -------------------------------------------------------------------------------------------


def test_a_radiograph_gets_score_limit_and_heat_map(tmp_path: Path) -> None:
    image = chest_radiograph_phantom()
    answer = run_model(request_for([image], FOLDER, tmp_path))
    assert isinstance(answer, Analysis), answer.message

    (finding,), (saliency,) = answer.findings, answer.saliencies
    assert finding.presence is (
        Presence.PRESENT if (finding.probability or 0) >= (finding.threshold or 0) else Presence.ABSENT
    )
    assert finding.measurements[0].name == cxr.ANOMALY_SCORE
    assert saliency.map.shape == (image.Rows, image.Columns)
    assert float(saliency.map.max()) == 1.0
    assert finding.explanation_key == f"heatmap:anomaly:{image.SOPInstanceUID}"
    assert any("anomaly score" in note and "reconstruction" in note for note in answer.notes)


def test_the_result_is_valid_dicom_with_the_map_in_three_panels(tmp_path: Path) -> None:
    answer = run_model(request_for([chest_radiograph_phantom()], FOLDER, tmp_path))
    assert isinstance(answer, Analysis), answer.message
    objects = write_objects(answer, examples.context())
    for number, written in enumerate(objects):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(to_part10(written.dataset))
        assert_valid_dicom(path)

    heat = next(one.dataset for one in objects if one.picture_key.startswith("heatmap:anomaly"))
    assert heat.Columns > 2 * heat.Rows


def test_an_adult_is_not_analysed(tmp_path: Path) -> None:
    answer = run_model(request_for([chest_radiograph_phantom(age="040Y")], FOLDER, tmp_path))
    assert isinstance(answer, NotAnalysed)
    assert answer.reason == "AGE_OUT_OF_RANGE"


def test_the_heat_map_depends_on_the_weights() -> None:
    detector = cxr.load_detector(load_card(FOLDER))
    torch.manual_seed(1)
    other = Detector(normals=len(detector.normal_scores)).eval()
    other.load_state_dict(
        {
            key: other.state_dict()[key] if key.startswith("scorer") else value
            for key, value in detector.state_dict().items()
        }
    )
    pixels = chest_radiograph_phantom().pixel_array.astype(np.float32)
    image = prepared(torch.from_numpy(pixels / pixels.max())[None, None])
    with torch.no_grad():
        maps = [cxr.attention_map(one, image, (64, 64)) for one in (detector, other)]
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] < 0.8


def test_the_shipped_figures_and_limit_are_the_measured_ones() -> None:
    card = load_card(FOLDER)
    measured = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    assert anomaly_report.table(measured) in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert card.parameters["threshold"] == measured["limit"]["share_of_normals"] == anomaly_report.SHARE_OF_NORMALS
    assert anomaly_report.limit_of(cxr.load_detector(card)) == pytest.approx(measured["limit"]["score"], abs=1e-4)
    assert card.weights_file is not None
    assert card.weights_file.stat().st_size < 4_000_000


def test_weights_that_do_not_fit_their_shape_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    state = load_file(folder / bundle_folder.WEIGHTS)
    save_file({key: value for key, value in state.items() if key != "term_mean"}, folder / bundle_folder.WEIGHTS)
    bundle_folder.write_card_values(folder)
    with pytest.raises(ModelUnavailable, match="term_mean"):
        cxr.load_detector(load_card(folder))

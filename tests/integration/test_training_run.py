"""The training script from images to a bundle folder that the node accepts, on a few drawn pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the inference extra is not installed")

from safetensors.torch import load_file

from dicom_node.inference.cards.card import load_card
from dicom_node.inference.training.figures import familiarity_report, report

PATIENTS_OF_A_LABEL = 20


def draw_radiographs(folder: Path) -> None:
    """Ill: a bright patch on a dark field. Healthy: the field alone."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for patient in range(PATIENTS_OF_A_LABEL):
        field = random.integers(20, 80, size=(2, 64, 64), dtype=np.uint8)
        field[1, 20:40, 20:40] += 120
        Image.fromarray(field[0]).save(folder / f"NORMAL__IM-{patient:04d}-0001.png")
        Image.fromarray(field[1]).save(folder / f"PNEUMONIA__person{patient}_virus_1.png")


def run_script(data: Path, out: Path, *more: str) -> None:
    command = [sys.executable, "-m", "dicom_node.inference.training.cxr_pneumonia", "--data", str(data)]
    ended = subprocess.run(
        [*command, "--out", str(out), "--epochs", "1", *more], check=False, text=True, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr


def test_the_script_writes_a_bundle_whose_card_and_figures_agree_and_measures_alike_again(tmp_path: Path) -> None:
    data, out = tmp_path / "images", tmp_path / "bundle"
    draw_radiographs(data)

    run_script(data, out)
    card, first = load_card(out), (out / "metrics.json").read_text(encoding="utf-8")
    card.verify_weights()
    run_script(data, out, "--keep-weights")

    metrics = json.loads(first)
    assert first == (out / "metrics.json").read_text(encoding="utf-8")
    held_out = [fold["held_out"] for fold in metrics["folds"]]
    assert len(held_out) == 3
    assert sum(fold["images"] for fold in held_out) == 2 * PATIENTS_OF_A_LABEL
    assert sum(fold["pneumonia"] for fold in held_out) == PATIENTS_OF_A_LABEL
    for fold in metrics["folds"]:
        assert fold["trained_on"]["patients"] + fold["held_out"]["patients"] == 2 * PATIENTS_OF_A_LABEL
    assert card.parameters["threshold"] == metrics["operating_point"]["threshold"]
    assert card.looks is not None
    assert card.looks.file.is_file()
    assert list(card.looks.calibration_errors) == familiarity_report.calibration_errors(metrics["looks"])
    assert report.table(metrics) in (out / "README.md").read_text(encoding="utf-8")


def test_training_goes_on_from_earlier_weights_and_says_from_which(tmp_path: Path) -> None:
    data, first, second = tmp_path / "images", tmp_path / "first", tmp_path / "second"
    draw_radiographs(data)

    run_script(data, first)
    run_script(data, second, "--continue-from", str(first / "models" / "model.safetensors"), "--learning-rate", "1e-9")

    recipe = json.loads((second / "metrics.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["continued_from"] == load_card(first).weights_sha256
    before, after = (load_file(one / "models" / "model.safetensors") for one in (first, second))
    name = "features.bodies.0.0.weight"
    assert (before[name] - after[name]).abs().max() < 1e-4

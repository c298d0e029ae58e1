"""TorchXRayVision's DenseNet-121: a checkpoint laid out as the published ones, added and run without that library."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dicom_node.core.errors import ModelUnavailable
from dicom_node.governance.verify import code_problems
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.ready.pickled_module import read_tensors
from dicom_node.inference.ready.shelf import ready_cards, set_of
from dicom_node.inference.ready.torchxrayvision import convert
from dicom_node.inference.ready.torchxrayvision_sets import LABELS, OPERATING_POINTS_OF
from dicom_node.inference.runtimes import torchxrayvision
from tests.support.models.torchxrayvision_network import DenseNet, save_as_published, untrained


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return untrained()


@pytest.fixture(params=["zip", "legacy"])
def checkpoint(request: pytest.FixtureRequest, network: nn.Module, tmp_path: Path) -> Path:
    """The whole module pickled, as published; its class is gone when it is read."""
    return save_as_published(network, tmp_path / "densenet.pt", new_format=request.param == "zip")


def model(checkpoint: Path, made: Path, card: str = "torchxrayvision-all") -> Path:
    """Make the model folder that `models add` makes, in this process (`test_models_added` has it confined)."""
    made.mkdir()
    convert(checkpoint, made / "model.safetensors", set_of(card))
    digest = hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
    (made / "model_card.toml").write_text(ready_cards()[card].replace('sha256 = ""', f'sha256 = "{digest}"'))
    return made


@pytest.fixture
def folder(network: nn.Module, tmp_path: Path) -> Path:
    torch.save(network.state_dict(), tmp_path / "state.pt")
    return model(tmp_path / "state.pt", tmp_path / "made")


def expected_scores(network: nn.Module, image: np.ndarray, points: tuple[float, ...]) -> list[float]:
    """The published way: scale, cut the middle square, shrink, network, sigmoid, operating points one by one."""
    rows, columns = image.shape
    edge = min(rows, columns)
    top, left = rows // 2 - edge // 2, columns // 2 - edge // 2
    square = ((2 * image - 1) * 1024).astype(np.float32)[top : top + edge, left : left + edge]
    small = np.asarray(Image.fromarray(square).resize((224, 224), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        found = torch.sigmoid(network(torch.from_numpy(small.copy())[None, None]))[0].tolist()
    return [
        value / (2 * point) if value < point else 1 - (1 - value) / (2 * (1 - point))
        for value, point in zip(found, points, strict=True)
    ]


def radiograph() -> ModelInput:
    rows, columns = np.meshgrid(np.linspace(0, 1, 300), np.linspace(0, 1, 260), indexing="ij")
    pattern = 0.5 + 0.4 * np.sin(12 * rows) * np.cos(9 * columns)
    return ModelInput(values=pattern[None].astype(np.float32))


def test_a_pickled_module_is_read_without_its_class(checkpoint: Path, network: nn.Module) -> None:
    found = read_tensors(checkpoint)

    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert len(found) == 727
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_converted_model_says_what_the_original_network_says(
    network: nn.Module, checkpoint: Path, tmp_path: Path
) -> None:
    card = load_card(model(checkpoint, tmp_path / "made"))

    scores = torchxrayvision.load(card, "cpu").predict([radiograph()])[0].scores

    expected = expected_scores(network, radiograph().values[0], OPERATING_POINTS_OF["all"])
    assert scores == pytest.approx(expected, abs=2e-4)
    assert np.ptp(expected) > 0.05
    keys = [label.lower().replace("_", "-").replace(" ", "-") for label in LABELS]
    assert [finding.key for finding in card.findings] == keys
    assert [finding.output_index for finding in card.findings] == list(range(18))
    assert card.gate.min_age_years == 18
    assert not card.calibrated
    assert not list(code_problems(card))


def test_findings_a_set_was_not_trained_for_are_left_out(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "state.pt")

    card = load_card(model(tmp_path / "state.pt", tmp_path / "made", "torchxrayvision-rsna"))

    assert [finding.label for finding in card.findings] == ["Pneumonia", "Lung opacity"]
    scores = torchxrayvision.load(card, "cpu").predict([radiograph()])[0].scores
    assert scores is not None
    assert [index for index, score in enumerate(scores) if score > 0] == [8, 16]


def test_a_finding_the_weights_do_not_know_is_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "state.pt")
    folder = model(tmp_path / "state.pt", tmp_path / "made", "torchxrayvision-rsna")
    text = (folder / "model_card.toml").read_text()
    (folder / "model_card.toml").write_text(text.replace("output_index = 8", "output_index = 0"))

    with pytest.raises(ModelUnavailable, match="not trained for finding pneumonia"):
        torchxrayvision.load(load_card(folder), "cpu")


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
def test_heat_lies_in_the_middle_square_that_the_network_saw(folder: Path, method: str) -> None:
    text = (folder / "model_card.toml").read_text()
    (folder / "model_card.toml").write_text(text.replace('"grad-cam"', f'"{method}"'))
    wide = ModelInput(values=np.random.default_rng(8).random((1, 200, 320), dtype=np.float32))

    maps = [torchxrayvision.load(load_card(folder), "cpu").explain(wide, index) for index in range(4)]

    found = [one for one in maps if one is not None and one.map.any()]
    assert found
    assert found[0].method == f"{'Grad-CAM++' if '+' in method else 'Grad-CAM'}, layer class_layers.relu"
    assert found[0].map.shape == (200, 320)
    assert not found[0].map[:, :60].any()
    assert not found[0].map[:, 260:].any()


def test_operating_points_become_one_half() -> None:
    points = np.array([0.02, 0.3, math.nan], np.float32)

    found = torchxrayvision.at_operating_points(np.array([[0.02, 0.3, 0.9], [0.0, 1.0, 0.1]], np.float32), points)

    assert found == pytest.approx(np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), abs=1e-6)


def test_another_network_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    torch.save(DenseNet(findings=14).state_dict(), tmp_path / "state.pt")

    with pytest.raises(ModelUnavailable, match=r"class_layers\.out\.bias \(14 instead of 18\)"):
        convert(tmp_path / "state.pt", tmp_path / "made.safetensors", "all")
    assert not (tmp_path / "made.safetensors").exists()


def test_every_tensor_must_be_used_and_none_may_lack(network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    state["features.conv9.weight"] = torch.zeros(2)
    del state["features.norm5.bias"]
    torch.save(state, tmp_path / "state.pt")

    told = r"1 missing: features\.norm5\.bias; 1 without a place: features\.conv9\.weight"
    with pytest.raises(ModelUnavailable, match=told):
        convert(tmp_path / "state.pt", tmp_path / "made.safetensors", "all")


def test_operating_points_of_another_set_are_noticed(network: nn.Module, tmp_path: Path) -> None:
    points = {name: torch.tensor(OPERATING_POINTS_OF[name]) for name in ("all", "nih")}
    torch.save({**network.state_dict(), "op_threshs": points["nih"]}, tmp_path / "nih.pt")
    torch.save({**network.state_dict(), "op_threshs": points["all"]}, tmp_path / "all.pt")

    convert(tmp_path / "all.pt", tmp_path / "made.safetensors", "all")
    convert(tmp_path / "nih.pt", tmp_path / "made.safetensors", "nih")
    with pytest.raises(ModelUnavailable, match="operating points of its own"):
        convert(tmp_path / "nih.pt", tmp_path / "made.safetensors", "all")


class _Trap:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_that_would_run_a_command_runs_none(new_format: bool, tmp_path: Path) -> None:
    trap = tmp_path / "touched"
    poisoned = {"features.conv0.weight": torch.zeros(3), "x": _Trap(f"touch {trap}")}
    torch.save(poisoned, tmp_path / "state.pt", _use_new_zipfile_serialization=new_format)

    with pytest.raises(ModelUnavailable, match=r"asks for posix\.system"):
        read_tensors(tmp_path / "state.pt")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(["no", "network"])])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(content)

    with pytest.raises(ModelUnavailable, match=r"state\.pt"):
        read_tensors(tmp_path / "state.pt")


def claims_ten_gigabytes(path: Path) -> Path:
    """A safetensors file whose header speaks of more than it holds."""
    claim = {"features.conv0.weight": {"dtype": "F32", "shape": [2500000000], "data_offsets": [0, 10000000000]}}
    header = json.dumps(claim).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    return path


def repeats_one_number(path: Path) -> Path:
    """A checkpoint of one number whose tensor shows it ten thousand million times."""
    torch.save({"features.conv0.weight": torch.zeros(1).expand(10**10)}, path)
    return path


@pytest.mark.parametrize("written", [claims_ten_gigabytes, repeats_one_number])
def test_a_checkpoint_that_claims_ten_gigabytes_costs_no_memory(
    written: Callable[[Path], Path], tmp_path: Path
) -> None:
    name = "state.safetensors" if written is claims_ten_gigabytes else "state.pt"

    with pytest.raises(ModelUnavailable, match=r"no whole safetensors file|10000000000 instead of 64x1x7x7"):
        model(written(tmp_path / name), tmp_path / "made")

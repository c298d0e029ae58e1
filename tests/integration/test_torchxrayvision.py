"""TorchXRayVision's DenseNet-121: a checkpoint laid out as the published ones, converted and run without that library.

The network of the checkpoint is written here again from its description, so that the adapter has something to agree
with; its weights are random.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes import torchxrayvision
from dicom_node.inference.training import convert_torchxrayvision as converter
from dicom_node.inference.training.convert_torchxrayvision import LABELS, PUBLISHED_POINTS, read_tensors

_MODULE = "torchxrayvision.models"


class _Layer(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(given), nn.Conv2d(given, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.conv1(functional.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(functional.relu(self.norm2(seen)))], 1)


class _Transition(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(given), nn.Conv2d(given, given // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    """DenseNet-121 (Huang et al., CVPR 2017) with the names the published checkpoints use."""

    def __init__(self, findings: int = 18) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(1, 64, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(64))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        channels = 64
        for number, layers in enumerate((6, 12, 24, 16), start=1):
            block = nn.Sequential()
            for index in range(layers):
                block.add_module(f"denselayer{index + 1}", _Layer(channels + 32 * index))
            channels += 32 * layers
            self.features.add_module(f"denseblock{number}", block)
            if number < 4:
                self.features.add_module(f"transition{number}", _Transition(channels))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, findings)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.relu(self.features(x)).mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(11)
    made = DenseNet()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
        made.features.conv0.weight.mul_(0.003)
    return made.eval()


@pytest.fixture(params=["zip", "legacy"])
def checkpoint(request: pytest.FixtureRequest, network: nn.Module, tmp_path: Path) -> Path:
    """The whole module pickled, as published; its class is gone when it is read."""
    library = types.ModuleType(_MODULE)
    package = types.ModuleType("torchxrayvision")
    sys.modules[_MODULE], sys.modules["torchxrayvision"] = library, package
    # Old files carry the source of their classes along.
    package.models, library.__file__ = library, __file__
    homes = {}
    for kind in (DenseNet, _Layer, _Transition):
        homes[kind], kind.__module__ = kind.__module__, _MODULE
        setattr(library, kind.__name__, kind)
    path = tmp_path / "densenet.pt"
    try:
        torch.save(network, path, _use_new_zipfile_serialization=request.param == "zip")
    finally:
        for kind, home in homes.items():
            kind.__module__ = home
        del sys.modules[_MODULE], sys.modules["torchxrayvision"]
    return path


@pytest.fixture
def folder(network: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "state.pt"
    torch.save(network.state_dict(), path)
    return converter.convert(path, tmp_path / "model", PUBLISHED_POINTS["all"], weights_name="all")


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
    converter.main([str(checkpoint), str(tmp_path / "model")])
    card = load_card(tmp_path / "model")

    model = torchxrayvision.load(card, "cpu")
    scores = model.predict([radiograph()])[0].scores

    expected = expected_scores(network, radiograph().values[0], PUBLISHED_POINTS["all"])
    assert scores == pytest.approx(expected, abs=2e-4)
    assert np.ptp(expected) > 0.05
    assert [finding.key for finding in card.findings] == [label.key for label in LABELS]
    assert [finding.output_index for finding in card.findings] == list(range(18))
    assert card.gate.min_age_years == 18
    assert not card.calibrated


def test_findings_a_set_was_not_trained_for_are_left_out(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "state.pt")
    points = PUBLISHED_POINTS["kaggle"]

    card = load_card(converter.convert(tmp_path / "state.pt", tmp_path / "model", points, weights_name="kaggle"))

    assert [finding.label for finding in card.findings] == ["Pneumonia", "Lung opacity"]
    scores = torchxrayvision.load(card, "cpu").predict([radiograph()])[0].scores
    assert scores is not None
    assert [index for index, score in enumerate(scores) if score > 0] == [8, 16]


def test_a_finding_the_weights_do_not_know_is_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "state.pt")
    points = PUBLISHED_POINTS["kaggle"]
    folder = converter.convert(tmp_path / "state.pt", tmp_path / "model", points, weights_name="kaggle")
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


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(DenseNet(findings=14).state_dict(), tmp_path / "state.pt")

    with pytest.raises(ModelUnavailable, match="2 tensors differ, first class_layers"):
        converter.convert(tmp_path / "state.pt", tmp_path / "model", PUBLISHED_POINTS["all"], weights_name="all")
    assert not (tmp_path / "model").exists()


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

    assert read_tensors(tmp_path / "state.pt").keys() == {"features.conv0.weight"}
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(["no", "network"])])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(content)

    with pytest.raises(ModelUnavailable, match=r"state\.pt"):
        read_tensors(tmp_path / "state.pt")

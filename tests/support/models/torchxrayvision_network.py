"""The network of TorchXRayVision, written again from its description, with the names of the published checkpoints.

So that what converts and runs such checkpoints has something to agree with; its weights are random.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

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


def untrained(seed: int = 11) -> nn.Module:
    """Return the network with random weights that make its answers differ from image to image."""
    torch.manual_seed(seed)
    made = DenseNet()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
        made.features.conv0.weight.mul_(0.003)
    return made.eval()


def save_as_published(network: nn.Module, path: Path, *, new_format: bool = True) -> Path:
    """Pickle the whole module, as published; its class is gone when the file is read."""
    library, package = types.ModuleType(_MODULE), types.ModuleType("torchxrayvision")
    sys.modules[_MODULE], sys.modules["torchxrayvision"] = library, package
    # Old files carry the source of their classes along.
    package.models, library.__file__ = library, __file__
    homes = {}
    for kind in (DenseNet, _Layer, _Transition):
        homes[kind], kind.__module__ = kind.__module__, _MODULE
        setattr(library, kind.__name__, kind)
    try:
        torch.save(network, path, _use_new_zipfile_serialization=new_format)
    finally:
        for kind, home in homes.items():
            kind.__module__ = home
        del sys.modules[_MODULE], sys.modules["torchxrayvision"]
    return path

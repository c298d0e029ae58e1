"""Bundles with the names and shapes of those in the Model Zoo that have a card in the node, and application packages.

Configurations are written here from what the published ones do; weights are random, and are left out where a site would
add them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.densenet import DenseNet

_DENSITY_NETWORK: dict[str, Any] = {
    "_target_": "monai.networks.nets.DenseNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 4,
    "init_features": 16,
    "growth_rate": 8,
    "block_config": [2, 2],
}
_DENSITY: dict[str, Any] = {
    "device": "$torch.device('cpu')",
    "network_def": _DENSITY_NETWORK,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": 2},
            {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0},
            {"_target_": "Resized", "keys": "image", "spatial_size": [96, 96]},
        ],
    },
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}],
    },
}
_ABOUT: dict[str, Any] = {
    "name": "Breast density classification",
    "version": "0.1.6",
    "monai_version": "1.6.1",
    "network_data_format": {
        "inputs": {"image": {"type": "image", "num_channels": 3, "spatial_shape": [96, 96], "value_range": [0, 1]}},
        "outputs": {"pred": {"type": "image", "format": "classes", "num_channels": 4, "spatial_shape": [1, 4]}},
    },
}


def breast_density(folder: Path, **about: object) -> Path:
    """Write a bundle that answers as the zoo's breast density classification, with a network that is MONAI's own and
    without weights; `about` is laid over its metadata."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "models" / "model.ts").write_bytes(b"another form of the weights")
    (folder / "configs" / "inference.json").write_text(json.dumps(_DENSITY))
    (folder / "configs" / "metadata.json").write_text(json.dumps(_ABOUT | about))
    return folder


def density_weights(path: Path) -> Path:
    """Save random weights of its network as the zoo saves them."""
    torch.manual_seed(5)
    arguments = {key: value for key, value in _DENSITY_NETWORK.items() if key != "_target_"}
    torch.save(DenseNet(**arguments).state_dict(), path)
    return path


def application_package(folder: Path, bundles: int = 1) -> Path:
    """Write an application package as it lies unpacked: manifests, program, and bundles with their weights."""
    for place, content in (("etc/holoscan", {"models": ["density"]}), ("opt/holoscan/app", {})):
        (folder / place).mkdir(parents=True)
        if content:
            (folder / place / "pkg.json").write_text(json.dumps({"apiVersion": "1.0.0", **content}))
            (folder / place / "app.json").write_text(json.dumps({"command": '["python3", "/opt/holoscan/app"]'}))
    (folder / "opt" / "holoscan" / "app" / "app.py").write_text("raise SystemExit('this is never run')\n")
    for number in range(bundles):
        bundle = breast_density(folder / "opt" / "holoscan" / "models" / f"density{number or ''}")
        density_weights(bundle / "models" / "model.pt")
    return folder

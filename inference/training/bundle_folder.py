"""The bundle folder of a trained model: read its definitions, write weights, figures and the card's measured values.

The folder's ``configs/inference.json`` is the one place where network and preprocessing are defined; training reads
them there, so that training and use cannot differ.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle.config_parser import ConfigParser
from safetensors.torch import load_file, save_file
from torch import nn

#: The bundle that ships with the package; a new one starts as a copy of it.
SHIPPED = Path(__file__).resolve().parents[1] / "models" / "cxr-pneumonia"
WEIGHTS = Path("models") / "model.safetensors"


def prepare(folder: Path, shipped: Path = SHIPPED) -> None:
    """Make the folder a model folder, by copying the shipped definitions and card, unless it is one already."""
    if not (folder / "model_card.toml").exists():
        shutil.copytree(shipped, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)


def definitions(folder: Path) -> ConfigParser:
    """Return the parsed ``configs/inference.json``; ask it for ``network_def`` and ``preprocessing``."""
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    return parser


def trained_network(folder: Path) -> nn.Module:
    """Return the network with the folder's weights, in evaluation mode. Raises `RuntimeError` if a key differs."""
    network: nn.Module = definitions(folder).get_parsed_content("network_def")
    network.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return network.eval()


def write_weights(folder: Path, network: nn.Module) -> None:
    """Save the weights as safetensors, a format that holds numbers and no code."""
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / WEIGHTS)


def write_detector(folder: Path, *, encoder: str, latent: int) -> None:
    """Write ``configs/detector.json``: the shape of an anomaly detector, which its weights must fit."""
    (folder / "configs").mkdir(exist_ok=True)
    text = json.dumps({"encoder": encoder, "latent": latent}, indent=4)
    (folder / "configs" / "detector.json").write_text(text + "\n", encoding="utf-8")


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write ``metrics.json``."""
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_card_values(folder: Path, **parameters: float | Sequence[float]) -> None:
    """Put the digest of the weights and these parameters into ``model_card.toml``; every other line stays as people
    wrote it. Raises `ValueError` unless each has exactly one line."""
    card = folder / "model_card.toml"
    text = card.read_text(encoding="utf-8")
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    values = {"sha256": f'"{digest}"', **{name: _toml(value) for name, value in parameters.items()}}
    for name, value in values.items():
        text, found = re.subn(rf"(?m)^{name} = [^#\n]*?(?=\s*(#|$))", f"{name} = {value}", text)
        if found != 1:
            raise ValueError(f"{card} has {found} lines '{name} = …'; exactly one must be there to be filled in.")
    card.write_text(text, encoding="utf-8")


def _toml(value: float | Sequence[float]) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else f"[{', '.join(f'{one:.4f}' for one in value)}]"

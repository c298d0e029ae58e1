"""Makes a model folder of a published TorchXRayVision DenseNet-121 checkpoint: safetensors and a card.

    python -m dicom_node.inference.training.convert_torchxrayvision CHECKPOINT FOLDER [--weights all]

Neither torchxrayvision nor torchvision is needed, and nothing in the checkpoint is run (`tensor_pickle`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.networks.nets.densenet import DenseNet121
from safetensors.torch import save_file

from dicom_node.errors import ModelUnavailable
from dicom_node.inference.cards.card import CARD_NAME
from dicom_node.inference.runtimes.torchxrayvision import OPERATING_POINTS, OUTPUTS
from dicom_node.inference.training.tensor_pickle import read_tensors
from dicom_node.inference.training.torchxrayvision_labels import LABELS, PUBLISHED_POINTS
from dicom_node.model import Code

_log = logging.getLogger(__name__)
_LAYER = re.compile(r"(denselayer\d+)\.(norm|relu|conv)")

_TOP = """\
name = {name}
version = {version}
manufacturer = "Cohen et al., TorchXRayVision"
runtime = "torchxrayvision"
task = "classification"
intended_use = "Decision support: {count} findings on one frontal chest radiograph of an adult, to order a reading \
list. Not verified for clinical use, not a medical device, no substitute for a reading."
limits = "DenseNet-121 trained on public sets of adult radiographs whose labels were mostly taken from reports by \
programs. Scores are stretched so that each finding's operating point is 0.5; they are no probabilities. Only the \
middle square of the image is seen. The terms of the sets it was trained on apply."
calibrated = false
rank = ["-instances"]

[[accepts]]
modality = ["CR", "DX"]

[gate]
age_years = {{ min = 18, or_absent = true }}

[weights]
file = "model.safetensors"
sha256 = "{sha256}"

[parameters]
threshold = 0.5

[explain]
method = "grad-cam"
layer = "class_layers.relu"
"""
_FINDING = """
[[finding]]
key = {key}
label = {label}
output_index = {index}
code = {code}
site = {site}
"""


def convert(checkpoint: Path, folder: Path, points: Sequence[float], *, weights_name: str) -> Path:
    """Write weights and card into `folder`; returns it. `points` are the operating points in the order of `LABELS`.

    Raises `ModelUnavailable` when the checkpoint is not that network.
    """
    state = renamed(read_tensors(checkpoint))
    _check(state, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    save_file({**state, OPERATING_POINTS: torch.tensor(points, dtype=torch.float32)}, weights)
    (folder / CARD_NAME).write_text(_card(points, weights, weights_name), encoding="utf-8")
    return folder


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the tensors the names MONAI has for them; those of older layouts and extra buffers are left out."""
    return {
        _LAYER.sub(r"\1.layers.\2", name).replace("classifier.", "class_layers.out."): value.contiguous()
        for name, value in state.items()
        if name.startswith(("features.", "classifier."))
    }


def _check(state: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    expected = DenseNet121(spatial_dims=2, in_channels=1, out_channels=OUTPUTS).state_dict()
    wrong = sorted(
        name
        for name in {*expected, *state}
        if name not in expected or name not in state or expected[name].shape != state[name].shape
    )
    if wrong:
        raise ModelUnavailable(
            f"Checkpoint {checkpoint} is not a DenseNet-121 with one channel and {OUTPUTS} findings: {len(wrong)} "
            f"tensors differ, first {wrong[0]}."
        )


def _card(points: Sequence[float], weights: Path, weights_name: str) -> str:
    known = [(index, label) for index, label in enumerate(LABELS) if not math.isnan(points[index])]
    top = _TOP.format(
        name=json.dumps(f"torchxrayvision-{weights_name}".replace("_", "-")),
        version=json.dumps("1.0"),
        count=len(known),
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    findings = (
        _FINDING.format(
            key=json.dumps(one.key),
            label=json.dumps(one.label),
            index=index,
            code=_toml(one.code),
            site=_toml(one.site),
        )
        for index, one in known
    )
    return top + "".join(findings)


def _toml(code: Code) -> str:
    value, scheme, meaning = (json.dumps(text) for text in (code.value, code.scheme, code.meaning))
    return f"{{ value = {value}, scheme = {scheme}, meaning = {meaning} }}"


def main(arguments: list[str] | None = None) -> None:
    """Convert one checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Make a model folder of a TorchXRayVision checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="the published .pt file")
    parser.add_argument("folder", type=Path, help="model folder to write")
    parser.add_argument("--weights", choices=sorted(PUBLISHED_POINTS), default="all", help="which published set it is")
    options = parser.parse_args(arguments)
    points = PUBLISHED_POINTS[options.weights]
    convert(options.checkpoint, options.folder, points, weights_name=options.weights)
    _log.info("Model written to %s: %d findings.", options.folder, sum(not math.isnan(one) for one in points))


if __name__ == "__main__":
    main()

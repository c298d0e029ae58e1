"""Bundle folders in the style of the MONAI Model Zoo, written in code: networks whose answer follows from the image.

Each network is one convolution whose weights are chosen, so that tests know what must come out and where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

JsonObject = dict[str, Any]

#: How every published bundle of the zoo starts; the folders exist nowhere, so reading them would fail.
_HEAD: JsonObject = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "image_key": "image",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/nowhere/data",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network": "$@network_def.to(@device)",
}
_TAIL: JsonObject = {
    "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
    "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "postprocessing": "@postprocessing"},
    "checkpointloader": {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'"},
    "run": ["$@evaluator.run()"],
}
_LOAD: list[JsonObject] = [
    {"_target_": "LoadImaged", "keys": "@image_key", "reader": "ITKReader"},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
]
_SAVE: JsonObject = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
_SCALE: JsonObject = {
    "_target_": "ScaleIntensityRanged", "keys": "@image_key",
    "a_min": -200, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True,
}  # fmt: skip
_SOFTMAX: JsonObject = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
_INVERT: JsonObject = {
    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
    "nearest_interp": False, "to_tensor": True,
}  # fmt: skip
_ARGMAX: JsonObject = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
_LUNG = 'site = { value = "39607008", scheme = "SCT", meaning = "Lung" }'


def compose(*transforms: JsonObject) -> JsonObject:
    """Return a Compose of the configuration."""
    return {"_target_": "Compose", "transforms": list(transforms)}


def write_bundle(
    folder: Path,
    config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    card: str,
    *,
    yaml: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle folder with its card; `card` is the part after runtime and limits. Return the folder."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    text = json.dumps({**_HEAD, **config, **_TAIL})
    if yaml:
        import yaml as yaml_format  # noqa: PLC0415 - one test needs it

        text = yaml_format.safe_dump(json.loads(text))
    (folder / "configs" / ("inference.yaml" if yaml else "inference.json")).write_text(text)
    scale = {"inputs": {"image": {"value_range": [0, 1]}}}
    about = {"version": "0.0.1", "monai_version": "1.4.0", "network_data_format": scale, **(metadata or {})}
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    weights = folder / "models" / "model.safetensors"
    save_file(dict(state), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "model_card.toml").write_text(_CARD.replace("NAME", folder.name).replace("SHA256", digest) + card)
    return folder


_CARD = """\
name = "NAME"
version = "0.0.1"
manufacturer = "tests"
runtime = "monai-bundle"
intended_use = "tests"
limits = "weights chosen by hand"
calibrated = false
weights = { file = "models/model.safetensors", sha256 = "SHA256" }
"""


# --- segmentation ------------------------------------------------------------------------------------------------

SEGMENTS = """
task = "segmentation"
[[accepts]]
modality = ["CT", "MR"]
[gate]
test_subjects_allowed = true
[[segment]]
value = 1
key = "block"
label = "Block"
type = { value = "10200004", scheme = "SCT", meaning = "Liver" }
plausible_ml = { max = 1000 }
[[segment]]
value = 2
key = "ball"
label = "Ball"
side = "left"
type = { value = "64033007", scheme = "SCT", meaning = "Kidney" }
color_rgb = [10, 200, 30]
"""


def two_levels(*, flat: bool = False) -> dict[str, torch.Tensor]:
    """Weights of a 1x1x1 (flat: 1x1) convolution: class 1 above 0.4 of the scaled range, class 2 above 0.8, sharply."""
    slope = 400.0
    return {
        "weight": torch.tensor([0.0, slope, 2 * slope]).reshape(3, 1, *([1] * (2 if flat else 3))),
        "bias": torch.tensor([0.0, -0.4 * slope, -1.2 * slope]),
    }


def segmenter(
    folder: Path,
    *,
    before: Sequence[JsonObject] = (),
    inverts: bool = True,
    yaml: bool = False,
    card: str = SEGMENTS,
    flat: bool = False,
) -> Path:
    """Write a bundle that outlines by value: `before` stands between loading and scaling."""
    config = {
        "network_def": {
            "_target_": f"torch.nn.Conv{2 if flat else 3}d",
            "in_channels": 1,
            "out_channels": 3,
            "kernel_size": 1,
        },
        "preprocessing": compose(*_LOAD, *before, _SCALE, {"_target_": "EnsureTyped", "keys": "@image_key"}),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 16], "sw_batch_size": 2, "overlap": 0.25},
        "postprocessing": compose(_SOFTMAX, *([_INVERT] if inverts else []), _ARGMAX, _SAVE),
    }
    return write_bundle(folder, config, two_levels(flat=flat), card, yaml=yaml)


RAS: JsonObject = {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"}
RESAMPLED: JsonObject = {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"}
CROPPED: JsonObject = {"_target_": "CropForegroundd", "keys": "@image_key", "source_key": "@image_key"}

# --- classification and regression -------------------------------------------------------------------------------

TWO_CLASSES = f"""
task = "classification"
[parameters]
threshold = 0.5
[[finding]]
key = "left-half"
label = "Left half bright"
output_index = 0
code = {{ value = "233604007", scheme = "SCT", meaning = "Pneumonia" }}
{_LUNG}
[[finding]]
key = "right-half"
label = "Right half bright"
output_index = 1
code = {{ value = "17621005", scheme = "SCT", meaning = "Normal" }}
{_LUNG}
"""

A_VALUE = f"""
task = "regression"
[[finding]]
key = "brightness"
label = "Mean brightness"
code = {{ value = "112031", scheme = "DCM", meaning = "Attenuation Coefficient" }}
unit = {{ value = "%", scheme = "UCUM", meaning = "Percent" }}
plausible = {{ min = 0, max = 50 }}
{_LUNG}
"""


def classifier(folder: Path, *, decided: bool = False, card: str = TWO_CLASSES) -> Path:
    """Write a bundle that compares the halves of a picture; `decided` ends in classes instead of probabilities.

    It reads (columns, rows) as MONAI's readers give pictures, so the first half of its flattened input is the left.
    """
    config = {
        "network_def": "$torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))",
        "preprocessing": compose(
            {"_target_": "LoadImaged", "keys": ["@image_key", "label"]},
            {"_target_": "EnsureChannelFirstd", "keys": ["@image_key", "label"]},
            {"_target_": "Resized", "keys": "@image_key", "spatial_size": [8, 8], "mode": "area"},
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose(
            _SOFTMAX,
            *([{**_ARGMAX, "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 2}] if decided else []),
            {"_target_": "SaveClassificationd", "keys": "pred", "output_dir": "@output_dir"},
        ),
    }
    halves = torch.zeros(2, 64)
    halves[0, :32], halves[1, 32:] = 1.0, 1.0
    return write_bundle(folder, config, {"1.weight": halves, "1.bias": torch.zeros(2)}, card)


def regressor(folder: Path, *, bias: float = 0.0) -> Path:
    """Write a bundle that gives the mean brightness of a picture in percent, plus `bias`."""
    config = {
        "network_def": {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 1},
        "preprocessing": compose(
            *_LOAD,
            {"_target_": "Resized", "keys": "@image_key", "spatial_size": [8, 8], "mode": "area"},
            {"_target_": "Lambdad", "keys": "@image_key", "func": "$lambda x: x.flatten()"},
        ),
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": compose({"_target_": "EnsureTyped", "keys": "pred"}),
    }
    state = {"weight": torch.full((1, 64), 100.0 / 64), "bias": torch.tensor([bias])}
    return write_bundle(folder, config, state, A_VALUE)


# --- detection ---------------------------------------------------------------------------------------------------

NODULES = f"""
task = "detection"
[[accepts]]
modality = "CT"
[gate]
test_subjects_allowed = true
[parameters]
threshold = 0.5
[[finding]]
key = "nodule"
label = "Nodule"
output_index = 0
code = {{ value = "427359005", scheme = "SCT", meaning = "Solitary nodule of lung" }}
{_LUNG}
[[finding]]
key = "calcification"
label = "Calcification"
output_index = 1
code = {{ value = "129748007", scheme = "SCT", meaning = "Calcification" }}
{_LUNG}
"""

_DETECTOR = '''
"""The box around everything brighter than 0.9, and a faint one around everything: keys and boxes as RetinaNet's."""

import torch  # noqa: PLC0415 - only tests of bundles pay for torch


class Detector:
    def __init__(self, network):
        self.network = network
        self.ready = False

    def set_target_keys(self, box_key, label_key):
        self.box_key, self.label_key, self.ready = box_key, label_key, True


class BoxInferer:
    def __init__(self, detector):
        self.detector = detector

    def __call__(self, inputs, network):
        assert self.detector.ready, "the evaluator's requirements were not run"
        found = []
        for image in inputs:
            bright = torch.nonzero(network(image[None])[0, 0] > 0.9)
            whole = torch.cat([torch.zeros(3), torch.tensor(image.shape[1:])])
            box = torch.cat([bright.amin(dim=0), bright.amax(dim=0) + 1])
            boxes = torch.stack([whole, box]).float()
            key = self.detector.label_key
            scores = torch.tensor([0.1, 0.8])
            found.append({self.detector.box_key: boxes, key: torch.tensor([1, 0]), key + "_scores": scores})
        return found
'''


def detector(folder: Path) -> Path:
    """Write a bundle whose detector, a script of its own, boxes what is brightest."""
    on_image = {"box_ref_image_keys": "@image_key"}
    config = {
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 1, "kernel_size": 1},
        "detector": {"_target_": "scripts.boxes.Detector", "network": "@network"},
        "detector_ops": ["$@detector.set_target_keys(box_key='box', label_key='label')"],
        "preprocessing": compose(*_LOAD, RAS, RESAMPLED, _SCALE, {"_target_": "EnsureTyped", "keys": "@image_key"}),
        "inferer": {"_target_": "scripts.boxes.BoxInferer", "detector": "@detector"},
        "postprocessing": compose(
            {"_target_": "ClipBoxToImaged", "box_keys": "box", "label_keys": "label", **on_image, "remove_empty": True},
            {"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box", **on_image, "affine_lps_to_ras": True},
            {"_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd"},
            {"_target_": "DeleteItemsd", "keys": ["@image_key"]},
        ),
    }  # fmt: skip
    made = write_bundle(folder, config, {"weight": torch.ones(1, 1, 1, 1, 1), "bias": torch.zeros(1)}, NODULES)
    path = made / "configs" / "inference.json"
    content = json.loads(path.read_text())
    content["evaluator"]["_requires_"] = "@detector_ops"
    path.write_text(json.dumps(content))
    (made / "scripts").mkdir()
    (made / "scripts" / "__init__.py").write_text("")
    (made / "scripts" / "boxes.py").write_text(_DETECTOR)
    return made

"""Bundles whose answer is known exactly on `studies.shapes`, and MONAI's own answer to the same files.

Each network is one convolution of one voxel: air is 0 after scaling, the block 0.6, the ball 1.0, so that every mask
follows from the true tissue, and nothing of the node is needed to say what must come out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.support.models.zoo_bundles import NODULES, SEGMENTS, JsonObject, compose, write_bundle
from tests.support.studies.shapes import Placed, hounsfield_of

LOAD: tuple[JsonObject, ...] = (
    {"_target_": "LoadImaged", "keys": "image", "image_only": True, "reader": "NibabelReader"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
)
SCALE: JsonObject = {
    "_target_": "ScaleIntensityRanged", "keys": "image",
    "a_min": -200, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True,
}  # fmt: skip
RAS: JsonObject = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
#: Odd spacings, at which no voxel lies halfway between two.
RESAMPLED: JsonObject = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.37, 1.63, 2.11], "mode": "bilinear"}
CROPPED: JsonObject = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "allow_smaller": True}
SOFTMAX: JsonObject = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
SIGMOID: JsonObject = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
ARGMAX: JsonObject = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
ONE_HOT: JsonObject = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True, "to_onehot": 3}
THRESHOLD: JsonObject = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
LARGEST: JsonObject = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]}
INVERT: JsonObject = {
    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
    "nearest_interp": False, "to_tensor": True,
}  # fmt: skip

#: The whole (block and ball) and in it the core (the ball): structures that lie in each other.
NESTED = SEGMENTS.replace('"block"', '"whole"').replace('"Block"', '"Whole"').replace('"ball"', '"core"')

_SLOPE = 400.0


def exclusive_state() -> dict[str, torch.Tensor]:
    """Three classes: background, 1 above 0.4 of the scaled range, 2 above 0.8."""
    return {
        "weight": torch.tensor([0.0, _SLOPE, 2 * _SLOPE]).reshape(3, 1, 1, 1, 1),
        "bias": torch.tensor([0.0, -0.4 * _SLOPE, -1.2 * _SLOPE]),
    }


def levels_state(*levels: float, slope: float = _SLOPE) -> dict[str, torch.Tensor]:
    """A channel for each level, positive above it."""
    return {
        "weight": torch.full((len(levels), 1, 1, 1, 1), slope),
        "bias": torch.tensor([-level * slope for level in levels]),
    }


def known_segmenter(
    folder: Path,
    *,
    before: Sequence[JsonObject] = (RAS,),
    after: Sequence[JsonObject],
    state: Mapping[str, torch.Tensor] | None = None,
    card: str = SEGMENTS,
    names: Mapping[str, str] | None = None,
) -> Path:
    """Write a bundle that outlines by value; `names` are those that its metadata give the channels."""
    weights = exclusive_state() if state is None else state
    config = {
        "network_def": {
            "_target_": "torch.nn.Conv3d",
            "in_channels": 1,
            "out_channels": len(weights["bias"]),
            "kernel_size": 1,
        },
        "preprocessing": compose(*LOAD, SCALE, *before, {"_target_": "EnsureTyped", "keys": "image"}),
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 16], "sw_batch_size": 2, "overlap": 0.25},
        "postprocessing": compose(*after),
    }
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": dict(names)}}}} if names else {}
    return write_bundle(folder, config, weights, card, metadata=metadata)


def monai_prediction(bundle: Path, place: Placed, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parts of a bundle, and what they make of the study as a NIfTI file before `postprocessing`."""
    import nibabel  # noqa: PLC0415 - comes with the inference extra
    from monai.bundle.config_parser import ConfigParser  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    hounsfield = hounsfield_of(place).transpose(2, 1, 0).astype(np.float32)
    path = folder / "study.nii.gz"
    nibabel.save(nibabel.Nifti1Image(hounsfield, np.diag([-1.0, -1.0, 1.0, 1.0]) @ place.affine_lps_mm), path)
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    names = ("network_def", "preprocessing", "inferer", "postprocessing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # readers that are not installed, defaults that once changed
        parts: dict[str, Any] = {name: parser.get_parsed_content(name) for name in names}
    parts["network_def"].load_state_dict(load_file(bundle / "models" / "model.safetensors"))
    data = parts["preprocessing"]({"image": str(path)})
    with torch.no_grad():
        data["pred"] = parts["inferer"](data["image"][None], parts["network_def"])[0]
    return parts, data


def monai_masks(bundle: Path, place: Placed, folder: Path) -> NDArray[np.float32]:
    """Return what MONAI itself answers for the study as a NIfTI file, (channels, slices, rows, columns)."""
    parts, data = monai_prediction(bundle, place, folder)
    found = parts["postprocessing"](data)["pred"]
    return np.asarray(found).transpose(0, 3, 2, 1)


# --- boxes -----------------------------------------------------------------------------------------------------------

_BOX_SCRIPT = '''
"""The box around the ball as the network writes it: low and high corner, or centre and size."""

import torch


class BoxInferer:
    def __init__(self, half_px, as_centre):
        self.half_px, self.as_centre = half_px, as_centre

    def __call__(self, inputs, network):
        found = []
        for image in inputs:
            bright = torch.nonzero(network(image[None])[0, 0] > 0.9)
            low, high = bright.amin(dim=0) - self.half_px, bright.amax(dim=0) + 1 - self.half_px
            box = torch.cat([(low + high) / 2, high - low] if self.as_centre else [low, high]).float()
            found.append({"box": box[None], "label": torch.tensor([0]), "label_scores": torch.tensor([0.8])})
        return found
'''
_ON_IMAGE: JsonObject = {"box_ref_image_keys": "image"}
CLIPPED: JsonObject = {"_target_": "ClipBoxToImaged", "box_keys": "box", "label_keys": "label", **_ON_IMAGE}
TO_WORLD: JsonObject = {"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box", **_ON_IMAGE}
TO_CENTRE: JsonObject = {
    "_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd",
}  # fmt: skip
TO_CORNERS: JsonObject = {**TO_CENTRE, "src_mode": "cccwhd", "dst_mode": "xyzxyz"}
TO_STANDARD: JsonObject = {"_target_": "ConvertBoxToStandardModed", "box_keys": "box", "mode": "cccwhd"}


def known_detector(folder: Path, *, after: Sequence[JsonObject], at_centres: bool, as_centre: bool) -> Path:
    """Write a bundle that boxes the ball exactly; a whole number is the centre of a voxel, or its outer edge."""
    config = {
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 1, "kernel_size": 1},
        "preprocessing": compose(*LOAD, RAS, SCALE, {"_target_": "EnsureTyped", "keys": "image"}),
        "inferer": {
            "_target_": "scripts.boxes.BoxInferer",
            "half_px": 0.5 if at_centres else 0.0,
            "as_centre": as_centre,
        },
        "postprocessing": compose(*after),
    }
    state = {"weight": torch.ones(1, 1, 1, 1, 1), "bias": torch.zeros(1)}
    made = write_bundle(folder, config, state, NODULES)
    (made / "scripts").mkdir()
    (made / "scripts" / "__init__.py").write_text("")
    (made / "scripts" / "boxes.py").write_text(_BOX_SCRIPT)
    return made

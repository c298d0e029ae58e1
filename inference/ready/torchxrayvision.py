"""Makes the weights file of runtime `torchxrayvision` from a checkpoint as TorchXRayVision publishes it.

Neither torchxrayvision nor torchvision is needed, and nothing in the checkpoint is run. Every tensor of it must be
used, and every tensor of the network must be there: what does not fit is named, and nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.networks.nets.densenet import DenseNet121
from safetensors.torch import save_file

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.ready.pickled_module import read_tensors
from dicom_node.inference.ready.torchxrayvision_sets import OPERATING_POINTS_OF
from dicom_node.inference.runtimes.torchxrayvision import OPERATING_POINTS, OUTPUTS
from dicom_node.inference.runtimes.weights import read_state

#: The network has 28 MB of weights; a published file is as large.
_LARGEST_BYTES = 256 << 20
#: The buffer that newer versions of the library keep the operating points in.
_OWN_POINTS = "op_threshs"
#: How torchvision names the parts of a layer and the classifier, of which MONAI has other names.
_LAYER = re.compile(r"(denselayer\d+)\.(norm|relu|conv)")
_SHOWN = 3


def convert(checkpoint: Path, weights: Path, set_name: str) -> None:
    """Write the weights of one published set (`OPERATING_POINTS_OF`) as safetensors.

    Raises `ModelUnavailable` when the checkpoint is not that network, or holds other operating points.
    """
    state = dict(_read(checkpoint))
    points = torch.tensor(OPERATING_POINTS_OF[set_name], dtype=torch.float32)
    _check_points(state.pop(_OWN_POINTS, points), points, set_name)
    named = {_LAYER.sub(r"\1.layers.\2", name).replace("classifier.", "class_layers.out."): name for name in state}
    _check_fit({ours: state[theirs] for ours, theirs in named.items()}, checkpoint)
    tensors = {ours: state[theirs].contiguous() for ours, theirs in named.items()}
    save_file({**tensors, OPERATING_POINTS: points}, weights)


def _read(checkpoint: Path) -> Mapping[str, torch.Tensor]:
    if checkpoint.is_file() and checkpoint.stat().st_size > _LARGEST_BYTES:
        raise ModelUnavailable(
            f"Checkpoint {checkpoint} has {checkpoint.stat().st_size >> 20} MB; a DenseNet-121 has 28. Is it the file "
            "as it was published?"
        )
    return read_state(checkpoint) if checkpoint.suffix == ".safetensors" else read_tensors(checkpoint)


def _check_points(found: torch.Tensor, published: torch.Tensor, set_name: str) -> None:
    if found.shape != published.shape or not torch.allclose(found.float(), published, rtol=1e-4, equal_nan=True):
        raise ModelUnavailable(
            f"The checkpoint has operating points of its own ({_OWN_POINTS}), which are not those published for the "
            f"set {set_name!r}. Name the set that it is: {', '.join(OPERATING_POINTS_OF)}."
        )


def _check_fit(state: Mapping[str, torch.Tensor], checkpoint: Path) -> None:
    """Raise `ModelUnavailable` unless each tensor has its place in the network, and each place its tensor."""
    expected = DenseNet121(spatial_dims=2, in_channels=1, out_channels=OUTPUTS).state_dict()
    missing, unused = expected.keys() - state.keys(), state.keys() - expected.keys()
    misshapen = [
        f"{name} ({_shape(state[name])} instead of {_shape(expected[name])})"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    wrong = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("without a place", unused), ("of another shape", misshapen))
        if names
    ]
    if wrong:
        raise ModelUnavailable(
            f"Checkpoint {checkpoint} is not a DenseNet-121 with one channel and {OUTPUTS} findings. Tensors "
            f"{'; '.join(wrong)}."
        )


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"

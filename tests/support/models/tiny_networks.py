"""Networks small enough to make in a test, seeded, and the files other tools would make of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SIZE = 24
#: `[preprocessing]` of the classifiers here.
IMAGE_24 = f"\n[preprocessing]\nsize = [{SIZE}, {SIZE}]\nmean = [0.5]\nstd = [0.25]\nbatch = 4\n"


def classifier(outputs: int = 2) -> nn.Module:
    """An image classifier: convolution, ReLU, mean, linear layer."""
    torch.manual_seed(7)
    layers = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers.append(nn.Linear(6, outputs))
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.7)
    return layers.eval()


def segmenter(dimensions: int) -> nn.Module:
    """One convolution of one voxel: background below 0.5, class 1 above; so that its answer is known everywhere."""
    layer = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(1, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([-20.0, 20.0]).reshape(layer.weight.shape))
        layer.bias.copy_(torch.tensor([10.0, -10.0]))
    return nn.Sequential(layer).eval()


def save_script(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        # Making such files is deprecated; running those that exist is what is tested.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), path)
    return path


def save_exported(network: nn.Module, example: torch.Tensor, path: Path, *, largest_batch: int = 4) -> Path:
    batch = torch.export.Dim("batch", min=1, max=largest_batch)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: batch},)), path)
    return path


def save_onnx_classifier(network: nn.Sequential, path: Path) -> Path:
    """Write the classifier as a graph, node by node."""
    convolution, linear = network[0], network[4]
    weights = {
        "kernel": convolution.weight,
        "offset": convolution.bias,
        "matrix": linear.weight,
        "shift": linear.bias,
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "offset"], ["seen"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["seen"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "shift"], ["logits"], transB=1),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIZE, SIZE])
    gives = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("mean", ["batch", 6, 1, 1]), ("logits", ["batch", 2]))
    ]
    stored = [numpy_helper.from_array(value.detach().numpy(), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "classifier", [given], gives, stored)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def plain_probabilities(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """What plain torch and Pillow say of (rows, columns), by the steps that `IMAGE_24` names."""
    from PIL import Image  # noqa: PLC0415 - only here

    resized = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        logits = network(torch.from_numpy((resized - 0.5) / 0.25)[None, None].float())
    return torch.softmax(logits[0], dim=0).numpy()

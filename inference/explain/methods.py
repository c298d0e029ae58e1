"""What in an image an answer rests on, as a map: by gradients (Grad-CAM), by covering, by attention.

Grad-CAM is own code and not MONAI's, whose hooks stay in the network (so that each call would need a copy of it) and
whose Grad-CAM++ overflows for a logit beyond 88.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.explain.maps import FloatMap, on_source, unit_range

_Weigh = Callable[[Tensor, Tensor], Tensor]


def grad_cam(network: nn.Module, tensor: Tensor, *, layer: str, output_index: int, shape: tuple[int, ...]) -> FloatMap:
    """Return Grad-CAM (Selvaraju et al., ICCV 2017) for one output as 0..1, of the source's `shape`.

    `tensor` is the network's input (1, channels, …) in evaluation mode and shows the whole source, whose `shape` is
    (rows, columns) or (slices, rows, columns). The map is scaled by its maximum and all 0 when nothing speaks for
    the output. Raises `ModelUnavailable` for a layer or output the network does not have.
    """
    return _map(network, tensor, _Wanted(layer, output_index, shape), _mean_gradient)


def grad_cam_plus_plus(
    network: nn.Module, tensor: Tensor, *, layer: str, output_index: int, shape: tuple[int, ...]
) -> FloatMap:
    """Return Grad-CAM++ (Chattopadhay et al., WACV 2018), which keeps several separate places; else as `grad_cam`."""
    return _map(network, tensor, _Wanted(layer, output_index, shape), _pixelwise_gradient)


@dataclass(frozen=True, slots=True)
class _Wanted:
    layer: str
    output_index: int
    shape: tuple[int, ...]


def _map(network: nn.Module, tensor: Tensor, wanted: _Wanted, weigh: _Weigh) -> FloatMap:
    activations, gradients = _layer_state(network, tensor, wanted.layer, wanted.output_index)
    if activations.ndim != tensor.ndim:
        raise ModelUnavailable(
            f"Layer {wanted.layer!r} gives {activations.ndim} dimensions where {tensor.ndim} are due: it has no place "
            "on the image. Name a convolutional layer in [explain] layer of the model card."
        )
    heat = (weigh(activations, gradients) * activations).sum(dim=1).clamp(min=0.0)
    return unit_range(on_source(heat[0].float().cpu().numpy(), wanted.shape))


def _layer_state(network: nn.Module, tensor: Tensor, layer: str, output_index: int) -> tuple[Tensor, Tensor]:
    """Return what the layer gave (1, channels, …) and the gradient of the output by it, both float64."""
    module = dict(network.named_modules()).get(layer)
    if module is None:
        raise ModelUnavailable(f"The network has no layer {layer!r}. Correct [explain] layer in the model card.")
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        seen.append(output)
        # The network goes on with a copy: what follows may write into it in place.
        return output.clone()

    handle = module.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            outputs = network(tensor.detach().clone().requires_grad_())
            if not 0 <= output_index < outputs.shape[1]:
                raise ModelUnavailable(
                    f"The network has {outputs.shape[1]} outputs; output {output_index} cannot be explained. "
                    "Correct output_index in the model card."
                )
            (gradient,) = torch.autograd.grad(outputs[0, output_index].sum(), seen[-1])
    finally:
        handle.remove()
    return seen[-1].detach().double(), gradient.double()


def _mean_gradient(activations: Tensor, gradients: Tensor) -> Tensor:
    return gradients.mean(dim=tuple(range(2, activations.ndim)), keepdim=True)


def _pixelwise_gradient(activations: Tensor, gradients: Tensor) -> Tensor:
    """Weights of equation 19; the exponential of the score is a common factor and leaves with the scaling."""
    spatial = tuple(range(2, activations.ndim))
    square = gradients**2
    divisor = 2 * square + activations.sum(dim=spatial, keepdim=True) * gradients**3
    alpha = torch.where(divisor != 0, square / torch.where(divisor != 0, divisor, 1.0), 0.0)
    return (alpha * gradients.clamp(min=0.0)).sum(dim=spatial, keepdim=True)


# --- by covering: no gradients, so also for scripts, ONNX and remote servers -----------------------------------------

#: Scores of a batch: (images, channels, …) float32 in, (images, outputs) out.
Score = Callable[[NDArray[np.float32]], NDArray[np.floating]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """How an image is covered: `cells` places along each axis, each `overlap` times as wide as the distance to the
    next, filled with the image's own mean per channel; `batch_size` images are scored in one call."""

    cells: int = 12
    overlap: float = 2.0
    batch_size: int = 16


def occlusion(
    score: Score, image: NDArray[np.float32], *, output_index: int = 0, cover: Cover | None = None
) -> FloatMap:
    """Return how much one output falls when a place is covered (Zeiler and Fergus, ECCV 2014), 0..1.

    `image` is (channels, rows, columns) or (channels, slices, rows, columns) as `score` takes it; the map has its
    spatial shape and is scaled by its maximum. All 0 when covering nothing lowers the output.
    """
    cover = cover or Cover()
    shape = image.shape[1:]
    windows = list(_windows(shape, cover))
    plain = float(np.asarray(score(image[None]))[0, output_index])
    drops = [plain - value for value in _covered_scores(score, image, windows, cover, output_index)]
    cells = tuple(min(cover.cells, length) for length in shape)
    return unit_range(on_source(np.array(drops, dtype=np.float32).reshape(cells), shape))


def _covered_scores(
    score: Score, image: NDArray[np.float32], windows: list[tuple[slice, ...]], cover: Cover, output_index: int
) -> Iterator[float]:
    means = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True)
    for first in range(0, len(windows), cover.batch_size):
        part = windows[first : first + cover.batch_size]
        batch = np.repeat(image[None], len(part), axis=0)
        for covered, window in zip(batch, part, strict=True):
            covered[(slice(None), *window)] = means
        yield from (float(value) for value in np.asarray(score(batch))[:, output_index])


def _windows(shape: tuple[int, ...], cover: Cover) -> Iterator[tuple[slice, ...]]:
    """Yield the covered windows in row-major order of the cells of the map."""
    yield from product(*(list(_spans(length, cover)) for length in shape))


def _spans(length: int, cover: Cover) -> Iterator[slice]:
    cells = min(cover.cells, length)
    half = max(length / cells * cover.overlap / 2, 0.5)
    for cell in range(cells):
        centre = (cell + 0.5) * length / cells
        yield slice(max(0, round(centre - half)), min(length, max(round(centre + half), round(centre - half) + 1)))


# --- by attention, of a vision transformer ---------------------------------------------------------------------------


def attention_rollout(
    attentions: Sequence[NDArray[np.floating]], *, grid: tuple[int, ...], shape: tuple[int, ...], has_class_token: bool
) -> FloatMap:
    """Return attention rollout (Abnar and Zuidema, ACL 2020) as 0..1, of the source's `shape`.

    `attentions` are the layers' weights after softmax, first layer first, each (heads, tokens, tokens) or (tokens,
    tokens), a row per asking token. The last tokens are the patches, row-major on `grid`; what stands before them
    are class and register tokens. With `has_class_token` the first token's row counts, else the mean over patches.
    Raises `ValueError` when there are fewer tokens than patches, or no layer.
    """
    if not attentions:
        raise ValueError("No attention weights were given; the network must be run so that it keeps them.")
    patches = int(np.prod(grid))
    joint = np.eye(np.asarray(attentions[0]).shape[-1], dtype=np.float64)
    for attention in attentions:
        joint = _with_residual(np.asarray(attention, dtype=np.float64)) @ joint
    if joint.shape[-1] < patches + int(has_class_token):
        raise ValueError(f"The attention has {joint.shape[-1]} tokens; {patches} patches do not fit.")
    reached = joint[0, -patches:] if has_class_token else joint[-patches:, -patches:].mean(axis=0)
    # Every patch reaches the answer a little; only what lies above the least counts.
    heat = (reached - reached.min()).astype(np.float32).reshape(grid)
    return unit_range(on_source(heat, shape))


def _with_residual(attention: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over heads, half identity for the path around the layer, rows that add up to 1."""
    mean = attention.mean(axis=0) if attention.ndim == 3 else attention
    mixed: NDArray[np.float64] = 0.5 * mean + 0.5 * np.eye(mean.shape[-1])
    normalised: NDArray[np.float64] = mixed / mixed.sum(axis=-1, keepdims=True)
    return normalised

"""Where a convolutional network looked: Grad-CAM and Grad-CAM++ on the pixels of the source.

Own code and not MONAI's, whose hooks stay in the network (so that each call would need a copy of it) and whose
Grad-CAM++ overflows for a logit beyond 88.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
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

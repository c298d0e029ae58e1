"""MeshNet (Fedorov 2017): a sequence of dilated convolutions, with one pass over a whole head in little memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MeshNet(nn.Sequential):
    """Dilated 3 x 3 x 3 convolutions with ELU between them, then one of a single voxel; batch norm is in the weights.

    Where the processor multiplies in bfloat16 itself, it computes so, at a fraction of the time. What it gives is
    float32.
    """

    def __init__(self, channels: int, classes: int, dilations: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for place, step in enumerate(dilations):
            layers += [
                nn.Conv3d(channels if place else 1, channels, 3, padding=step, dilation=step),
                nn.ELU(inplace=True),
            ]
        super().__init__(*layers, nn.Conv3d(channels, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (batch, classes, x, y, z) of (batch, 1, x, y, z)."""
        values = image.to(_precision(image.device)).contiguous(memory_format=torch.channels_last_3d)
        for layer in self:
            values = _cast(layer, values)
        return values.float()


def _cast(layer: nn.Module, values: Tensor) -> Tensor:
    """Run one layer in the precision of its values; its weights stay as they are."""
    if not isinstance(layer, nn.Conv3d) or values.dtype == layer.weight.dtype:
        return layer(values)  # type: ignore[no-any-return]
    bias = None if layer.bias is None else layer.bias.to(values.dtype)
    weight = layer.weight.to(values.dtype)
    return nn.functional.conv3d(values, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _precision(device: torch.device) -> torch.dtype:
    if device.type != "cpu":
        return torch.float32
    known = torch.cpu.get_capabilities()
    return torch.bfloat16 if known.get("avx512_bf16") or known.get("amx_bf16") else torch.float32

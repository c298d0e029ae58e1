"""Several networks of one bundle asked as one, each about the image and its mirror images: the mean of probabilities.

What stands around the network stays as it is written: the inferer's windows, the activation, thresholds. So the mean is
given back as logits that the activation turns into it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from monai.inferers.inferer import SlidingWindowInferer
from torch import Tensor, nn

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.runtimes.weights import State

#: How outputs become probabilities: of classes that exclude each other, each by itself, or not at all.
Activation = Literal["softmax", "sigmoid", "none"]
_LEAST = 1e-7
_HALF = 0.5


@dataclass(slots=True)
class _Spread:
    """Standard deviations of the answers: of each image of a call, or summed over outlined voxels of all windows."""

    images: list[float] = field(default_factory=list)
    voxels: float = 0.0
    count: int = 0


class AveragedNetwork(nn.Module):
    """The mean of what `members` say of an image and of its mirror images along `mirrored_axes`, one at a time."""

    def __init__(self, members: Sequence[nn.Module], mirrored_axes: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._axes, self._activation, self._spread = tuple(mirrored_axes), activation, _Spread()

    @property
    def asked(self) -> int:
        """How many answers go into one."""
        return len(self.members) * (1 + len(self._axes))

    @property
    def how(self) -> str:
        """What is averaged, in words."""
        networks = f"{len(self.members)} networks" if len(self.members) > 1 else "one network"
        along = " and ".join(map(str, self._axes))
        return f"{networks}, on the image and mirrored along axis {along}" if self._axes else networks

    def forward(self, image: Tensor) -> Tensor:
        """Return what stands for the mean, shaped as the answer of one member. Raises `ModelUnavailable`."""
        total = squares = torch.zeros(())
        for one in self._answers(image):
            total, squares = total + one, squares + one.square()
        mean = total / self.asked
        self._note(mean, (squares / self.asked - mean.square()).clamp_min(0.0).sqrt(), is_map=mean.ndim == image.ndim)
        return self._as_logits(mean)

    def disagreements(self, count: int) -> list[float]:
        """Return for each of `count` inputs how far apart the answers were since this was last asked: the standard
        deviation of the output that varies most, or its mean over what was outlined."""
        known, self._spread = self._spread, _Spread()
        if len(known.images) == count:
            return known.images
        return [known.voxels / max(1, known.count)] * count

    def _answers(self, image: Tensor) -> Iterator[Tensor]:
        for member in self.members:
            for axis in (None, *self._axes):
                mirrored = image if axis is None else image.flip(axis + 2)
                found = member(mirrored)
                if not isinstance(found, Tensor):
                    raise ModelUnavailable("The network gives no single tensor: [ensemble] has nothing to average.")
                if axis is not None and found.ndim == image.ndim:
                    found = found.flip(axis + 2)
                yield self._activated(found.float())

    def _activated(self, found: Tensor) -> Tensor:
        if self._activation == "softmax":
            return found.softmax(1)
        return found.sigmoid() if self._activation == "sigmoid" else found

    def _as_logits(self, mean: Tensor) -> Tensor:
        if self._activation == "softmax":
            return mean.clamp_min(_LEAST).log()
        return mean.clamp(_LEAST, 1 - _LEAST).logit() if self._activation == "sigmoid" else mean

    def _note(self, mean: Tensor, deviation: Tensor, *, is_map: bool) -> None:
        if not is_map:
            self._spread.images += deviation.flatten(1).amax(1).tolist()
            return
        inside = mean[:, :1] < _HALF if self._activation == "softmax" else mean.amax(1, keepdim=True) >= _HALF
        apart = deviation.amax(1, keepdim=True)[inside]
        self._spread.voxels += float(apart.sum())
        self._spread.count += apart.numel()


def averaged(
    network: nn.Module, states: Sequence[State], mirrored_axes: Sequence[int], activation: Activation
) -> nn.Module:
    """Return the network itself, or the mean over it, copies of it with other weights, and mirror images. Raises
    `RuntimeError` for weights of another network."""
    if not (states or mirrored_axes):
        return network
    members = [network]
    for state in states:
        members.append(deepcopy(network))
        members[-1].load_state_dict(dict(state), strict=True)
    return AveragedNetwork(members, mirrored_axes, activation).eval()


def told_of(network: nn.Module, inferer: Any) -> tuple[str, ...]:
    """Say for readers of a report how the network was asked, where that is not once about the whole image."""
    told = []
    if isinstance(network, AveragedNetwork):
        told.append(f"The mean of {network.asked} answers: {network.how}.")
    if isinstance(inferer, SlidingWindowInferer):
        size = " x ".join(map(str, inferer.roi_size)) if isinstance(inferer.roi_size, Sequence) else inferer.roi_size
        mode = str(getattr(inferer.mode, "value", inferer.mode))
        told.append(f"Read in windows of {size} voxels that overlap by {_share(inferer.overlap)}, {mode} weights.")
    return tuple(told)


def _share(overlap: Sequence[float] | float) -> str:
    return " x ".join(f"{one:.0%}" for one in overlap) if isinstance(overlap, Sequence) else f"{overlap:.0%}"

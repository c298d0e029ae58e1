"""Several small residual networks as one: the mean of their logits on an image and on its mirror image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class MirroredEnsemble(nn.Module):
    """The mean logits of MONAI ResNets over the members and over left and right.

    Mirrored feature maps are turned back before they are joined, so that `features` gives one tensor (images, 2 *
    members * channels, rows, columns) on the grid of the image: one Grad-CAM then speaks for the whole ensemble.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.features = JoinedFeatures([_body(member) for member in members])
        self.heads = nn.ModuleList(_head(member) for member in members)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean logits (images, classes)."""
        maps = self.features(images).chunk(2 * len(self.heads), dim=1)
        logits = [head(one) for head, one in zip(self.heads, maps[0::2], strict=True)]
        logits += [head(one.flip(-1)) for head, one in zip(self.heads, maps[1::2], strict=True)]
        return torch.stack(logits).mean(dim=0)

    def member(self, number: int) -> nn.Sequential:
        """Return one member as a network of its own, which shares its weights with the ensemble."""
        return nn.Sequential(self.features.bodies[number], self.heads[number])

    def alone(self, number: int) -> MirroredEnsemble:
        """Return an ensemble of this member only, which shares its weights."""
        ensemble = MirroredEnsemble([])
        ensemble.features = JoinedFeatures([self.features.bodies[number]])
        ensemble.heads = nn.ModuleList([self.heads[number]])
        return ensemble

    def load_members(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the weights of members that were trained one by one. Raises `RuntimeError` if a key differs."""
        for number, state in enumerate(states):
            self.member(number).load_state_dict(state, strict=True)

    @torch.no_grad()
    def subtract(self, output_index: int, shift: float) -> None:
        """Lower one logit by `shift` for every image, in the weights."""
        for head in self.heads:
            head.get_parameter("3.bias")[output_index] -= shift


class JoinedFeatures(nn.Module):
    """The feature maps of every member for the image and for its mirror image, side by side as channels."""

    def __init__(self, bodies: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)

    def forward(self, images: Tensor) -> Tensor:
        """Return (images, 2 * members * channels, rows, columns): member 0, member 0 mirrored, member 1, …"""
        mirrored = images.flip(-1)
        maps = [part for body in self.bodies for part in (body(images), body(mirrored).flip(-1))]
        return torch.cat(maps, dim=1)


_BODY = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3")
_HEAD = ("layer4", "avgpool", "flatten", "fc")


def member_state(resnet_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a single MONAI ResNet under the names it has as a member (see `load_members`)."""
    places = {name: f"{part}.{index}" for part, names in enumerate((_BODY, _HEAD)) for index, name in enumerate(names)}
    parted = ((*key.partition("."), value) for key, value in resnet_state.items())
    return {f"{places[module]}.{rest}": value for module, _, rest, value in parted}


def _body(resnet: nn.Module) -> nn.Sequential:
    return nn.Sequential(*(resnet.get_submodule(name) for name in _BODY))


def _head(resnet: nn.Module) -> nn.Sequential:
    parts = [nn.Flatten() if name == "flatten" else resnet.get_submodule(name) for name in _HEAD]
    return nn.Sequential(*parts)

"""RetinaNet without torchvision: MONAI asks that package for two small things, and the node must not install it.

torchvision's default build belongs to another torch and breaks it at import (constraints.txt), while detection bundles
need nothing of it but a module that returns some layers of a backbone, and a check of a number.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import SimpleNamespace

from monai.apps.detection.networks import retinanet_network
from monai.networks.blocks import backbone_fpn_utils
from torch import Tensor, nn


class ReturnedLayers(nn.ModuleDict):
    """The children of a network up to the last of some layers; gives what each of those layers gave.

    `layers` maps the child's name to the name of its output. Children keep their names, so published weights fit.
    """

    def __init__(self, network: nn.Module, return_layers: Mapping[str, str]) -> None:
        missing = set(return_layers) - {name for name, _ in network.named_children()}
        if missing:
            raise ValueError(f"The backbone has no layer {', '.join(sorted(missing))}.")
        kept, awaited = {}, set(return_layers)
        for name, child in network.named_children():
            if not awaited:
                break
            kept[name] = child
            awaited.discard(name)
        super().__init__(kept)
        self.layers = dict(return_layers)

    def forward(self, values: Tensor) -> dict[str, Tensor]:
        """Run the children in order."""
        found = {}
        for name, child in self.items():
            values = child(values)
            if name in self.layers:
                found[self.layers[name]] = values
        return found


def trainable_layers(pretrained: bool, wanted: int | None, max_value: int, default_value: int) -> int:
    """Return how many layers of the backbone training may change: all of them unless it was trained before."""
    layers = max_value if not pretrained else default_value if wanted is None else wanted
    if not 0 <= layers <= max_value:
        raise ValueError(f"Of the backbone 0 to {max_value} layers can be trained, not {layers}.")
    return layers


def stand_in_for_torchvision() -> None:
    """Give MONAI the two where torchvision is not installed; where it is, nothing changes."""
    if importlib.util.find_spec("torchvision") is None:
        backbone_fpn_utils.torchvision_models = SimpleNamespace(
            _utils=SimpleNamespace(IntermediateLayerGetter=ReturnedLayers)
        )
        retinanet_network._validate_trainable_layers = trainable_layers

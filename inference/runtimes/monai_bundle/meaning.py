"""What the channels of a bundle's network mean, as its postprocessing, its network and its metadata tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from monai.transforms.post.array import Activations, AsDiscrete
from monai.transforms.post.dictionary import Activationsd, AsDiscreted

from dicom_node.inference.runtimes.channels import ChannelEvidence
from dicom_node.inference.runtimes.monai_bundle.averaged import Activation

#: Steps after which a class is still the number of its channel.
_KEEP_NUMBERS = ("Activations", "AsDiscrete", "Invert", "KeepLargest", "RemoveSmall", "FillHoles", "EnsureType", "Save")


def evidence_of_bundle(
    card: ChannelEvidence, steps: Sequence[Any], network: torch.nn.Module, metadata: Mapping[str, Any]
) -> ChannelEvidence:
    """Add to what the card says what the bundle tells; what the card says comes first."""
    names = channel_names(metadata)
    known = replace(card, first_name=str(names.get("0", "")), named=len(names))
    if known.exclusive is not None:
        return known
    tells = (_takes_strongest(steps), _activates(steps), _thresholds(steps), _ends(network), _has_background(names))
    for exclusive, where in (one for one in tells if one is not None):
        return replace(known, exclusive=exclusive, known_from=where)
    return known


def activation_of(steps: Sequence[Any], network: torch.nn.Module, exclusive: bool | None) -> Activation:
    """Return how the numbers that a network gives become probabilities after it."""
    made = _activates(steps)
    if made is not None:
        return "softmax" if made[0] else "sigmoid"
    if _ends(network) is not None:
        return "none"  # they are probabilities
    return "softmax" if exclusive else "none"


def channel_names(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the metadata call the channels of the output, by number; empty where they do not say."""
    found: Any = metadata
    for name in ("network_data_format", "outputs", "pred", "channel_def"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def keeps_numbers(steps: Sequence[Any]) -> bool:
    """Tell whether the postprocessing leaves each class the number of its channel."""
    return all(type(step).__name__.startswith(_KEEP_NUMBERS) for step in steps)


def decides_itself(steps: Sequence[Any]) -> bool:
    """Tell whether the postprocessing makes values discrete."""
    return any(isinstance(step, AsDiscrete | AsDiscreted) for step in steps)


def set_threshold(steps: Sequence[Any], threshold: float) -> bool:
    """Have the postprocessing hold values against a threshold of the card instead of its own; return whether it holds
    them against one at all."""
    found = False
    for step in steps:
        if isinstance(step, AsDiscrete) and step.threshold is not None:
            step.threshold, found = threshold, True
        elif isinstance(step, AsDiscreted) and any(one is not None for one in _arguments(step, "threshold")):
            pairs = zip(step.keys, step.threshold, strict=False)
            step.threshold = [threshold if key == "pred" and one is not None else one for key, one in pairs]
            found = True
    return found


def _takes_strongest(steps: Sequence[Any]) -> tuple[bool, str] | None:
    strongest = any(True in _arguments(step, "argmax") for step in steps if isinstance(step, AsDiscrete | AsDiscreted))
    return (True, "the argmax of its postprocessing") if strongest else None


def _thresholds(steps: Sequence[Any]) -> tuple[bool, str] | None:
    return (False, "the threshold of its postprocessing") if decides_itself(steps) else None


def _activates(steps: Sequence[Any]) -> tuple[bool, str] | None:
    for step in steps:
        if isinstance(step, Activations | Activationsd):
            if True in _arguments(step, "softmax"):
                return True, "the softmax of its postprocessing"
            if True in _arguments(step, "sigmoid"):
                return False, "the sigmoid of its postprocessing"
    return None


def _ends(network: torch.nn.Module) -> tuple[bool, str] | None:
    """A sequence says what it ends in; of other networks nobody knows what their code calls last."""
    last = network
    while isinstance(last, torch.nn.Sequential) and len(last):
        last = last[-1]
    if isinstance(last, torch.nn.Softmax):
        return True, "the softmax its network ends in"
    return (False, "the sigmoid its network ends in") if isinstance(last, torch.nn.Sigmoid) else None


def _has_background(names: Mapping[str, Any]) -> tuple[bool, str] | None:
    """A background among them is what is left when no other class holds."""
    return (True, "the background its metadata name") if "background" in str(names.get("0", "")).lower() else None


def _arguments(step: Any, name: str) -> tuple[Any, ...]:
    """Return an argument of a transform: one value, or one for each key of a dictionary transform."""
    found = getattr(step, name, ())
    if not isinstance(found, list | tuple):
        return (found,)
    return tuple(value for key, value in zip(getattr(step, "keys", ()), found, strict=False) if key == "pred")

"""A torch module as a function of arrays, for the adapters whose files torch runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.runtimes.axes import Floats
from dicom_node.inference.runtimes.tensors import Forward


def forward_of(module: Callable[[torch.Tensor], Any], card: ModelCard, device: str) -> Forward:
    """Return the module as a `Forward` on `device`, giving the output that the card names.

    The function raises `ModelUnavailable` when the network does not take the card's input.
    """

    def forward(batch: Floats) -> Floats:
        try:
            with torch.inference_mode():
                found = module(torch.from_numpy(batch).to(device))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            if "memory" in str(error):
                raise
            raise ModelUnavailable(
                f"The network of model {card.name} does not run on an input of shape {batch.shape} "
                f"({_last_line(error)}). Check size, channels and batch of [preprocessing] in the card."
            ) from error
        values: Floats = _wanted(found, card).float().cpu().numpy()
        return values

    return forward


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """How much memory tensors hold."""
    return sum(one.numel() * one.element_size() for one in tensors)


def _wanted(found: Any, card: ModelCard) -> torch.Tensor:
    """Choose the output by the card's name, which is a number for a network that gives a list."""
    name = card.output.name
    if isinstance(found, Mapping):
        found = found.get(name) if name else next(iter(found.values()), None)
    elif isinstance(found, Sequence):
        index = int(name) if name.isdigit() else 0
        found = found[index] if index < len(found) else None
    if not isinstance(found, torch.Tensor):
        raise ModelUnavailable(f"Model {card.name} gives no tensor as output {name or 0}. Correct [output] name.")
    return found


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:200]

"""Runs TorchScript files (`torch.jit.save`): any network that was scripted or traced, without its Python source."""

from __future__ import annotations

import io
import warnings

import torch

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.runtimes.tensors import (
    TensorModel,
    check_card,
    needed_preprocessing,
    tensor_model,
    weights_bytes,
)
from dicom_node.inference.runtimes.torch_forward import forward_of, tensor_bytes


def load(card: ModelCard, device: str) -> TensorModel:
    """Load the script the card names (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card)
    preprocessing = needed_preprocessing(card)
    module = _read(card, device)
    forward = forward_of(module, card, device)
    return tensor_model(
        card, preprocessing, forward, size_bytes=tensor_bytes([*module.parameters(), *module.buffers()])
    )


def _read(card: ModelCard, device: str) -> torch.nn.Module:
    content = io.BytesIO(weights_bytes(card))
    with warnings.catch_warnings():
        # Files of this format are made no more, but those that exist are still to be run.
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        try:
            module: torch.nn.Module = torch.jit.load(content, map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ModelUnavailable(
                f"Model {card.name}: {card.weights_file} is no TorchScript file that this torch can read. Save it with "
                "torch.jit.save, or export it with torch.export and use runtime torch-export."
            ) from error
    module.eval()
    return module

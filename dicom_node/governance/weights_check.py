"""Whether a model's weights are data and nothing else: read the way its runtime reads them, in the worker process.

Of a bundle only the weights are read: its configuration is code, and nobody may have accepted it yet.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import RUNTIMES, load_card
from dicom_node.inference.prediction import Load
from dicom_node.inference.runtimes.weights import read_state

#: Loading these runs nothing of the folder.
_WHOLE = frozenset({"torchscript", "torch-export", "onnx", "huggingface", "torchxrayvision"})


def check_weights(folder: Path) -> str:
    """Say what the weights of a model folder are. Raises `ModelUnavailable` for what cannot be read as data alone."""
    card = load_card(folder)
    card.verify_weights()
    if card.runtime in _WHOLE:
        return f"loads on the CPU, {_loader(card.runtime)(card, 'cpu').size_bytes / 1e6:.1f} MB"
    assert card.weights_file is not None
    return f"{len(read_state(card.weights_file))} tensors, read without running code"


def _loader(runtime: str) -> Load:
    try:
        return cast(Load, importlib.import_module(f"dicom_node.inference.runtimes.{RUNTIMES[runtime]}").load)
    except ImportError as error:
        raise ModelUnavailable(f"Models of runtime {runtime} need a package that is not here ({error}).") from error

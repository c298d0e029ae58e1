"""Weights that cannot run code: safetensors, or a PyTorch state dict read with `weights_only`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from dicom_node.core.errors import ModelUnavailable

#: Under one of these a checkpoint keeps the state of its network, beside optimiser and counters.
_WRAPPERS = ("model", "state_dict", "network", "net", "model_state_dict")

State = Mapping[str, torch.Tensor]


def read_state(path: Path) -> State:
    """Return the tensors of a weights file by name, on the CPU.

    Raises `ModelUnavailable` for a file that is damaged, that holds no state dict, or whose pickle asks for more than
    tensors: such a file could run code when it is opened.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelUnavailable(
            f"Weights {path} are refused: the file asks to build objects other than tensors, so opening it could run "
            "code. Save the state dict alone, as safetensors, on the machine where the model was trained."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise ModelUnavailable(f"Weights {path} cannot be read ({type(error).__name__}). Restore the file.") from error
    return _unwrapped(found, path)


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError  # noqa: PLC0415 - an optional format
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"Weights {path} are no whole safetensors file. Restore the file.") from error


def _unwrapped(found: object, path: Path) -> State:
    while isinstance(found, Mapping):
        if found and all(isinstance(value, torch.Tensor) for value in found.values()):
            return found
        found = next((found[name] for name in _WRAPPERS if name in found), None)
    raise ModelUnavailable(
        f"Weights {path} hold no state dict: names and their tensors, alone or under one of {', '.join(_WRAPPERS)}."
    )

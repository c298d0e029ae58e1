"""Runs exported programs (`torch.export.save`, .pt2): a graph of tensor operations and its weights.

The format has room for pickled objects and compiled libraries, which torch would load without asking. A file that
holds any is refused before torch sees it, and torch is held to `weights_only` while it reads the rest.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import torch
from torch.export.passes import move_to_device_pass

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

_PICKLED = ("custom_obj", "opaque_obj")
_COMPILED = frozenset({".so", ".o", ".cubin", ".ptx", ".hsaco", ".spv"})
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def load(card: ModelCard, device: str) -> TensorModel:
    """Load the program the card names (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card)
    preprocessing = needed_preprocessing(card)
    content = weights_bytes(card)
    _check_archive(content, card)
    program = _read(content, card, device)
    forward = forward_of(program.module(), card, device)
    return tensor_model(
        card, preprocessing, forward, size_bytes=tensor_bytes([*program.parameters(), *program.buffers()])
    )


def _read(content: bytes, card: ModelCard, device: str) -> torch.export.ExportedProgram:
    try:
        with _weights_only():
            program = torch.export.load(io.BytesIO(content))
        return move_to_device_pass(program, device) if device != "cpu" else program
    except (RuntimeError, AssertionError, KeyError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise ModelUnavailable(
            f"Model {card.name}: {card.weights_file} cannot be loaded by torch {torch.__version__} "
            f"({type(error).__name__}). Export the network again with this version of torch."
        ) from error


def _check_archive(content: bytes, card: ModelCard) -> None:
    """Refuse what is no archive of `torch.export.save`, and what holds more than a graph and tensors."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            problem = _problem(archive, names)
    except (zipfile.BadZipFile, ValueError) as error:
        raise ModelUnavailable(
            f"Model {card.name}: {card.weights_file} is no whole file of torch.export.save. Restore the file."
        ) from error
    if problem:
        raise ModelUnavailable(
            f"Model {card.name}: {card.weights_file} is refused: {problem}. Export the network again, as tensors only."
        )


def _problem(archive: zipfile.ZipFile, names: list[str]) -> str:
    if len(names) != len(set(names)):
        return "it holds two files of one name"
    if not any(PurePosixPath(name).name == "archive_format" for name in names):
        return "it is of the old format, whose weights are pickled"
    if any("aotinductor" in name or PurePosixPath(name).suffix in _COMPILED for name in names):
        return "it holds compiled code"
    if any(PurePosixPath(name).name.startswith(_PICKLED) for name in names):
        return "it holds pickled objects"
    # The old way to keep weights in the new archive: one pickle beside the graph.
    if any(name.endswith(".pt") and "/sample_inputs/" not in name for name in names):
        return "its weights are pickled"
    configs = (name for name in names if name.endswith("_config.json"))
    return "its weights are pickled" if any(_has_pickles(archive.read(name)) for name in configs) else ""


def _has_pickles(config: bytes) -> bool:
    entries = json.loads(config).get("config", {})
    return any(entry.get("use_pickle") for entry in entries.values())


@contextmanager
def _weights_only() -> Iterator[None]:
    """Hold every `torch.load` of this process to `weights_only`; the example inputs are read by one that is not."""
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before

"""The tensors of a module that was pickled whole, as some projects publish theirs, without running its code.

Every class but tensors and their containers becomes an empty shell, so that no project's package is needed and nothing
that the file names is imported or called.
"""

from __future__ import annotations

import pickle
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import _utils

from dicom_node.core.errors import ModelUnavailable

#: Whose classes may stand in such a file; each becomes a shell. Whatever else is named (``posix.system``) is refused:
#: it would have run where the file is opened as its project opens it.
_PACKAGES = frozenset({"torch", "torchvision", "torchxrayvision", "collections", "numpy"})
_REAL: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): _utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _utils._rebuild_parameter,
}


class Shell:
    """Stands for an object of any class but a tensor; `state` is what the pickle would have given it."""

    state: Mapping[str, Any]

    def __new__(cls, *_: object, **__: object) -> Shell:
        shell = super().__new__(cls)
        shell.state = {}
        return shell

    def __init__(self, *_: object, **__: object) -> None:
        """Take anything and do nothing with it."""

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, Mapping) else {}


class TensorUnpickler(pickle.Unpickler):
    """Finds tensors and their containers, and shells for everything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        real = _REAL.get((module_name, global_name))
        if real is not None:
            return real
        if module_name == "torch" and isinstance(dtype := getattr(torch, global_name, None), torch.dtype):
            return dtype
        if module_name.partition(".")[0] not in _PACKAGES:
            raise ModelUnavailable(
                f"The checkpoint is refused: it asks for {module_name}.{global_name}, which is no part of a network, "
                "so that opening it elsewhere could run code. Get the file again from where it was published."
            )
        return type(global_name, (Shell,), {})


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return parameters and buffers of the pickled module, by their dotted names, on the CPU.

    Raises `ModelUnavailable` for a file that is no checkpoint of `torch.save`, holds no module, or asks for anything
    but the parts of a network.
    """
    _check_kind(path)
    restricted = SimpleNamespace(__name__="tensor_pickle", Unpickler=TensorUnpickler, load=_load)
    try:
        with warnings.catch_warnings():
            # Old files carry the source of their classes, which torch would compare with the shells.
            warnings.filterwarnings("ignore", "Couldn't retrieve source code", UserWarning)
            found = torch.load(path, map_location="cpu", pickle_module=restricted, weights_only=False)
        tensors = dict(_tensors(found, ""))
    except (pickle.UnpicklingError, RuntimeError, TypeError, ValueError, AttributeError, EOFError, KeyError) as error:
        raise ModelUnavailable(
            f"Checkpoint {path} cannot be read as tensors ({type(error).__name__}). Is it the file as it was published?"
        ) from error
    if not tensors:
        raise ModelUnavailable(f"Checkpoint {path} holds no tensors of a network.")
    return tensors


def _load(stream: Any, **arguments: Any) -> Any:
    return TensorUnpickler(stream, **arguments).load()


def _check_kind(path: Path) -> None:
    """Refuse the formats that torch would hand to another reader."""
    if not path.is_file():
        raise ModelUnavailable(f"There is no checkpoint {path}. Give the path of the downloaded file.")
    if tarfile.is_tarfile(path):
        raise ModelUnavailable(f"Checkpoint {path} is in the format of torch before 0.2, which is not read.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise ModelUnavailable(f"Checkpoint {path} is a TorchScript file. Use runtime torchscript for it.")


def _tensors(found: object, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Walk a module's shell, or a state dict."""
    if isinstance(found, Mapping):
        yield from ((str(name), value) for name, value in found.items() if isinstance(value, torch.Tensor))
    if not isinstance(found, Shell):
        return
    for table in ("_parameters", "_buffers"):
        for name, value in found.state.get(table, {}).items():
            if isinstance(value, torch.Tensor):
                yield prefix + name, value.detach()
    for name, child in found.state.get("_modules", {}).items():
        yield from _tensors(child, f"{prefix}{name}.")

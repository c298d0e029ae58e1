"""Running the code of a bundle: its modules in sight, its errors in our words, and torchvision's small part."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.apps.detection.networks import retinanet_network
from monai.networks.blocks import backbone_fpn_utils
from torch import Tensor, nn

from dicom_node.core.errors import ModelUnavailable
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.inference.runtimes.monai_bundle.config import BundleConfig

#: What configurations and scripts of strangers raise.
CODE_ERRORS = (*READ_ERRORS, OSError, ImportError, NameError, SyntaxError, AssertionError)
#: What a pickle of plain number arrays asks for, under numpy's names of today and yesterday; none of it runs code.
#: Bundles with a searched architecture keep it so, and read it with `torch.load` in their configuration.
_NUMPY_ARRAYS: list[Any] = [
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "uint8", "bool")),
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
]
_log = logging.getLogger(__name__)


@contextmanager
def code_of(config: BundleConfig, doing: str) -> Iterator[None]:
    """Run the bundle's code: its own modules in sight, its warnings logged, what it raises told as
    `ModelUnavailable`."""
    numbers: Any = torch.serialization.safe_globals(_NUMPY_ARRAYS)
    with config.own_modules(), numbers, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        try:
            yield
        except torch.OutOfMemoryError:
            raise  # no fault of the bundle; whoever keeps the models may make room
        except CODE_ERRORS as error:
            raise failed(config.folder, doing, error) from error
        finally:
            for text in dict.fromkeys(str(one.message) for one in told):
                _log.debug("bundle warned", extra={"bundle": config.folder.name, "warning": text[:300]})


def failed(folder: Path, doing: str, error: BaseException) -> ModelUnavailable:
    """Return the error to raise: what the bundle was doing, and the first cause of what went wrong."""
    reason = first_cause(error)
    text = " ".join(str(reason).split())[:300]
    return ModelUnavailable(f"Bundle {folder} {doing}. {type(reason).__name__}: {text}")


def first_cause(error: BaseException) -> BaseException:
    """Return what went wrong first: MONAI wraps what its transforms raise."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# --- RetinaNet: MONAI takes two small things from torchvision, which must not be installed ---------------------------


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

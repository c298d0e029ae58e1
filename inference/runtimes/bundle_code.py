"""Running the code of a bundle: its own modules in sight, its warnings logged, what it raises told in our words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dicom_node.errors import ModelUnavailable
from dicom_node.inference.images.pixels import READ_ERRORS
from dicom_node.inference.runtimes.bundle_config import BundleConfig

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
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    text = " ".join(str(reason).split())[:300]
    return ModelUnavailable(f"Bundle {folder} {doing}. {type(reason).__name__}: {text}")

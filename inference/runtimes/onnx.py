"""Runs ONNX files with ONNX Runtime (the extra ``onnx``): networks of any framework, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.runtimes.axes import Floats
from dicom_node.inference.runtimes.tensors import (
    Forward,
    TensorModel,
    check_card,
    needed_preprocessing,
    tensor_model,
    weights_bytes,
)

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
#: How a file says that a tensor's values lie in another file (StringStringEntryProto "location" of TensorProto).
_ELSEWHERE = b"\n\x08location\x12"


def load(card: ModelCard, device: str) -> TensorModel:
    """Load the graph the card names (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card)
    preprocessing = needed_preprocessing(card)
    content = weights_bytes(card)
    if _ELSEWHERE in content:
        raise ModelUnavailable(
            f"Model {card.name}: {card.weights_file} keeps weights in another file, which its sha256 does not cover. "
            "Save the model as one file (onnx.save_model without external data)."
        )
    session = _session(content, card, device)
    forward = _forward(session, card, preprocessing.name)
    return tensor_model(card, preprocessing, forward, size_bytes=len(content))


def _session(content: bytes, card: ModelCard, device: str) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ModelUnavailable(
            f"Model {card.name} needs ONNX Runtime. Install it: pip install dicom-node[onnx]."
        ) from error
    kind, _, number = device.partition(":")
    wanted = _PROVIDERS.get(kind, "")
    options = onnxruntime.SessionOptions()
    # Errors only: what a graph warns of is for whoever made it.
    options.log_severity_level = 3
    providers: list[Any] = [(wanted, {"device_id": number} if number else {})]
    here = wanted in onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=[*(providers if here else []), "CPUExecutionProvider"]
        )
    except _run_errors() as error:
        raise ModelUnavailable(
            f"Model {card.name}: {card.weights_file} is no ONNX graph that ONNX Runtime {onnxruntime.__version__} can "
            f"load ({str(error)[:200]})."
        ) from error


def _run_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its exceptions have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - an optional extra

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names))


def _forward(session: Any, card: ModelCard, input_name: str) -> Forward:
    given = {one.name: one for one in session.get_inputs()}
    gives = [one.name for one in session.get_outputs()]
    name, output = input_name or next(iter(given)), card.output.name or gives[0]
    if name not in given or output not in gives:
        raise ModelUnavailable(
            f"Model {card.name}: the graph takes {', '.join(given)} and gives {', '.join(gives)}. "
            "Correct [preprocessing] name or [output] name."
        )
    kind = _TYPES.get(given[name].type)
    if kind is None or len(given) > 1:
        raise ModelUnavailable(
            f"Model {card.name}: the graph must take one tensor of floating point numbers; it takes "
            f"{', '.join(f'{one.name} ({one.type})' for one in given.values())}."
        )

    def forward(batch: Floats) -> Floats:
        try:
            (found,) = session.run([output], {name: batch.astype(kind, copy=False)})
        except _run_errors() as error:
            if "llocate" in str(error):
                raise MemoryError(str(error)[:200]) from error
            raise ModelUnavailable(
                f"The graph of model {card.name} does not run on an input of shape {batch.shape}; it takes "
                f"{given[name].shape}. Check size, channels and batch of [preprocessing] in the card."
            ) from error
        return np.asarray(found, dtype=np.float32)

    return forward

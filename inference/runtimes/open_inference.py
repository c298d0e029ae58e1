"""Runs a network on a remote server that speaks the Open Inference Protocol, version 2, over HTTP.

What leaves is the prepared tensor and those DICOM attributes that the card's `[server]` names; no identifier, no file,
and nothing that tells which study it is. The server is part of the card, so that another address is another model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dicom_node.errors import ModelUnavailable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.prediction import Explanation, ModelInput, Prediction
from dicom_node.inference.runtimes.axes import Floats
from dicom_node.inference.runtimes.open_inference_http import InferenceServer, Request
from dicom_node.inference.runtimes.tensors import TensorModel, check_card, needed_preprocessing, tensor_model

#: Types of tensors a network may take here; the node casts to each.
_TAKES = ("FP16", "FP32", "FP64")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model on a server (see `prediction.LoadedModel`); it holds nothing on this machine."""

    card: ModelCard
    preprocessing: Preprocessing
    server: InferenceServer
    #: Names of the server's tensors, and the type of the one that goes in.
    input_name: str
    input_type: str
    output_name: str
    size_bytes: int = 0

    @property
    def batch_limit(self) -> int:
        """Attributes belong to one image, so a request with attributes holds one."""
        return 1 if self.server.spec.attributes else self.preprocessing.batch

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Send the inputs and read the answer. Raises `NotAnalysable` or `ModelUnavailable`."""
        if self.batch_limit == 1:
            return [self._sending(one.attributes).predict([one])[0] for one in inputs]
        return self._sending({}).predict(inputs)

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Cover parts of the image one after the other and see which lower the server's answer."""
        return self._sending(one.attributes).explain(one, output_index)

    def _sending(self, attributes: Mapping[str, str]) -> TensorModel:
        """Return the model as it runs with these attributes of one image."""
        declared = {key: value for key, value in attributes.items() if key in self.server.spec.attributes}

        def ask(batch: Floats) -> Floats:
            request = Request(self.input_name, self.input_type, batch, self.output_name, declared)
            return np.asarray(self.server.infer(request), dtype=np.float32)

        return tensor_model(self.card, self.preprocessing, ask, size_bytes=0)


def load(card: ModelCard, device: str) -> RemoteModel:  # noqa: ARG001 - where it runs there is the server's affair
    """Ask the server for the model the card names (see `prediction.Load`). Raises `ModelUnavailable`."""
    check_card(card)
    if card.server is None:
        raise ModelUnavailable(f"Model {card.name} has no [server]. Say in the card where it runs: url and model.")
    preprocessing = needed_preprocessing(card)
    server = InferenceServer.connect(card.name, card.server)
    described = server.described()
    given = _chosen(card, described, "inputs", preprocessing.name)
    _check_input(card, described["inputs"], given)
    return RemoteModel(
        card=card,
        preprocessing=preprocessing,
        server=server,
        input_name=given["name"],
        input_type=given["datatype"],
        output_name=_chosen(card, described, "outputs", card.output.name)["name"],
    )


def _chosen(card: ModelCard, described: Mapping[str, Any], side: str, name: str) -> Mapping[str, Any]:
    """Return the description of the tensor of this name; without a name, of the first."""
    for one in described[side]:
        if name in {"", one["name"]}:
            return dict(one)
    table = "[preprocessing]" if side == "inputs" else "[output]"
    told = ", ".join(str(one["name"]) for one in described[side])
    raise ModelUnavailable(f"Model {card.name}: the server's {side} are {told}, not {name}. Correct {table} name.")


def _check_input(card: ModelCard, all_inputs: Sequence[object], given: Mapping[str, Any]) -> None:
    dimensions = 5 if card.input == "volume" else 4
    if len(all_inputs) > 1 or given["datatype"] not in _TAKES or len(given["shape"]) != dimensions:
        raise ModelUnavailable(
            f"Model {card.name}: the server takes {len(all_inputs)} tensor(s), first {given['datatype']} of shape "
            f"{list(given['shape'])}; the node sends one of {', '.join(_TAKES)} with {dimensions} dimensions: batch, "
            "channels, then the image."
        )

"""Runs a network on a remote server that speaks the Open Inference Protocol, version 2, over HTTP.

What leaves is the prepared tensor and those DICOM attributes that the card's `[server]` names; no identifier, no file,
and nothing that tells which study it is. The server is part of the card, so that another address is another model.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote
from uuid import uuid4

import httpx
import numpy as np
from numpy.typing import NDArray

from dicom_node.core.errors import ModelUnavailable, fault_told
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.cards.tensors import Preprocessing, ServerSpec
from dicom_node.inference.prediction import Explanation, ModelInput, Prediction
from dicom_node.inference.runtimes.axes import Floats
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
            request = InferRequest(self.input_name, self.input_type, batch, self.output_name, declared)
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


# --- the protocol over HTTP ------------------------------------------------------------------------------------------

_DTYPES = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_JSON_LENGTH = "Inference-Header-Content-Length"
_BINARY = "binary_tensor_data"
_ADVICE = {
    HTTPStatus.UNAUTHORIZED: "Check token_env or token_file of [server].",
    HTTPStatus.FORBIDDEN: "Check token_env or token_file of [server], and what the token may do there.",
    HTTPStatus.NOT_FOUND: "Check url, model and model_version of [server], and that the model is loaded there.",
    HTTPStatus.BAD_REQUEST: "Check [preprocessing] and [output] against the model on the server.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Lower batch or size of [preprocessing], or raise the limit there.",
}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One tensor for one answer; `parameters` are the DICOM attributes that go along."""

    input_name: str
    input_type: str
    values: Floats
    output_name: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InferenceServer:
    """One model on one server; connections are opened for each call and closed after it."""

    model_name: str
    spec: ServerSpec
    tls: ssl.SSLContext
    token: str
    binary: bool

    @classmethod
    def connect(cls, model_name: str, spec: ServerSpec) -> InferenceServer:
        """Read certificates and token, and ask what the server can do. Raises `ModelUnavailable`."""
        try:
            tls = ssl.create_default_context(cafile=spec.ca_file or None)
        except OSError as error:
            raise ModelUnavailable(
                f"Model {model_name}: ca_file {spec.ca_file} of [server] holds no certificates ({error.strerror})."
            ) from error
        server = cls(model_name, spec, tls, _token(model_name, spec), binary=False)
        can = server._json(server._call("GET", f"{spec.url}/v2")).get("extensions", [])
        return cls(model_name, spec, tls, server.token, binary=spec.binary and _BINARY in can)

    def described(self) -> Mapping[str, Any]:
        """Return the model's metadata: inputs and outputs with name, datatype and shape. Raises `ModelUnavailable`."""
        self._call("GET", f"{self._model_url}/ready")
        found = self._json(self._call("GET", self._model_url))
        tensors = [*found.get("inputs", ()), *found.get("outputs", ())]
        whole = all(isinstance(one, dict) and {"name", "datatype", "shape"} <= one.keys() for one in tensors)
        if not (found.get("inputs") and found.get("outputs") and whole):
            self._refuse("describes no inputs or no outputs of the model", "Is it an Open Inference Protocol server?")
        return found

    def infer(self, request: InferRequest) -> NDArray[np.generic]:
        """Return the output's values in its own type and shape. Raises `ModelUnavailable`."""
        body, headers = _encoded(request, binary=self.binary)
        answer = self._call("POST", f"{self._model_url}/infer", body, headers)
        try:
            return _decoded(answer, request.output_name)
        except (KeyError, TypeError, ValueError) as error:
            self._refuse(
                f"gave an answer without a usable tensor {request.output_name} ({type(error).__name__})",
                "Check its version and [output] name.",
            )

    @property
    def _model_url(self) -> str:
        version = f"/versions/{quote(self.spec.model_version, safe='')}" if self.spec.model_version else ""
        return f"{self.spec.url}/v2/models/{quote(self.spec.model, safe='')}{version}"

    def _call(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        try:
            # Neither a proxy of the environment nor a redirect may take images to another place.
            with httpx.Client(verify=self.tls, timeout=self.spec.timeout_s, trust_env=False) as client:
                answer = client.request(method, url, content=body, headers=sent)
        except httpx.TimeoutException:
            self._refuse(f"did not answer within {self.spec.timeout_s:g} s", "Raise timeout_s if it needs longer.")
        except httpx.HTTPError as error:
            why = f"cannot be reached ({type(error).__name__}: {fault_told(error)})"
            self._refuse(why, "Check url and ca_file of [server].")
        if not answer.is_success:
            self._refuse(
                f"answered {answer.status_code} {answer.reason_phrase}{_told(answer)}",
                _ADVICE.get(HTTPStatus(answer.status_code), "See its log; the job is tried again."),
            )
        return answer

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self._refuse("did not answer in JSON", "Is it an Open Inference Protocol server?")
        return found

    def _refuse(self, problem: str, advice: str) -> NoReturn:
        raise ModelUnavailable(f"Model {self.model_name}: server {self.spec.url} {problem}. {advice}")


def _encoded(request: InferRequest, *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Return body and headers; the id is random, so that it tells nothing."""
    values = np.ascontiguousarray(request.values, dtype=_DTYPES[request.input_type])
    tensor: dict[str, Any] = {
        "name": request.input_name,
        "shape": list(values.shape),
        "datatype": request.input_type,
    }
    wanted: dict[str, Any] = {"name": request.output_name}
    message: dict[str, Any] = {"id": str(uuid4()), "inputs": [tensor], "outputs": [wanted]}
    if request.parameters:
        message["parameters"] = dict(request.parameters)
    if not binary:
        tensor["data"] = values.ravel().tolist()
        return json.dumps(message).encode(), {"Content-Type": "application/json"}
    content = values.tobytes()
    tensor["parameters"] = {"binary_data_size": len(content)}
    wanted["parameters"] = {"binary_data": True}
    head = json.dumps(message).encode()
    return head + content, {"Content-Type": "application/octet-stream", _JSON_LENGTH: str(len(head))}


def _decoded(answer: httpx.Response, name: str) -> NDArray[np.generic]:
    """Find one output. Raises `KeyError`, `TypeError` or `ValueError` for an answer that does not hold it whole."""
    length = int(answer.headers.get(_JSON_LENGTH, len(answer.content)))
    message, content = json.loads(answer.content[:length]), answer.content[length:]
    start = 0
    for output in message["outputs"]:
        size = int(output.get("parameters", {}).get("binary_data_size", 0))
        if output["name"] == name:
            dtype, shape = np.dtype(_DTYPES[output["datatype"]]), [int(n) for n in output["shape"]]
            if "data" in output:
                return np.asarray(output["data"], dtype=dtype).reshape(shape)
            return np.frombuffer(content[start : start + size], dtype=dtype).reshape(shape)
        start += size
    raise KeyError(name)


def _token(model_name: str, spec: ServerSpec) -> str:
    if spec.token_env:
        token = os.environ.get(spec.token_env, "")
        where = f"environment variable {spec.token_env}"
    elif spec.token_file:
        path = Path(spec.token_file)
        token = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        where = f"file {path}"
    else:
        return ""
    if not token:
        raise ModelUnavailable(
            f"Model {model_name}: no token for its server in {where}. Set it for the node's workers."
        )
    return token


def _told(answer: httpx.Response) -> str:
    """Quote the server's own reason, if it gave one."""
    try:
        told = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    plain = "".join(one if one.isprintable() else " " for one in str(told))
    return f": {plain[:200]}"

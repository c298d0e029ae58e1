"""A server of the Open Inference Protocol, version 2, that runs a real network: a peer for the remote runtime."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from torch import nn

_LENGTH = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.float32, "FP16": np.float16}


@dataclass
class Served:
    """What the server runs and how it behaves; `requests` are the bodies it was sent, `headers` their headers."""

    network: nn.Module
    shape: list[int]
    binary: bool = True
    datatype: str = "FP32"
    token: str = ""
    delay_s: float = 0.0
    ready: bool = True
    redirect_to: str = ""
    broken: str = ""
    requests: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The JSON part of each inference request."""
        lengths = [
            int(headers.get(_LENGTH, len(body))) for body, headers in zip(self.requests, self.headers, strict=True)
        ]
        return [json.loads(body[:length]) for body, length in zip(self.requests, lengths, strict=True)]


class _Handler(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.refused():
            return
        served = self.served
        pages: dict[str, Any] = {
            "/v2": {"name": "tests", "version": "1", "extensions": ["binary_tensor_data"] if served.binary else []},
            "/v2/models/tiny": {
                "name": "tiny",
                "versions": ["3"],
                "platform": "torch",
                "inputs": [{"name": "image", "datatype": served.datatype, "shape": served.shape}],
                "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in ("mean", "answer")],
            },
        }
        pages["/v2/models/tiny/versions/3"] = pages["/v2/models/tiny"]
        if self.path.endswith("/ready") and self.path[: -len("/ready")] in pages:
            self.answer({} if served.ready else {"error": "still loading"}, 200 if served.ready else 503)
        elif self.path in pages:
            self.answer(pages[self.path])
        else:
            self.answer({"error": f"unknown model {self.path}"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.refused():
            return
        self.served.requests.append(body)
        self.served.headers.append(dict(self.headers.items()))
        time.sleep(self.served.delay_s)
        length = int(self.headers.get(_LENGTH, len(body)))
        message = json.loads(body[:length])
        tensor, wanted = message["inputs"][0], message["outputs"][0]
        dtype = _TYPES[tensor["datatype"]]
        content = np.frombuffer(body[length:], dtype) if "data" not in tensor else np.array(tensor["data"], dtype)
        if content.size != int(np.prod(tensor["shape"])):
            self.answer({"error": "the tensor is not whole\x00"}, 400)
            return
        with torch.inference_mode():
            found = self.served.network(torch.from_numpy(content.reshape(tensor["shape"]).astype(np.float32))).numpy()
        self.answer_tensor(found, binary=bool(wanted.get("parameters", {}).get("binary_data")))

    def answer_tensor(self, found: np.ndarray, *, binary: bool) -> None:
        answer: dict[str, Any] = {"name": "answer", "datatype": "FP32", "shape": list(found.shape)}
        other = {"name": "mean", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
        if not binary:
            self.answer({"model_name": "tiny", "outputs": [answer | {"data": found.ravel().tolist()}]})
            return
        content = found.astype("<f4").tobytes()
        answer["parameters"] = {"binary_data_size": len(content)}
        # Another output first: what is wanted must be found behind it.
        head = json.dumps({"model_name": "tiny", "outputs": [other, answer]}).encode()
        if self.served.broken == "short":
            content = content[:-4]
        self.send(200, head + np.float32(1).tobytes() + content, {_LENGTH: str(len(head))})

    def refused(self) -> bool:
        served = self.served
        if served.redirect_to:
            self.send(307, b"", {"Location": served.redirect_to + self.path})
        elif served.token and self.headers.get("Authorization") != f"Bearer {served.token}":
            self.answer({"error": "no"}, 401)
        elif served.broken == "page":
            self.send(200, b"<html>welcome</html>", {})
        else:
            return False
        return True

    def answer(self, message: dict[str, Any], status: int = 200) -> None:
        self.send(status, json.dumps(message).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def serving(served: Served, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve until the block ends; gives the address."""
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

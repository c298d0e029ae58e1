"""A receiver of events that verifies them by the library of the Standard Webhooks project for Node.js (see
`webhook/receiver.cjs`)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.npm import installed
from tests.support.needs import tool

PEER = Path(__file__).with_name("webhook")
#: base64 of 24 bytes; nothing but tests has it.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class WebhookReceiver:
    """A running receiver; events go to `url`."""

    port: int
    http: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events?for=tests"

    def answer(self, *answers: dict[str, object], **control: object) -> None:
        """Answer so, one after the other, and then 204: see `fresh` in `webhook/receiver.cjs`."""
        self._test("POST", json={"answers": answers, **control})

    def reset(self) -> None:
        """Forget everything."""
        self._test("DELETE")

    def requests(self) -> list[dict[str, Any]]:
        """Return what came: id, body, headers, `fault` of its signature, and whether the id was taken before."""
        found: list[dict[str, Any]] = self._test("GET")["requests"]
        return found

    def taken(self) -> list[dict[str, Any]]:
        """Return the events that were verified and kept, each id once, in the order in which they came."""
        found: list[dict[str, Any]] = self._test("GET")["taken"]
        return found

    def types(self) -> list[str]:
        """Return their types."""
        return [one["type"] for one in self.taken()]

    def _test(self, method: str, **more: Any) -> dict[str, Any]:
        answer = self.http.request(method, f"http://127.0.0.1:{self.port}/_test", **more)
        told: dict[str, Any] = answer.raise_for_status().json()
        return told


@contextmanager
def running_webhook_receiver(port: int = 0) -> Iterator[WebhookReceiver]:
    """Start a receiver that knows `SECRET` (`port` 0: on any free one), and end it afterwards."""
    environment = os.environ | {"NODE_PATH": str(installed(PEER) / "node_modules"), "SECRET": SECRET, "PORT": str(port)}
    command = [tool("node", "nodejs"), str(PEER / "receiver.cjs")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            each_its_own = httpx.Limits(max_keepalive_connections=0)
            with httpx.Client(timeout=60, trust_env=False, limits=each_its_own) as http:
                yield WebhookReceiver(port, http)
        finally:
            process.kill()

"""A real FHIR R4 server for tests: strict, in memory, on a free port of this machine (see `fhir/server.cjs`).

Needs Node 20 or newer. Its packages are installed once into ``.node/`` at the root of the checkout; the lock file pins
versions and hashes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.npm import installed
from tests.support.needs import tool

PEER = Path(__file__).with_name("fhir")


@dataclass(frozen=True)
class FhirServer:
    """A running server: `url` is its FHIR base; `control_url` makes it fail, wait or forget."""

    url: str
    control_url: str
    http: httpx.Client

    def set(self, **control: object) -> None:
        """Change how it behaves: see `freshControl` in `fhir/server.cjs`."""
        self.http.post(self.control_url, json=control).raise_for_status()

    def reset(self) -> None:
        """Forget all resources, requests and settings."""
        self.http.delete(self.control_url).raise_for_status()

    def log(self) -> list[dict[str, str]]:
        """Return the requests it has had: method, url, authorization, contentType."""
        requests: list[dict[str, str]] = self.http.get(self.control_url).json()["log"]
        return requests

    def add(self, resource: dict[str, Any]) -> str:
        """Store a resource and return its id."""
        answer = self.http.post(f"{self.url}/{resource['resourceType']}", json=resource)
        assert answer.status_code == 201, answer.text
        identity: str = answer.json()["id"]
        return identity

    def replace(self, resource: dict[str, Any]) -> None:
        """Store another version of a resource, as a person in the hospital would."""
        self.http.put(f"{self.url}/{resource['resourceType']}/{resource['id']}", json=resource).raise_for_status()

    def add_patient(self, system: str, value: str) -> str:
        """Store a Patient with this identifier and return its id."""
        return self.add({"resourceType": "Patient", "identifier": [{"system": system, "value": value}]})

    def all(self, resource_type: str) -> list[dict[str, Any]]:
        """Return every resource of a type."""
        answer = self.http.get(f"{self.url}/{resource_type}", params={"_count": "200"}).json()
        return [entry["resource"] for entry in answer.get("entry", [])]


def node_environment() -> dict[str, str]:
    """Return the environment in which Node finds the peer's packages; installs them when they are absent."""
    return os.environ | {"NODE_PATH": str(installed(PEER) / "node_modules")}


@contextmanager
def running_fhir_server(token: str = "", port: int = 0) -> Iterator[FhirServer]:
    """Start a server (`port` 0: any free one), with `token` demanded as bearer token if given; end it afterwards."""
    environment = node_environment() | {"PORT": str(port), "TOKEN": token}
    command = [tool("node", "nodejs"), str(PEER / "server.cjs")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            root = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
            # A connection for each request: the server closes one that idles, perhaps just when it is used again.
            each_its_own = httpx.Limits(max_keepalive_connections=0)
            with httpx.Client(timeout=60, trust_env=False, limits=each_its_own) as http:
                yield FhirServer(f"{root}/fhir/R4", f"{root}/_test", http)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def start_fhir_server() -> Iterator[Callable[..., FhirServer]]:
    """Return a function that starts a server of its own; all end with the test session."""
    with ExitStack() as stack:
        yield lambda token="": stack.enter_context(running_fhir_server(token))


@pytest.fixture(scope="session")
def _shared_fhir_server(start_fhir_server: Callable[..., FhirServer]) -> FhirServer:
    return start_fhir_server()


@pytest.fixture
def fhir_server(_shared_fhir_server: FhirServer) -> FhirServer:
    """Return an empty server; the process is shared by the session, its content is not."""
    _shared_fhir_server.reset()
    return _shared_fhir_server

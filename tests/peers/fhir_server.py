"""A real FHIR R4 server for tests: strict, in memory, on a free port of this machine (see `fhir/server.cjs`).

Needs Node 20 or newer. Its packages are installed once into ``.node/`` at the root of the checkout; the lock file pins
versions and hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.needs import REPOSITORY, absent, tool

PEER = Path(__file__).with_name("fhir")
_MANIFESTS = ("package.json", "package-lock.json")
_INSTALL_LIMIT_S = 280


@dataclass(frozen=True)
class FhirServer:
    """A running server: `url` is its FHIR base; `control_url` makes it fail, wait or forget."""

    url: str
    control_url: str
    http: httpx.Client

    def set(self, **control: object) -> None:
        """Change how it behaves: fail, delayMs, transactions, redirect, metadataStatus, fhirVersion."""
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
    node, npm = tool("node", "nodejs"), tool("npm", "npm")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    if int(re.findall(r"\d+", version)[0]) < 20:
        absent(f"the FHIR peer needs Node 20 or newer, found {version.strip()}")
    return os.environ | {"NODE_PATH": str(_installed(npm) / "node_modules")}


def _installed(npm: str) -> Path:
    """Return the folder of the installed packages; its name follows the lock file, so a new lock installs anew."""
    manifests = {name: (PEER / name).read_bytes() for name in _MANIFESTS}
    folder = REPOSITORY / ".node" / f"fhir-{hashlib.sha256(b''.join(manifests.values())).hexdigest()[:12]}"
    finished = folder / "installed"
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in manifests.items():
            (folder / name).write_bytes(data)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False
        )
        if done.returncode != 0:
            absent(f"npm could not install the FHIR peer: {done.stderr[-400:]}")
        finished.touch()
    return folder


@contextmanager
def running_fhir_server(token: str = "") -> Iterator[FhirServer]:
    """Start a server, with `token` demanded as bearer token if given, and end it afterwards."""
    environment = node_environment() | {"PORT": "0", "TOKEN": token}
    command = [tool("node", "nodejs"), str(PEER / "server.cjs")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            root = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
            with httpx.Client(timeout=30, trust_env=False) as http:
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

"""An OAuth server for tests: signs the node in by SMART Backend Services, and guards any HTTP server.

See `oauth/server.mjs`. Needs Node 20 or newer; its packages are installed like those of the FHIR server.
"""

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

from tests.peers.certificates import Certificates
from tests.peers.npm import installed
from tests.support.needs import tool

PEER = Path(__file__).with_name("oauth")


@dataclass(frozen=True)
class OAuthServer:
    """A running server at `url`. What is asked of it there goes to its `target`, for who shows one of its tokens."""

    url: str
    http: httpx.Client

    def set(self, **control: object) -> None:
        """Change how it behaves: see `freshControl` in `oauth/server.mjs`."""
        self.http.post("/_test", json=control).raise_for_status()

    def reset(self) -> None:
        """Forget all settings and requests."""
        self.http.delete("/_test").raise_for_status()

    def asked(self) -> list[dict[str, Any]]:
        """Return the requests for a token: kid, alg, claims, scope, and the status of the answer (0: none yet)."""
        asked: list[dict[str, Any]] = self.http.get("/_test").raise_for_status().json()["asked"]
        return asked

    def secrets(self) -> list[str]:
        """Return the assertions and tokens that it has had so far: what nobody else may see."""
        secrets: list[str] = self.http.get("/_test").raise_for_status().json()["secrets"]
        return secrets

    def passed(self) -> list[dict[str, Any]]:
        """Return the requests for what it guards: method, url, status."""
        passed: list[dict[str, Any]] = self.http.get("/_test").raise_for_status().json()["passed"]
        return passed


@contextmanager
def running_oauth_server(certificates: Certificates | None = None) -> Iterator[OAuthServer]:
    """Start a server, and end it afterwards; with `certificates` it speaks TLS and wants one of their authority."""
    folder = installed(PEER)
    script = folder / "server.mjs"
    script.write_bytes((PEER / "server.mjs").read_bytes())  # imports of a module are looked for beside it
    environment = dict(os.environ)
    if certificates:
        own = certificates.server
        environment |= {"CERT": str(own.certificate), "KEY": str(own.private_key), "CA": str(certificates.ca)}
    command = [tool("node", "nodejs"), "--no-warnings", str(script)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = next(json.loads(line)["port"] for line in process.stdout if line.startswith('{"port"'))
            url = f"{'https' if certificates else 'http'}://127.0.0.1:{port}"
            verify = certificates.client(certificates.modality) if certificates else True
            # A connection for each request: the server closes one that idles, perhaps just when it is used again.
            each_its_own = httpx.Limits(max_keepalive_connections=0)
            with httpx.Client(base_url=url, timeout=60, trust_env=False, limits=each_its_own, verify=verify) as http:
                yield OAuthServer(url, http)
        finally:
            process.kill()

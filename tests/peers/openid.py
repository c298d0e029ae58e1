"""An OpenID provider for tests: people sign in there by their name, and services by client credentials.

See `oauth/oidc.mjs`. Needs Node 20 or newer; its packages are those of the OAuth server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.peers.npm import installed
from tests.support.needs import tool

PEER = Path(__file__).with_name("oauth")
CLIENT_ID, CLIENT_SECRET = "ainode", "a secret: 100%+"
#: What its tokens of services are made out to.
AUDIENCE = "urn:dicom-node:test"


@dataclass(frozen=True)
class OpenIdProvider:
    """A running provider; `url` is its issuer."""

    url: str
    http: httpx.Client

    def set(self, **control: object) -> None:
        """Change how it behaves: see `control` in `oauth/oidc.mjs`."""
        self.http.post("/_test", json=control).raise_for_status()

    def control(self) -> dict[str, Any]:
        """Return how it behaves, and what it has counted."""
        told: dict[str, Any] = self.http.get("/_test").raise_for_status().json()
        return told

    def revoke(self, what: str, of: str) -> None:
        """Do as its administrator: take back what somebody has there; the node is told nothing of it."""
        self.http.post("/_administrator", json={"revoke": what, "of": of}).raise_for_status()

    def service_token(self) -> str:
        """Return an access token for a service."""
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        return str(self.http.post("/token", data=form).raise_for_status().json()["access_token"])


class Person:
    """Somebody with a browser that runs no scripts: keeps cookies, and goes where it is sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        # The cookies of two servers on one host are kept together, as browsers do.
        self.http = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    def go(self, url: str) -> httpx.Response:
        """Open an address, follow where it leads, and give the name where the provider asks for it."""
        return self._followed(self.http.get(url))

    def sign_out_at(self, provider: OpenIdProvider) -> None:
        """Sign out at the provider, and there alone."""
        page = self.http.get(f"{provider.url}/session/end").raise_for_status().text
        (secret,) = re.findall(r'name="xsrf" value="(\w+)"', page)
        form = {"xsrf": secret, "logout": "yes"}
        assert self.http.post(f"{provider.url}/session/end/confirm", data=form).status_code < 400

    def answer_of_provider(self, node_url: str) -> str:
        """Begin a sign-in and return the address at the node to which the provider sends the browser back."""
        return str(self._followed(self.http.get(f"{node_url}/login/oidc"), stop_at="/login/oidc/callback").url)

    def _followed(self, response: httpx.Response, stop_at: str = "") -> httpx.Response:
        while response.next_request or re.search("id=.person", response.text):
            if response.next_request and stop_at and stop_at in str(response.next_request.url):
                return httpx.Response(303, request=response.next_request)
            if response.next_request:
                response = self.http.send(response.next_request)
            else:
                response = self.http.post(response.url, data={"name": self.name})
        return response


@contextmanager
def running_openid_provider(node_url: str) -> Iterator[OpenIdProvider]:
    """Start a provider that knows the node at this address, and end it afterwards."""
    folder = installed(PEER)
    script = folder / "oidc.mjs"
    script.write_bytes((PEER / "oidc.mjs").read_bytes())  # imports of a module are looked for beside it
    command = [tool("node", "nodejs"), "--no-warnings", str(script)]
    environment = {**os.environ, "NODE_URL": node_url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = next(json.loads(line)["port"] for line in process.stdout if line.startswith('{"port"'))
            url = f"http://127.0.0.1:{port}"
            each_its_own = httpx.Limits(max_keepalive_connections=0)
            with httpx.Client(base_url=url, timeout=60, trust_env=False, limits=each_its_own) as http:
                yield OpenIdProvider(url, http)
        finally:
            process.kill()

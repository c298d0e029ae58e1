"""A provider that says and signs whatever a test wants: for what no honest provider does."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.peers.certificates import Identity

CLIENT_ID = "ainode"


class StandIn:
    """What it answers is in `documents`, by path: JSON, or bytes as they are. A path in `silent` gets no answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = ECKey.generate_key("P-256", {"kid": "first", "use": "sig"})
        self.documents: dict[str, Any] = {}
        self.silent: set[str] = set()
        #: How often each path was asked for, and the forms that were sent to the token endpoint.
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.ended = threading.Event()
        self.documents["/.well-known/openid-configuration"] = {
            "issuer": url,
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "jwks_uri": f"{url}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }
        self.shows(self.key)

    def says(self, **changes: object) -> None:
        """Change its discovery document."""
        self.documents["/.well-known/openid-configuration"].update(changes)

    def shows(self, *keys: ECKey | RSAKey) -> None:
        """Show these public keys."""
        self.documents["/keys"] = {"keys": [key.as_dict(private=False) for key in keys]}

    def signed(
        self,
        claims: Mapping[str, object],
        key: ECKey | RSAKey | None = None,
        alg: str = "ES256",
        **header: object,
    ) -> str:
        """Return these claims as a token."""
        key = key or self.key
        return jwt.encode({"alg": alg, "kid": key.kid, **header}, dict(claims), key, algorithms=[alg])

    def claims(self, **changes: object) -> dict[str, object]:
        """Return the claims of a good ID token, changed so; `None` leaves one out."""
        now = int(time.time())
        good = {
            "iss": self.url, "sub": "anna-1", "aud": CLIENT_ID, "iat": now, "exp": now + 300, "roles": ["readers"],
            "preferred_username": "anna", "sid": "session-1",
        }  # fmt: skip
        return {key: value for key, value in {**good, **changes}.items() if value is not None}

    def gives(self, id_token: str, **more: object) -> None:
        """Answer at the token endpoint with this ID token."""
        self.documents["/token"] = {"access_token": "opaque", "token_type": "Bearer", "id_token": id_token, **more}


@contextmanager
def running_stand_in(shown: Identity | None = None) -> Iterator[StandIn]:
    """Start one on a port of its own, and end it afterwards; with a certificate to show it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stand_in.asked.append(self.path)
            if self.path in stand_in.silent:
                stand_in.ended.wait(60)
                return
            self._answer(stand_in.documents.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            stand_in.forms.append(dict(parse_qsl(body)))
            self.do_GET()

        def _answer(self, document: Any) -> None:
            is_error = document is None or (isinstance(document, dict) and "error" in document)
            content = document if isinstance(document, bytes) else json.dumps(document or {}).encode()
            self.send_response(400 if is_error else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_request(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if shown:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(shown.certificate, shown.private_key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        stand_in = StandIn(f"{'https' if shown else 'http'}://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield stand_in
        finally:
            stand_in.ended.set()
            server.shutdown()
            thread.join()

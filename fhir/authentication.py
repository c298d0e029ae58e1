"""How the node proves itself to a FHIR server: bearer token or basic authentication."""

from __future__ import annotations

from collections.abc import Generator

import httpx


class BearerToken(httpx.Auth):
    """Sends a fixed token with every request."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token (httpx calls this)."""
        request.headers["Authorization"] = self._header
        yield request


def authentication(*, token: str = "", username: str = "", password: str = "") -> httpx.Auth | None:
    """Return the authentication a destination is configured for: the token before user and password, or none."""
    if token:
        return BearerToken(token)
    return httpx.BasicAuth(username, password) if username else None

"""How a web server of the settings is logged in to, and how it is seen that it is away or does not let the node in."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from dicom_node.config.peers import TokenWebPeer, WebPeer

#: Statuses that say who may not: the login is wrong or does not suffice (RFC 9110 15.5.2, 15.5.4).
LOGIN_REFUSED = frozenset({401, 403})
#: What is raised where nobody took the request; anything later may be for what was in it. `UnicodeError` is what Python
#: says of a host with an empty or endless part.
UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, UnicodeError)


class BearerAuth(httpx.Auth):
    """Sends a bearer token with every request (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header; there is no challenge to answer."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def authentication(peer: WebPeer) -> httpx.Auth | None:
    """Return how to log in: the token if there is one, else user and password, else not at all."""
    if isinstance(peer, TokenWebPeer) and peer.token is not None:
        return BearerAuth(peer.token.get_secret_value())
    if peer.username:
        return httpx.BasicAuth(peer.username, peer.password.get_secret_value() if peer.password else "")
    return None

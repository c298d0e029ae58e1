"""How a web server of the settings is addressed and logged in to."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from dicom_node.config.peers import TokenWebPeer, WebPeer
from dicom_node.core.errors import SettingsError


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


def web_address(peer: WebPeer, what: str) -> str:
    """Return the url of `what`, as in ``Source 'pacs'``.

    User and password have settings of their own: addresses end up in logs. Raises `SettingsError`.
    """
    try:
        url = httpx.URL(peer.url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"{what}: url is not an address.") from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        raise SettingsError(
            f"{what}: url must begin with https:// (or http://), name a host, and hold no user or password; set "
            "token, or username and password, beside it."
        )
    return peer.url

"""Signs the node in by SMART Backend Services (HL7 SMART App Launch 2.2): a signed assertion for a short-lived token.

One token for each registration and process, shared by everything that calls the server. A server that gives none *now*
is away (`DestinationAway`); one that does not know or believe the node refuses it (`SignInRefused`): then nothing is
sent until a person has seen to it. No message or log line holds a token, a key, an assertion or the server's own words.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Generator

import httpx

from dicom_node.config.peers import SmartWebPeer
from dicom_node.core.errors import (
    DeliveryDeferred,
    SignInRefused,
)
from dicom_node.deliver.connections.oauth_server import AccessToken, OAuthServer, Registration

#: A token as young as this that is refused would be refused anew: no other is asked for.
_YOUNG_S = 10.0
#: After a 403 a token this old is taken to lack what may have been granted since.
_DOUBTED_AFTER_S = 30.0
#: For so long after a failure nobody asks again: one attempt at a delivery asks several times.
_FAILED_FOR_S = 2.0
_log = logging.getLogger(__name__)


class SmartAuth(httpx.Auth):
    """Sends the access token with every request; after a 401 once more with another token."""

    def __init__(self, tokens: AccessTokens) -> None:
        self._tokens = tokens

    def told(self) -> str:
        """Return for people where the node is signed in, as whom, and what was granted."""
        return self._tokens.told()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises `SignInRefused` where a fresh token is not taken, and what `AccessTokens.current` raises."""
        token = self._tokens.current()
        response = yield _with_token(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            other = self._tokens.instead_of(token)
            if other:
                _hang_up(response)
                response = yield _with_token(request, other)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise SignInRefused(
                f"{request.url.host} answered HTTP 401 to a token that was just fetched for it "
                f"({self._tokens.told()}). Check that url and client_id belong together, and what the client may do "
                "there."
            )
        if response.status_code == httpx.codes.FORBIDDEN:
            self._tokens.doubt()


def _with_token(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _hang_up(response: httpx.Response) -> None:
    """Read nothing more of it; httpx would read it whole before it asks again, however long it is."""
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream.close()
    response.stream = httpx.ByteStream(b"")


class AccessTokens:
    """Holds the access token of one registration; safe to share between threads, of which one fetches at a time."""

    def __init__(self, registration: Registration, verification: Callable[[], ssl.SSLContext | bool]) -> None:
        """`verification` says whom to trust and what to show over TLS, as httpx takes it."""
        self._server = OAuthServer(registration, verification)
        self._lock = threading.Lock()
        self._held: AccessToken | None = None
        self._is_doubted = False
        self._failed: tuple[DeliveryDeferred, float] | None = None

    def current(self) -> str:
        """Return a token that holds. Raises `SignInRefused`, or `DestinationAway` where none is given now."""
        with self._lock:
            held, now = self._held, time.monotonic()
            limit = held.fetched_at + _DOUBTED_AFTER_S if held and self._is_doubted else math.inf
            return held.value if held and now < min(held.good_until, limit) else self._fetched()

    def instead_of(self, refused: str) -> str | None:
        """Return another token than one that was refused; `None` where that was just fetched. Raises as `current`."""
        with self._lock:
            held = self._held
            if held is None or held.value != refused:
                return held.value if held else self._fetched()
            return None if time.monotonic() - held.fetched_at < _YOUNG_S else self._fetched()

    def doubt(self) -> None:
        """Fetch another one soon: what the node may do may be changed by then."""
        with self._lock:
            self._is_doubted = True

    def told(self) -> str:
        """Return for people how it stands: where the node is signed in, as whom, and what was granted."""
        held = self._held
        granted = f", granted {held.granted}" if held and held.granted else ""
        return f"{self._server.told}{granted}{self._server.skew_told()}"

    def _fetched(self) -> str:
        if self._failed and time.monotonic() < self._failed[1]:
            error = self._failed[0]
            raise type(error)(str(error), error.retry_after_s)
        self._held = None
        try:
            self._held = self._server.fetch()
        except DeliveryDeferred as error:
            self._failed = (error, time.monotonic() + _FAILED_FOR_S)
            raise
        self._is_doubted, self._failed = False, None
        _log.info("signed in", extra={"server": self._server.told, "valid_s": round(self._held.valid_s)})
        return self._held.value


_tokens: dict[Registration, AccessTokens] = {}
_tokens_lock = threading.Lock()


def tokens_of(peer: SmartWebPeer, verification: Callable[[], ssl.SSLContext | bool]) -> AccessTokens:
    """Return the tokens of a configured peer: the same for all of this process that call it."""
    registration = Registration(
        peer.url,
        peer.client_id,
        tuple(path for path in (peer.private_key, peer.next_private_key) if path),
        peer.token_url,
        peer.scopes,
        tuple(peer.needs.items()),
        (peer.ca, peer.client_certificate, peer.client_certificate_key),
    )
    with _tokens_lock:
        return _tokens.setdefault(registration, AccessTokens(registration, verification))

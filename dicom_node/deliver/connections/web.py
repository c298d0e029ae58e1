"""How a web server of the settings is called: whom to trust, what to show, how to sign in; and how it is seen that it
is away or does not let the node in."""

from __future__ import annotations

import ssl
from collections.abc import Generator

import httpx

from dicom_node.config.files import require_regular
from dicom_node.config.peers import SmartWebPeer, TokenWebPeer, WebPeer
from dicom_node.core.calls.requests import name_request
from dicom_node.core.errors import DestinationAway, NodeError, tls_fault_told
from dicom_node.deliver.connections.smart import SmartAuth, tokens_of

#: Statuses that say who may not: the login is wrong or does not suffice (RFC 9110 15.5.2, 15.5.4).
LOGIN_REFUSED = frozenset({401, 403})
#: What is raised where nobody took the request; anything later may be for what was in it. `UnicodeError` is what Python
#: says of a host with an empty or endless part.
UNREACHABLE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, UnicodeError)

_LONGEST_ANSWER_BYTES = 16 << 20


class BearerAuth(httpx.Auth):
    """Sends a bearer token with every request (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header; there is no challenge to answer."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def web_client(peer: WebPeer, timeout_s: float | None, fault: type[NodeError] = DestinationAway) -> httpx.Client:
    """Return a client that calls this server as the settings say: its authorities, the node's certificate, its login.

    Redirects are not followed, so that a login goes to no other host. Raises `fault` where the files of `ca` or
    `client_certificate` cannot be used. Requests raise what httpx does; and for SMART Backend Services `SignInRefused`,
    or `DestinationAway` where the OAuth server gives no token now.
    """
    verify = verification(peer, fault)
    auth, hooks = authentication(peer), {"request": [name_request]}
    return httpx.Client(auth=auth, timeout=timeout_s, verify=verify, follow_redirects=False, event_hooks=hooks)


def authentication(peer: WebPeer) -> httpx.Auth | None:
    """Return how to log in: by SMART Backend Services, a token, user and password, or not at all."""
    if isinstance(peer, SmartWebPeer) and peer.client_id:
        return SmartAuth(tokens_of(peer, lambda: verification(peer)))
    if isinstance(peer, TokenWebPeer) and peer.token is not None:
        return BearerAuth(peer.token.get_secret_value())
    if peer.username:
        return httpx.BasicAuth(peer.username, peer.password.get_secret_value() if peer.password else "")
    return None


def verification(peer: WebPeer, fault: type[NodeError] = DestinationAway) -> ssl.SSLContext | bool:
    """Return what httpx takes as `verify`: whom to trust, and the certificate to show.

    Made for each client, so that a renewed certificate needs no restart. Raises `fault` where a file cannot be used.
    """
    if not peer.ca and not peer.client_certificate:
        return True
    try:
        require_regular(peer.ca, peer.client_certificate, peer.client_certificate_key)
        context = ssl.create_default_context(cafile=peer.ca) if peer.ca else httpx.create_ssl_context()
        if peer.client_certificate:
            # A key under a passphrase is an error here; without the argument OpenSSL would ask on the terminal.
            context.load_cert_chain(peer.client_certificate, peer.client_certificate_key, password="")
    except OSError as error:
        why = error.strerror or "not what it should be"
        files = {key: getattr(peer, key) for key in ("ca", "client_certificate", "client_certificate_key")}
        told = ", ".join(f"{key} {path}" for key, path in files.items() if path)
        raise fault(f"{peer.url} cannot be called: {why}. Check {told}.") from error
    return context


class AnswerTooLong(Exception):
    """An answer is longer than any that makes sense, and is read no further."""


def read_whole(response: httpx.Response) -> httpx.Response:
    """Return a streamed response with its body, unpacked. Raises `AnswerTooLong`, and what httpx does."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > _LONGEST_ANSWER_BYTES:
            raise AnswerTooLong
    plain = [(name, value) for name, value in response.headers.items() if name != "content-encoding"]
    return httpx.Response(response.status_code, headers=plain, content=bytes(content), request=response.request)


def nobody_took_it(error: httpx.RequestError | UnicodeError) -> bool:
    """Tell whether the server took nothing of a request: it is away, or TLS did not come about."""
    return isinstance(error, UNREACHABLE) or bool(tls_fault_told(error))

"""Who may use the API: whoever shows the token, as a bearer token or through a session that was opened with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from dicom_node.api.problems import ProblemError
from dicom_node.api.throttle import FailureLimit
from dicom_node.api.token import digest_of

COOKIE = "dicom_node_session"
SESSION_S = 12 * 3600
_MAX_SESSIONS = 256
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_HOW_TO_SIGN_IN = (
    "Show the API token as `Authorization: Bearer …`, or log in on the page. The token is in the file `api-token` in "
    "the node's data folder."
)
_log = logging.getLogger(__name__)

# Only for the OpenAPI document: reading and judging are done below, in one place.
_bearer = HTTPBearer(auto_error=False, description="The API token.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="A session opened by POST /login.")


class Sessions:
    """Open sessions by the digest of their secret, in memory: a restart or `close` ends them."""

    def __init__(self) -> None:
        self._ends_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def open(self) -> str:
        """Open a session and return its secret; of too many sessions the oldest ends."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._ends_at[_digest(secret)] = time.monotonic() + SESSION_S
            while len(self._ends_at) > _MAX_SESSIONS:
                self._ends_at.popitem(last=False)
        return secret

    def is_open(self, secret: str) -> bool:
        """Tell whether this secret belongs to a session that has not ended."""
        with self._lock:
            return self._ends_at.get(_digest(secret), 0.0) > time.monotonic()

    def close(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._ends_at.pop(_digest(secret), None)


class Access:
    """Checks tokens and sessions of one application."""

    def __init__(self, token_digest: str, failures_per_minute: int = 10) -> None:
        self.sessions = Sessions()
        self._token_digest = token_digest
        self._limit = FailureLimit(failures_per_minute)

    def check_token(self, token: str, address: str) -> None:
        """Raise `ProblemError` unless `token` is the API token: 401, or 429 when this address has guessed too often."""
        wait_s = self._limit.wait_s(address)
        if wait_s > 0:
            retry_after = {"Retry-After": str(math.ceil(wait_s))}
            raise ProblemError(429, f"Too many wrong tokens. Try again in {math.ceil(wait_s)} s.", retry_after)
        if not hmac.compare_digest(digest_of(token), self._token_digest):
            self._limit.failed(address)
            _log.warning("wrong API token", extra={"address": address})
            raise ProblemError(401, f"The token is wrong. {_HOW_TO_SIGN_IN}", {"WWW-Authenticate": "Bearer"})

    def check(self, request: Request) -> None:
        """Raise `ProblemError` unless the request may pass: 401, 403 (another site's page is asking) or 429."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self.check_token(token.strip(), address_of(request))
            return
        if scheme.lower() == "basic":  # what many DICOMweb clients know only; the token is the password
            self.check_token(_password_in(token), address_of(request))
            if request.method not in _SAFE_METHODS:
                require_same_site(request)  # browsers keep it and send it along by themselves
            return
        if not self.sessions.is_open(request.cookies.get(COOKIE, "")):
            raise ProblemError(401, _HOW_TO_SIGN_IN, {"WWW-Authenticate": "Bearer"})
        if request.method not in _SAFE_METHODS:
            require_same_site(request)


def access_of(request: Request) -> Access:
    """Return the access control of the application."""
    return cast(Access, request.app.state.access)


def signed_in(
    request: Request,
    _bearer: Annotated[object, Security(_bearer)],
    _cookie: Annotated[object, Security(_cookie)],
) -> None:
    """Let the request pass, or raise `ProblemError`."""
    access_of(request).check(request)


def require_same_site(request: Request) -> None:
    """Raise `ProblemError` 403 when a browser says that another site's page asks.

    Sec-Fetch-Site is the browser's own verdict and holds behind a proxy that changes Host; browsers leave it out over
    plain HTTP, so that there Origin must name this host. Programs send neither.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_same = site in {"same-origin", "none"}
    else:
        is_same = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_same:
        raise ProblemError(403, "A page of another site may not do this. Use the node's own page, or the API token.")


def address_of(request: Request) -> str:
    """Return the peer's address. Headers of proxies are not believed: anyone can write them."""
    return request.client.host if request.client else "unknown"


def _password_in(credentials: str) -> str:
    """Return the password of basic authentication (RFC 7617), "" when there is none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


SignedIn = Depends(signed_in)
CurrentAccess = Annotated[Access, Depends(access_of)]

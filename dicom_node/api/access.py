"""Who may use the API: whoever shows the token, as a bearer token or through a session that was opened with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import math
import os
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from dicom_node.api.problems import ProblemError
from dicom_node.core.errors import SettingsError
from dicom_node.core.limits import network_of
from dicom_node.core.principal import Principal, UserRole

COOKIE = "dicom_node_session"
SESSION_S = 12 * 3600
#: Whoever shows the API token.
API_TOKEN = Principal("api-token", frozenset({UserRole.ADMIN}))
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
        self._open: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, principal: Principal) -> str:
        """Open a session of somebody and return its secret; of too many sessions the oldest ends."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._open[digest_of(secret)] = (principal, time.monotonic() + SESSION_S)
            while len(self._open) > _MAX_SESSIONS:
                self._open.popitem(last=False)
        return secret

    def principal(self, secret: str) -> Principal | None:
        """Return whose session this secret belongs to; `None` when it has ended or never was."""
        with self._lock:
            principal, ends_at = self._open.get(digest_of(secret), (None, 0.0))
        return principal if ends_at > time.monotonic() else None

    def close(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(digest_of(secret), None)


class Access:
    """Says who is asking, by the token or the session that a request shows."""

    def __init__(self, token_digest: str, failures_per_minute: int = 10) -> None:
        self.sessions = Sessions()
        self._token_digest = token_digest
        self._limit = FailureLimit(failures_per_minute)

    def principal_of_token(self, token: str, address: str) -> Principal:
        """Return whose token this is: the one place that knows who there is.

        Compared before anything is counted: behind a reverse proxy everybody has one address, and whoever guesses there
        must not shut out those who know. Raises `ProblemError` 401 for a wrong token, or 429 when this address has
        guessed too often.
        """
        if not hmac.compare_digest(digest_of(token), self._token_digest):
            raise self._refused(address)
        return API_TOKEN

    def _refused(self, address: str) -> ProblemError:
        wait_s = math.ceil(self._limit.wait_s(address))
        if wait_s > 0:
            return ProblemError(429, f"Too many wrong tokens. Try again in {wait_s} s.", {"Retry-After": str(wait_s)})
        self._limit.failed(address)
        _log.warning("wrong API token", extra={"address": address})
        return ProblemError(401, f"The token is wrong. {_HOW_TO_SIGN_IN}", {"WWW-Authenticate": "Bearer"})

    def principal_of(self, request: Request) -> Principal:
        """Return who is asking. Raises `ProblemError`: 401, 403 (another site's page is asking) or 429."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.principal_of_token(token.strip(), address_of(request))
        if scheme.lower() == "basic":  # what many DICOMweb clients know only; the token is the password
            principal = self.principal_of_token(_password_in(token), address_of(request))
            if request.method not in _SAFE_METHODS:
                require_same_site(request)  # browsers keep it and send it along by themselves
            return principal
        session = self.sessions.principal(request.cookies.get(COOKIE, ""))
        if session is None:
            raise ProblemError(401, _HOW_TO_SIGN_IN, {"WWW-Authenticate": "Bearer"})
        if request.method not in _SAFE_METHODS:
            require_same_site(request)
        return session


def access_of(request: Request) -> Access:
    """Return the access control of the application."""
    return cast(Access, request.app.state.access)


def signed_in(
    request: Request,
    _bearer: Annotated[object, Security(_bearer)],
    _cookie: Annotated[object, Security(_cookie)],
) -> Principal:
    """Return who is asking, or raise `ProblemError`."""
    return access_of(request).principal_of(request)


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


#: Lets nobody else pass; and who it is, for what is done in somebody's name.
SignedIn = Depends(signed_in)
CurrentPrincipal = Annotated[Principal, SignedIn]
CurrentAccess = Annotated[Access, Depends(access_of)]


# --- failed log-ins ------------------------------------------------------------------------------------------------

_WINDOW_S = 60.0


class FailureLimit:
    """At most `per_minute` failures from one address (one /64 network for IPv6); safe to share between threads."""

    def __init__(
        self, per_minute: int = 10, max_addresses: int = 4096, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._max_addresses = max_addresses
        self._clock_s = clock_s
        self._failures_at: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Return how long this address must wait before its next try; 0 when it may try now."""
        with self._lock:
            times = self._failures_at.get(network_of(address))
            if times is None or len(times) < self._per_minute:
                return 0.0
            return max(0.0, times[0] + _WINDOW_S - self._clock_s())

    def failed(self, address: str) -> None:
        """Count a failure. Of too many addresses the one that has been quiet longest is forgotten."""
        with self._lock:
            key = network_of(address)
            times = self._failures_at.setdefault(key, deque(maxlen=self._per_minute))
            times.append(self._clock_s())
            self._failures_at.move_to_end(key)
            while len(self._failures_at) > self._max_addresses:
                self._failures_at.popitem(last=False)


# --- the token -----------------------------------------------------------------------------------------------------

_MIN_LENGTH = 20


def load_or_create_token(path: Path) -> tuple[str | None, str]:
    """Return the new token (only when this call made it, to be shown once) and the digest of the token in force.

    Two processes starting at once agree on one token. Raises `SettingsError` when the file cannot be used.
    """
    try:
        created = None if path.exists() else _create(path)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The API token file {path} cannot be read or written ({type(error).__name__}). Check api.token_file and "
            "the rights of its folder."
        ) from error
    if len(token) < _MIN_LENGTH:
        raise SettingsError(
            f"The API token in {path} is shorter than {_MIN_LENGTH} characters. Put in a longer one, or delete the "
            "file and let the node make one."
        )
    return created, digest_of(token)


def digest_of(token: str) -> str:
    """Return the sha256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def _create(path: Path) -> str | None:
    """Write a new token under `path`, whole or not at all; `None` when another process was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, opened with its mode
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
            return token
        return None
    finally:
        draft.unlink()

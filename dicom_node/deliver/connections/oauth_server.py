"""The OAuth server of SMART Backend Services: asked for an access token by an assertion that the node signs.

No message or log line holds a token, a key, an assertion or the server's own words.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.calls.limits import retry_after_s
from dicom_node.core.errors import (
    DeliveryDeferred,
    DestinationAway,
    SettingsError,
    SignInRefused,
    fault_told,
    tls_fault_told,
)
from dicom_node.deliver.connections.signing_keys import SigningKey, read_key

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: An assertion holds so long (SMART: at most 300 s). Begun a little ago, for servers whose clock is a little behind.
_ASSERTION_S, _BEGUN_S = 240, 10
#: A token is used until so long before its end; one that lives shorter than twice that, for half its life.
_SPARE_S = 60.0
#: What a token lives where the server does not say (SMART recommends no more), and the longest that is believed.
_USUAL_S, _LONGEST_S = 300.0, 86_400.0
_ANSWERED_WITHIN_S = 20.0
_MOST_BYTES = 1 << 18
#: Clocks may differ by so much before it is told.
_SKEW_TOLD_S = 30.0
_PASSING_STATUSES = frozenset({408, 425, 429})
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_SCOPE = re.compile(r"(system|patient|user)/[A-Za-z*]{1,40}\.[a-z*]{1,8}")


@dataclass(frozen=True, slots=True)
class Registration:
    """Who the node is for one server, as the settings have it.

    `keys` are files, the one in use first. `needs` are the resource types with what the node does to them, as letters
    of SMART 2 (`crus`); `scopes`, if set, is asked for instead.
    """

    url: str
    client_id: str
    keys: tuple[Path, ...]
    token_url: str
    scopes: str
    needs: tuple[tuple[str, str], ...]
    tls_files: tuple[Path | None, ...]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token; times are of `time.monotonic`."""

    value: str = field(repr=False)
    fetched_at: float
    good_until: float
    valid_s: float
    granted: str


@dataclass(frozen=True, slots=True)
class _Reply:
    """One whole answer; `document` is its JSON object, empty where it is none."""

    status: int
    headers: httpx.Headers
    document: Mapping[str, Any]

    @property
    def passes(self) -> bool:
        """Tell whether it is a trouble that passes by itself."""
        return self.status in _PASSING_STATUSES or self.status >= httpx.codes.INTERNAL_SERVER_ERROR


@dataclass(frozen=True, slots=True)
class _Line:
    """The connections of one sign-in, and what ends them in time."""

    http: httpx.Client
    cutoff: Cutoff


class OAuthServer:
    """Asks for tokens, each time anew where that is done and by which key."""

    def __init__(self, registration: Registration, verification: Callable[[], ssl.SSLContext | bool]) -> None:
        self._registration = registration
        self._verification = verification
        self._host = urlsplit(registration.token_url or registration.url).hostname
        self._skew_s = 0.0

    @property
    def told(self) -> str:
        return f"client {self._registration.client_id} at {self._host}"

    def skew_told(self) -> str:
        """Return by how much the clocks differ, where that may be the reason of a refusal."""
        if abs(self._skew_s) < _SKEW_TOLD_S:
            return ""
        side = "behind" if self._skew_s > 0 else "ahead of"
        return f"; this node's clock is {abs(self._skew_s):.0f} s {side} the server's: set both by NTP"

    def fetch(self) -> AccessToken:
        """Fetch a token, signing by the next key where the first is not known. Raises as `AccessTokens.current`."""
        keys: list[SigningKey] = []
        with httpx.Client(verify=self._verification(), timeout=_ANSWERED_WITHIN_S, follow_redirects=False) as http:
            line = _Line(http, Cutoff(http))
            url, scope = self._where_and_what(line)
            for path in self._registration.keys:
                keys.append(_read(path))
                begun_at = time.monotonic()
                reply = self._asked(line, "POST", url, data=self._form(url, scope, keys[-1]))
                if reply.status == httpx.codes.OK:
                    return self._token(reply, begun_at)
                if reply.document.get("error") != "invalid_client":
                    break
        raise self._refusal(reply, scope, keys)

    def _where_and_what(self, line: _Line) -> tuple[str, str]:
        """Return the token endpoint, and the scopes to ask for in the form that the server speaks."""
        one = self._registration
        if one.token_url:
            return one.token_url, one.scopes or _scopes(one.needs, {})
        reply = self._asked(line, "GET", f"{one.url.rstrip('/')}/.well-known/smart-configuration")
        if not reply.passes and reply.status != httpx.codes.OK:
            raise SignInRefused(
                f"{self._host} answered HTTP {reply.status} to the question where to sign in "
                "(.well-known/smart-configuration). Check url, or set token_url."
            )
        url = reply.document.get("token_endpoint")
        if not isinstance(url, str) or not _is_usable(url, below=one.url):
            raise self._away("what it says of where to sign in cannot be used (or set token_url)", reply)
        self._host = urlsplit(url).hostname
        return url, one.scopes or _scopes(one.needs, reply.document)

    def _form(self, url: str, scope: str, key: SigningKey) -> dict[str, str]:
        client_id, now = self._registration.client_id, int(time.time())
        claims = {
            "iss": client_id, "sub": client_id, "aud": url, "jti": uuid.uuid4().hex,
            "iat": now - _BEGUN_S, "exp": now + _ASSERTION_S,
        }  # fmt: skip
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": key.signed(claims),
        }
        return form | ({"scope": scope} if scope else {})

    def _token(self, reply: _Reply, begun_at: float) -> AccessToken:
        value, kind = reply.document.get("access_token"), reply.document.get("token_type")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value) or str(kind).lower() != "bearer":
            raise self._away("what it answers holds no bearer token", reply)
        valid_s = _seconds(reply.document.get("expires_in"))
        good_until = begun_at + max(valid_s - _SPARE_S, valid_s / 2)
        granted = " ".join(one for one in str(reply.document.get("scope")).split() if _SCOPE.fullmatch(one))
        return AccessToken(value, time.monotonic(), good_until, valid_s, granted)

    def _refusal(self, reply: _Reply, scope: str, keys: Sequence[SigningKey]) -> DeliveryDeferred:
        if reply.passes or httpx.codes.is_success(reply.status):
            return self._away(f"HTTP {reply.status}", reply)
        code = str(reply.document.get("error"))
        if code in {"temporarily_unavailable", "server_error"}:
            return self._away(code, reply)
        kids = " or ".join(key.kid for key in keys)
        advice = {
            "invalid_client": f"Register the client there with the public key {kids} (dicom-node smart-key show prints "
            "it; the node shows it at /.well-known/jwks.json).",
            "invalid_scope": f"Grant it there {scope or 'its scopes'}, or set scopes to what is granted.",
            "invalid_grant": "Allow it client_credentials there, by a signed assertion (private_key_jwt).",
        }
        advice |= dict.fromkeys(("unauthorized_client", "unsupported_grant_type"), advice["invalid_grant"])
        what = f" ({code})" if code in {*advice, "invalid_request"} else ""
        otherwise = "Check token_url and client_id, and how this client signs in there (private_key_jwt)."
        return SignInRefused(
            f"The OAuth server refuses {self.told}: HTTP {reply.status}{what}. {advice.get(code, otherwise)}"
            f"{self.skew_told()}"
        )

    def _away(self, why: str, reply: _Reply | None = None) -> DestinationAway:
        wait_s = retry_after_s(reply.headers.get("Retry-After", "")) if reply else None
        return DestinationAway(
            f"{self._host} gives no token now: {why}. Tried again later; check network and certificates.", wait_s
        )

    def _asked(self, line: _Line, method: str, url: str, **parts: Any) -> _Reply:
        # Identity: a small compressed body could unfold to more than the machine holds.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        with (
            self._explained(line.cutoff),
            line.cutoff.after(_ANSWERED_WITHIN_S),
            line.http.stream(method, url, headers=headers, **parts) as response,
        ):
            body = self._body(response)
            self._note_clock(response.headers.get("Date", ""))
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        return _Reply(response.status_code, response.headers, document if isinstance(document, dict) else {})

    def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > _MOST_BYTES:
                raise self._away("its answer does not end")
        return bytes(body)

    @contextmanager
    def _explained(self, cutoff: Cutoff) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise self._away(f"no answer for {_ANSWERED_WITHIN_S:g} s") from None
        except (httpx.RequestError, httpx.InvalidURL, UnicodeError) as error:
            # The last two: a host that cannot be looked up, by its letters or length.
            if cutoff.is_over:
                raise self._away("its answer does not end") from None
            raise self._away(tls_fault_told(error) or fault_told(error)) from None

    def _note_clock(self, date: str) -> None:
        try:
            there = parsedate_to_datetime(date)
            there = there if there.tzinfo else there.replace(tzinfo=UTC)
            self._skew_s = (there - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return


def _read(path: Path) -> SigningKey:
    """Read a key anew for each token, so that a new one needs no restart. Raises `SignInRefused`."""
    try:
        return read_key(path)
    except SettingsError as error:
        raise SignInRefused(str(error)) from None


def _is_usable(url: str, below: str) -> bool:
    """Tell whether a token endpoint that a server names can be called, and is not less safe than that server."""
    try:
        parts, asked = urlsplit(url), urlsplit(below)
        is_address = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    return is_address and (parts.scheme == "https" or parts.scheme == asked.scheme == "http")


def _seconds(said: object) -> float:
    """Return for how long a token holds, whatever a server says of it."""
    try:
        valid_s = float(str(said))
    except ValueError:
        return _USUAL_S
    return min(valid_s, _LONGEST_S) if valid_s > 0 else _USUAL_S


def _scopes(needs: Sequence[tuple[str, str]], said: Mapping[str, Any]) -> str:
    """Return the scopes for what is needed, in the form of SMART 2, or of SMART 1 where a server speaks that alone."""
    listed = [one for one in _strings(said.get("scopes_supported")) if one.startswith("system/")]
    able = _strings(said.get("capabilities"))
    old = any(re.search(r"\.(read|write|\*)$", one) for one in listed) or "permission-v1" in able
    new = any(re.search(r"\.c?r?u?d?s?$", one) for one in listed) or "permission-v2" in able
    if new or not old:
        return " ".join(f"system/{kind}.{letters}" for kind, letters in needs)
    verbs = (("read", set("rs")), ("write", set("cud")))
    return " ".join(f"system/{kind}.{verb}" for kind, does in needs for verb, of in verbs if of & set(does))


def _strings(values: object) -> list[str]:
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []

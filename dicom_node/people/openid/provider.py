"""Speaks to an OpenID provider: where it is asked what, which keys it signs with, and the forms it is sent.

What it says is believed after TLS, read up to a bound, and waited for no longer than `ANSWERED_WITHIN_S`. What it said
last is used on where it is away. No message or log line holds a token, a secret or the provider's own words.
"""

from __future__ import annotations

import json
import logging
import math
import re
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oidc.discovery import get_well_known_url
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, RSAKey

from dicom_node.config.files import require_regular
from dicom_node.config.openid import OidcSettings
from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.errors import GrantEnded, ProviderAway, SignInDenied, fault_told, tls_fault_told

#: The longest that a whole answer is waited for.
ANSWERED_WITHIN_S = 10.0
#: Documents are fetched anew after this time, and used on for so long where that fails.
_FRESH_S, _KEPT_S = 3600.0, 86_400.0
#: After a failure nobody asks again for so long: each click would wait in vain.
_FAILED_FOR_S = 10.0
#: Whoever shows tokens with keys nobody knows makes the node ask no more often than this.
_KEYS_EVERY_S = 30.0
#: So many wait at once for its answers, and so few for a document that nobody has yet: each holds one of the forty
#: threads that answer all requests of the API, and anybody may begin to sign in.
_MOST_ASKING, _MOST_WAITING = 12, 3
_BUSY = "others wait for its answer already"
_MOST_BYTES = 1 << 18
_MOST_KEYS = 64
_SHORTEST_RSA_BITS = 2048
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a provider says of itself (OpenID Connect Discovery 1.0, 3); addresses it does not have are ""."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    end_session_endpoint: str
    revocation_endpoint: str
    #: It names itself in its answers (RFC 9207).
    names_itself: bool
    #: It tells who has signed out (OpenID Connect Back-Channel Logout 1.0).
    tells_of_sign_outs: bool
    #: How it takes the client's secret: `client_secret_basic`, `client_secret_post`.
    auth_methods: frozenset[str]


class Provider:
    """One configured provider; safe to share between threads."""

    def __init__(self, settings: OidcSettings, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self.host = urlsplit(settings.issuer).hostname or settings.issuer
        self._metadata = _Remembered(self._discovered, clock_s, self._away)
        self._keys = _Remembered(self._fetched_keys, clock_s, self._away)
        self._asking = threading.BoundedSemaphore(_MOST_ASKING)
        self._silence = _Silence(clock_s)

    def metadata(self) -> ProviderMetadata:
        """Return what it says of itself. Raises `ProviderAway` where that was never heard."""
        return self._metadata.get()

    def keys(self, kid: object) -> KeySet:
        """Return the keys it signs with, fetched once more where none has this name: keys are changed there.

        Raises `ProviderAway`.
        """
        keys = self._keys.get()
        if kid is not None and all(key.kid != kid for key in keys):
            return self._keys.again(_KEYS_EVERY_S)
        return keys

    def fault(self) -> str:
        """Return for people why the provider cannot be asked now; "" where it can, or was not asked yet."""
        return self._silence.told() or self._metadata.fault or self._keys.fault

    def token(self, grant_type: str, **form: str) -> Mapping[str, Any]:
        """Ask the token endpoint for something. Raises `GrantEnded` (invalid_grant), `SignInDenied`, `ProviderAway`."""
        url = self.metadata().token_endpoint
        reply = self._posted(url, prepare_token_request(grant_type, **form))
        error = reply.document.get("error")
        if error == "invalid_grant":
            raise GrantEnded("The provider does not honour this sign-in any more. Sign in again.")
        if reply.status >= httpx.codes.INTERNAL_SERVER_ERROR or reply.status in {408, 425, 429}:
            raise self._away(f"HTTP {reply.status}")
        if reply.status != httpx.codes.OK or not isinstance(reply.document.get("access_token"), str):
            code = error if isinstance(error, str) and error in _ERRORS else f"HTTP {reply.status}"
            _log.error("OpenID provider refuses the node", extra={"host": self.host, "code": code})
            raise SignInDenied(
                f"The provider gives the node no token ({code}). An administrator must check oidc.client_id, its "
                "secret or key, and that public_url/login/oidc/callback is registered there."
            )
        return reply.document

    def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """Return what it says of whose token this is. Raises `ProviderAway`; `GrantEnded` where it is not honoured."""
        shown = {"Authorization": f"Bearer {access_token}"}
        reply = self._asked("GET", self.metadata().userinfo_endpoint, headers=shown)
        if reply.status in {401, 403}:
            raise GrantEnded("The provider does not honour this sign-in any more. Sign in again.")
        if reply.status != httpx.codes.OK:
            raise self._away(f"HTTP {reply.status} to the question who this is")
        return reply.document

    def revoke(self, refresh_token: str) -> None:
        """Take a grant back (RFC 7009), where that can be done. Raises `ProviderAway`."""
        if url := self.metadata().revocation_endpoint:
            self._posted(url, f"token_type_hint=refresh_token&{httpx.QueryParams(token=refresh_token)}")

    def _posted(self, url: str, body: str) -> _Reply:
        _, headers, signed = self._client_auth(url).prepare("POST", url, {}, body)
        return self._asked("POST", url, headers=headers, data=dict(parse_qsl(signed)))

    def _client_auth(self, url: str) -> ClientAuth:
        one = self._settings
        if one.private_key:
            try:
                require_regular(one.private_key)
                key = RSAKey.import_key(one.private_key.read_bytes())
            except (OSError, ValueError, JoseError):
                raise SignInDenied(f"oidc.private_key {one.private_key} holds no RSA key that can be read.") from None
            return ClientAuth(one.client_id, key, PrivateKeyJWT(url))
        if one.client_secret is None:
            return ClientAuth(one.client_id, None, "none")
        secret, methods = one.client_secret.get_secret_value(), self.metadata().auth_methods
        # Providers differ in how they read other signs in basic authentication (RFC 6749 2.3.1).
        is_plain = re.fullmatch(r"[\w.~-]*", one.client_id + secret, re.ASCII)
        is_basic = "client_secret_post" not in methods or (is_plain and "client_secret_basic" in methods)
        return ClientAuth(one.client_id, secret, "client_secret_basic" if is_basic else "client_secret_post")

    # --- documents ---------------------------------------------------------------------------------------------

    def _discovered(self) -> ProviderMetadata:
        url = get_well_known_url(self._settings.issuer, external=True)
        said = self._document(url)
        if said.get("issuer") != self._settings.issuer:
            raise self._away(self._other_issuer(said.get("issuer")))
        endpoints = {name: self._endpoint(said, name) for name in _ENDPOINTS}
        missing = [name for name in ("authorization_endpoint", "token_endpoint", "jwks_uri") if not endpoints[name]]
        if missing:
            raise self._away(f"its discovery document has no {missing[0]} that can be used")
        methods = said.get("token_endpoint_auth_methods_supported")
        return ProviderMetadata(
            issuer=self._settings.issuer,
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
            tells_of_sign_outs=said.get("backchannel_logout_supported") is True,
            # What a provider that says nothing takes (Discovery 1.0, 3).
            auth_methods=frozenset(map(str, methods if isinstance(methods, list) else ["client_secret_basic"])),
            **endpoints,
        )

    def _other_issuer(self, issuer: object) -> str:
        if isinstance(issuer, str) and "{tenantid}" in issuer:
            return (
                "this address is for accounts of every tenant. Name yours in oidc.issuer: "
                "https://login.microsoftonline.com/TENANT-ID/v2.0"
            )
        return "its discovery document names another issuer. Write oidc.issuer as it stands there, to the last /"

    def _endpoint(self, said: Mapping[str, Any], name: str) -> str:
        """Return an address that may be called: no less safe than the issuer's."""
        url = said.get(name)
        try:
            parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
            is_address = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            return ""
        is_safe = parts.scheme == "https" or parts.scheme == urlsplit(self._settings.issuer).scheme == "http"
        return str(url) if is_address and is_safe else ""

    def _fetched_keys(self) -> KeySet:
        said = self._document(self.metadata().jwks_uri).get("keys")
        keys = [key for one in (said if isinstance(said, list) else [])[:_MOST_KEYS] if (key := _public_key(one))]
        if not keys:
            raise self._away("it shows no key that can be used")
        return KeySet(keys)

    def _document(self, url: str) -> Mapping[str, Any]:
        reply = self._asked("GET", url)
        if reply.status != httpx.codes.OK or not reply.document:
            raise self._away(f"HTTP {reply.status}, and no JSON document, at {urlsplit(url).path}")
        return reply.document

    # --- HTTP --------------------------------------------------------------------------------------------------

    def _asked(self, method: str, url: str, headers: Mapping[str, str] | None = None, **parts: Any) -> _Reply:
        if why := self._silence.told():
            raise ProviderAway(why)
        # Identity: a small compressed body could unfold to more than the machine holds.
        wanted = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        with (
            _one_of(self._asking, self._away),
            httpx.Client(verify=self._verification(), timeout=ANSWERED_WITHIN_S, follow_redirects=False) as http,
        ):
            cutoff = Cutoff(http)
            try:
                with cutoff.after(ANSWERED_WITHIN_S), http.stream(method, url, headers=wanted, **parts) as response:
                    reply = _Reply(response.status_code, _json(self._body(response)))
                self._silence.end()
                return reply
            except (httpx.RequestError, httpx.InvalidURL, UnicodeError) as error:
                # The last two: a host that cannot be looked up, by its letters or length.
                is_slow = cutoff.is_over or isinstance(error, httpx.TimeoutException)
                slow = f"no whole answer within {ANSWERED_WITHIN_S:g} s"
                why = slow if is_slow else tls_fault_told(error) or fault_told(error)
        away = self._away(why)
        self._silence.note(str(away))
        raise away

    def _verification(self) -> ssl.SSLContext:
        if not self._settings.ca:
            return _authorities_of_the_system()
        try:
            require_regular(self._settings.ca)
            return ssl.create_default_context(cafile=self._settings.ca)
        except OSError as error:
            raise self._away(f"oidc.ca {self._settings.ca}: {error.strerror or 'no certificates in it'}") from None

    def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > _MOST_BYTES:
                raise self._away("its answer is longer than any that makes sense")
        return bytes(body)

    def _away(self, why: str) -> ProviderAway:
        return ProviderAway(f"The OpenID provider {self.host} cannot be asked now: {why}.")


@cache
def _authorities_of_the_system() -> ssl.SSLContext:
    """Return whom the system trusts; made once, for it takes longer than a request."""
    return httpx.create_ssl_context()


_ENDPOINTS = (
    "authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint",
    "revocation_endpoint",
)  # fmt: skip
#: RFC 6749 5.2; what else is said may be anything.
_ERRORS = frozenset(
    {"invalid_request", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}
)


@dataclass(frozen=True, slots=True)
class _Reply:
    """One whole answer; `document` is its JSON object, empty where it is none."""

    status: int
    document: Mapping[str, Any]


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _public_key(jwk: object) -> Key | None:
    """Return a key that signatures can be checked by; `None` for a secret, one for encryption, a weak or broken one."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of joserfc, for short keys
            key = JWKRegistry.import_key({name: value for name, value in jwk.items() if name != "d"})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, Warning):
        return None
    if isinstance(key, RSAKey):
        return key if key.raw_value.key_size >= _SHORTEST_RSA_BITS else None
    return key if isinstance(key, ECKey) else None


@contextmanager
def _one_of(places: threading.BoundedSemaphore, away: Callable[[str], ProviderAway]) -> Iterator[None]:
    """Hold a place while the provider is waited for. Raises `ProviderAway` when all are taken."""
    if not places.acquire(blocking=False):
        raise away(_BUSY)
    try:
        yield
    finally:
        places.release()


class _Silence:
    """That the provider did not answer a moment ago, and why: for so long nobody else waits for it."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._noted = ("", -math.inf)

    def note(self, why: str) -> None:
        """Remember it from now on."""
        self._noted = (why, self._clock_s())

    def end(self) -> None:
        """Forget it: the provider has answered."""
        self._noted = ("", -math.inf)

    def told(self) -> str:
        """Return why; "" where that is no longer of weight."""
        why, since = self._noted
        return why if self._clock_s() - since < _FAILED_FOR_S else ""


class _Remembered(Generic[_T]):
    """A document that is fetched where it is wanted: kept for a while, and used on where it cannot be had anew."""

    def __init__(
        self, fetch: Callable[[], _T], clock_s: Callable[[], float], away: Callable[[str], ProviderAway]
    ) -> None:
        self._fetch = fetch
        self._clock_s = clock_s
        self._away = away
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._held: tuple[_T, float] | None = None
        self._failed_at = self._hurried_at = -math.inf
        #: Why it could not be fetched when that was tried last; "" where it could.
        self.fault = ""

    def get(self) -> _T:
        """Return it. Raises `ProviderAway`."""
        held = self._held
        if held and self._clock_s() - held[1] < _FRESH_S:
            return held[0]
        if held and self._lock.locked():  # whoever comes while another fetches takes what there is
            return held[0]
        with _one_of(self._waiting, self._away), self._lock:
            return self._fetched(_FRESH_S)

    def again(self, every_s: float) -> _T:
        """Return it, fetched anew unless that was asked for a moment ago already. Raises `ProviderAway`."""
        held = self._held
        if held and self._lock.locked():
            return held[0]
        with _one_of(self._waiting, self._away), self._lock:
            now = self._clock_s()
            if now - self._hurried_at < every_s:
                return self._fetched(_FRESH_S)
            self._hurried_at = now
            return self._fetched(0)

    def _fetched(self, age_s: float) -> _T:
        held, now = self._held, self._clock_s()
        if held and now - held[1] < age_s:  # by whoever had the lock before
            return held[0]
        if now - self._failed_at >= _FAILED_FOR_S:
            try:
                document = self._fetch()
            except ProviderAway as error:
                self.fault, self._failed_at = str(error), self._clock_s()
                _log.warning("OpenID provider is away", extra={"why": str(error)})
            else:
                self._held, self.fault, self._failed_at = (document, now), "", -math.inf
                return document
        if held and now - held[1] < _KEPT_S:
            return held[0]
        raise ProviderAway(self.fault)

"""Judges the tokens of an OpenID provider: who signed in, who signed out, which service asks.

Each kind is judged as its own standard says, and none passes for another: an ID token is made out to this client
(OpenID Connect Core 1.0, 3.1.3.7), a logout token tells of an event (Back-Channel Logout 1.0, 2.6), an access token is
made out to the node's audience (RFC 9068 4). Signatures are checked by the provider's public keys, and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from dicom_node.config.openid import OidcSettings
from dicom_node.core.errors import SignInDenied
from dicom_node.people.openid.provider import Provider

#: With public keys only: `none` proves nothing, and HS256 by a public key anybody can write.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
#: Headers may say more than joserfc knows, as those of Entra do; what is marked critical must be known all the same.
_REGISTRY = JWSRegistry(algorithms=_ALGORITHMS, strict_check_header=False)
#: Clocks may differ by so much.
_SKEW_S = 30
#: Back-Channel Logout 1.0, 2.4 asks for logout tokens of two minutes at most.
_LOGOUT_S = 120
#: A token of a service cannot be taken back, so that none is taken that holds for longer.
_LONGEST_SERVICE_S = 7200
_LONGEST_TOKEN = 1 << 16
#: Core 1.0, 2.
_LONGEST_SUBJECT = 255
_SIGNED_OUT = "http://schemas.openid.net/event/backchannel-logout"
_MOST_NOTICES = 4096
_ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
#: What they may be called besides, by `oidc.access_token_type`.
_ALSO_ACCESS = {"any": frozenset({"jwt"}), "at+jwt": frozenset[str]()}
#: What an ID token says (Core 1.0, 2, 3.3.2.11) or a logout token (Back-Channel Logout 1.0, 2.4), and no access token.
_NOT_OF_ACCESS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})


@dataclass(frozen=True, slots=True)
class SignOutNotice:
    """Who has signed out at the provider: one session, or all of a person (one of the two is "")."""

    issuer: str
    session_id: str
    subject: str


class Tokens:
    """Judges tokens for one client of one provider. All raises `SignInDenied`, and `ProviderAway` where keys lack."""

    def __init__(self, settings: OidcSettings, provider: Provider) -> None:
        self._settings = settings
        self._provider = provider
        self._notices = Once(_MOST_NOTICES, _LOGOUT_S + 2 * _SKEW_S)

    def id_token(self, token: object, access_token: str, nonce: str | None) -> Mapping[str, Any]:
        """Return the claims of who signed in. `nonce` is that of the request; `None` for a token of a refresh."""
        signed = self._signed(token)
        if _type_of(signed) != "jwt" or "events" in signed.claims:
            raise _wrong("it is no ID token")
        options = self._options(self._settings.client_id)
        params = {"client_id": self._settings.client_id, "nonce": nonce, "access_token": access_token}
        _judged(CodeIDToken(signed.claims, signed.header, options, params))
        if not 0 < len(signed.claims["sub"]) <= _LONGEST_SUBJECT:
            raise _wrong("it names nobody, or at too great length (sub)")
        return signed.claims

    def sign_out_notice(self, token: str) -> SignOutNotice:
        """Return who has signed out; each notice is believed once."""
        signed = self._signed(token)
        claims = signed.claims
        if _type_of(signed) not in {"jwt", "logout+jwt"} or "nonce" in claims or not _tells_of_sign_out(claims):
            raise _wrong("it is no logout token")
        options = {**self._options(self._settings.client_id), "iat": {"essential": True}, "jti": {"essential": True}}
        _judged(JWTAccessTokenClaims(claims, {}, options))
        session_id, subject = claims.get("sid", ""), claims.get("sub", "")
        if not isinstance(session_id, str) or not isinstance(subject, str) or not (session_id or subject):
            raise _wrong("it names neither a session nor a person (sid, sub)")
        if claims["iat"] < time.time() - _LOGOUT_S - _SKEW_S:
            raise _wrong("it is too old")
        if not self._notices.is_first(claims["jti"]):
            raise _wrong("it was shown before")
        return SignOutNotice(self._settings.issuer, session_id, subject)

    def service_token(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a service's access token, which is made out to the node's audience (RFC 9068 4)."""
        signed = self._signed(token)
        if not self._is_of_access(signed):
            raise _wrong("it is no access token")
        options = {**self._options(self._settings.audience), "iat": {"essential": True}}
        _judged(JWTAccessTokenClaims(signed.claims, {}, options))
        if signed.claims["exp"] - signed.claims["iat"] > _LONGEST_SERVICE_S:
            raise _wrong(f"it holds for more than {_LONGEST_SERVICE_S // 3600} hours, and could not be taken back")
        return signed.claims

    def _is_of_access(self, signed: jwt.Token) -> bool:
        """Tell whether a token is an access token by its header (RFC 9068 2.1). Keycloak and Entra call every token JWT
        there: of those it must not be made out to this client, as ID tokens are (Core 1.0, 2), and Keycloak says in
        its claims what it is."""
        claims = signed.claims
        if _NOT_OF_ACCESS & claims.keys() or str(claims.get("typ", "Bearer")).lower() != "bearer":
            return False
        if _type_of(signed) in _ACCESS_TYPES:
            return True
        audience = claims.get("aud")
        is_for_us = self._settings.client_id in (audience if isinstance(audience, list) else [audience])
        return _type_of(signed) in _ALSO_ACCESS[self._settings.access_token_type] and not is_for_us

    def _options(self, audience: str) -> dict[str, Any]:
        return {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": audience},
            "exp": {"essential": True},
        }

    def _signed(self, token: object) -> jwt.Token:
        """Return what is in a token that the provider signed."""
        if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
            raise _wrong("it is none, or too long")
        try:
            return jwt.decode(token, lambda one: self._provider.keys(one.headers().get("kid")), registry=_REGISTRY)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise _wrong(f"its signature does not hold ({type(error).__name__})") from None


def _judged(claims: CodeIDToken | JWTAccessTokenClaims) -> None:
    try:
        claims.validate(leeway=_SKEW_S)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _wrong(f"{type(error).__name__} ({getattr(error, 'description', '') or 'its claims'})") from None


def _type_of(signed: jwt.Token) -> str:
    """Return `typ` of the header (RFC 7515 4.1.9), in small letters; a token without one is a JWT."""
    return str(signed.header.get("typ") or "jwt").lower()


def _tells_of_sign_out(claims: Mapping[str, Any]) -> bool:
    events = claims.get("events")
    return isinstance(events, Mapping) and isinstance(events.get(_SIGNED_OUT), Mapping)


def _wrong(why: str) -> SignInDenied:
    return SignInDenied(f"The provider's token is not believed: {why}. Sign in again.")


class Once:
    """Tells what is seen for the first time, of the latest `most` things within `for_s`."""

    def __init__(self, most: int, for_s: float) -> None:
        self._most, self._for_s = most, for_s
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def is_first(self, one: str) -> bool:
        """Tell whether it was not seen before, and remember it."""
        now = time.monotonic()
        with self._lock:
            while self._seen and (len(self._seen) > self._most or next(iter(self._seen.values())) < now - self._for_s):
                self._seen.popitem(last=False)
            if one in self._seen:
                return False
            self._seen[one] = now
            return True

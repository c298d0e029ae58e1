"""Signs people in by OpenID Connect (Core 1.0): they prove to the provider who they are, and it vouches for them here.

Authorization code with PKCE (RFC 7636). What a sign-in that has begun needs to remember lies sealed in a cookie of the
browser that began it, so that no other can end it and nothing piles up here. What a session needs lies sealed with it:
the refresh token, with which the provider is asked again and again whether it still vouches for them.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from dicom_node.config.openid import OidcSettings
from dicom_node.core.errors import AnotherSignIn, GrantEnded, ProviderAway, SignInDenied
from dicom_node.core.principal import Principal, key_at_provider
from dicom_node.people.openid.provider import Provider
from dicom_node.people.openid.roles import has_roles, name_in, roles_in
from dicom_node.people.openid.tokens import Once, SignOutNotice, Tokens
from dicom_node.people.sealing import Seal

CALLBACK = "/login/oidc/callback"
#: Whoever takes longer at the provider begins again.
BEGUN_FOR_S = 600
#: A session of which the provider cannot be asked, since it gave no refresh token, lasts as long as the ID token says,
#: and no longer than this.
_UNASKED_S = 3600
_LONGEST_SESSION_ID = 255
_MOST_BEGUN = 4096
_ANEW = "Begin again."


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send a browser, and what it must bring back."""

    url: str
    cookie: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the node was granted with a sign-in; times are seconds since 1970. Kept sealed, with the session."""

    subject: str
    session_id: str
    refresh_token: str = field(repr=False)
    id_token: str = field(repr=False)
    confirmed_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Vouched:
    """Somebody for whom the provider vouches."""

    principal: Principal
    grant: Grant


class OpenIdSignIn:
    """Sign-in at one provider; safe to share between threads. Everything may raise `SignInDenied` or `ProviderAway`."""

    def __init__(self, settings: OidcSettings, key: bytes) -> None:
        """`key` seals what is kept in cookies and with sessions."""
        self.settings = settings
        self._provider = Provider(settings)
        self._tokens = Tokens(settings, self._provider)
        self._begun = Seal(key, "sign-in that has begun")
        self._grants = Seal(key, "grant of a session")
        self._ended = Once(_MOST_BEGUN, BEGUN_FOR_S)

    @property
    def host(self) -> str:
        """The provider's host, for people."""
        return self._provider.host

    def fault(self) -> str:
        """Return for people why nobody can sign in there now; "" where they can."""
        return self._provider.fault()

    def begin(self, view: str = "") -> Begun:
        """Begin a sign-in; `view` is what the page shows afterwards."""
        one, where = self.settings, self._provider.metadata()
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        url = prepare_grant_uri(
            where.authorization_endpoint,
            one.client_id,
            "code",
            one.public_url + CALLBACK,
            one.scopes,
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **one.parameters,
        )
        return Begun(url, self._begun.sealed({"state": state, "nonce": nonce, "verifier": verifier, "view": view}))

    def finish(self, cookie: str, answer: Mapping[str, str]) -> tuple[Vouched, str]:
        """Return for whom the provider vouches, and what to show them. `answer` is the query that it sent back."""
        begun = self._begun.opened(cookie, BEGUN_FOR_S)
        if begun is None:
            raise SignInDenied(f"This sign-in was not begun in this browser, or too long ago. {_ANEW}")
        state = str(begun["state"])
        if not hmac.compare_digest(state.encode(), answer.get("state", "").encode()):
            raise AnotherSignIn(f"This is the answer to another sign-in (state). {_ANEW}")
        self._require_own_answer(answer)
        if not self._ended.is_first(state):
            raise SignInDenied(f"This sign-in has ended before. {_ANEW}")
        given = self._provider.token(
            "authorization_code",
            code=answer["code"],
            redirect_uri=self.settings.public_url + CALLBACK,
            code_verifier=str(begun["verifier"]),
        )
        claims = self._tokens.id_token(given.get("id_token"), given["access_token"], str(begun["nonce"]))
        return self._vouched(claims, given), str(begun["view"])

    def confirmed(self, grant: Grant) -> Vouched | None:
        """Ask whether the provider still vouches for somebody, and as what they act by now.

        `None` where nothing new is heard: it is away, or cannot be asked. Raises `SignInDenied`: the session must end.
        """
        now = time.time()
        if not grant.refresh_token:
            if now >= grant.ends_at:
                raise GrantEnded("The provider's word for this sign-in has run out. Sign in again.")
            return None
        try:
            return self._refreshed(grant)
        except ProviderAway:
            if now - grant.confirmed_at > self.settings.keep_s:
                raise GrantEnded("The provider has been away too long to vouch for this session.") from None
            return None

    def service(self, token: str) -> tuple[Principal, datetime]:
        """Return which service shows this access token, and when that ends."""
        if not self.settings.audience:
            raise SignInDenied("Tokens of services are not taken here (oidc.audience is not set). Use an API key.")
        claims = self._tokens.service_token(token)
        name = name_in(claims, ("client_id", "azp", "appid", "sub"), self.settings.issuer)
        key = key_at_provider(self.settings.issuer, str(claims.get("sub") or name))
        return Principal(name, roles_in(claims, self.settings), key), datetime.fromtimestamp(claims["exp"], UTC)

    def sign_out_notice(self, token: str) -> SignOutNotice:
        """Return who has signed out there (Back-Channel Logout 1.0)."""
        return self._tokens.sign_out_notice(token)

    def give_back(self, grant: Grant) -> str:
        """End a grant of somebody who signs out here, and return where they can sign out there; "" where they cannot.

        OpenID Connect RP-Initiated Logout 1.0, 2.
        """
        with suppress(ProviderAway, SignInDenied):
            if grant.refresh_token:
                self._provider.revoke(grant.refresh_token)
            if url := self._provider.metadata().end_session_endpoint:
                back = {
                    "client_id": self.settings.client_id,
                    "post_logout_redirect_uri": f"{self.settings.public_url}/",
                }
                return str(add_params_to_uri(url, list({"id_token_hint": grant.id_token, **back}.items())))
        return ""

    def sealed(self, grant: Grant) -> str:
        """Return a grant as it may be kept."""
        return self._grants.sealed(asdict(grant))

    def opened(self, text: str) -> Grant:
        """Return a grant that was kept. Raises `GrantEnded` where it cannot be read any more."""
        kept: Mapping[str, Any] | None = self._grants.opened(text)
        if kept is None:
            raise GrantEnded("The key that sealed this session is gone. Sign in again.")
        return Grant(**kept)

    def _require_own_answer(self, answer: Mapping[str, str]) -> None:
        """Raise `SignInDenied` unless the configured provider answers (RFC 9207 2.4), and with a code."""
        is_named = "iss" in answer or self._provider.metadata().names_itself
        if is_named and answer.get("iss") != self.settings.issuer:
            raise SignInDenied(f"Another provider answers (iss), or none that names itself. {_ANEW}")
        if "error" in answer or not answer.get("code"):
            denied = answer.get("error") in {"access_denied", "consent_required", "interaction_required"}
            why = "It was cancelled there, or this account may not use the node." if denied else "It answers an error."
            raise SignInDenied(f"The provider did not sign you in. {why} {_ANEW}")

    def _refreshed(self, grant: Grant) -> Vouched:
        given = self._provider.token("refresh_token", refresh_token=grant.refresh_token)
        claims: Mapping[str, Any] = {"sub": grant.subject, "sid": grant.session_id}
        if given.get("id_token"):
            # OpenID Connect Core 12.2: about the same person, and without the nonce.
            claims = self._tokens.id_token(given["id_token"], given["access_token"], None)
            if claims["sub"] != grant.subject:
                raise GrantEnded("The provider vouches for somebody else by now. Sign in again.")
        vouched = self._vouched(claims, given)
        # What is not given anew holds on.
        new = {key: value for key, value in asdict(vouched.grant).items() if value}
        return replace(vouched, grant=replace(grant, **new))

    def _vouched(self, claims: Mapping[str, Any], given: Mapping[str, Any]) -> Vouched:
        told = self._with_userinfo(claims, str(given["access_token"]))
        names = (self.settings.name_claim, "preferred_username", "email", "name", "sub")
        name, subject = name_in(told, names, self.settings.issuer), str(claims["sub"])
        principal = Principal(name, roles_in(told, self.settings), key_at_provider(self.settings.issuer, subject))
        now = time.time()
        grant = Grant(
            subject=subject,
            session_id=str(claims.get("sid") or "")[:_LONGEST_SESSION_ID],
            refresh_token=str(given.get("refresh_token") or ""),
            id_token=str(given.get("id_token") or ""),
            confirmed_at=now,
            ends_at=min(float(claims.get("exp", now)), now + _UNASKED_S),
        )
        return Vouched(principal, grant)

    def _with_userinfo(self, claims: Mapping[str, Any], access_token: str) -> Mapping[str, Any]:
        """Return the claims with those that the provider tells only when it is asked (OpenID Connect Core 5.3)."""
        is_told = has_roles(claims, self.settings) and self.settings.name_claim in claims
        if is_told or not self._provider.metadata().userinfo_endpoint:
            return claims
        info = self._provider.userinfo(access_token)
        if info.get("sub") != claims["sub"]:  # 5.3.2: else it may speak of somebody else
            raise SignInDenied(f"The provider speaks of somebody else when it is asked who this is. {_ANEW}")
        return {**info, **claims}

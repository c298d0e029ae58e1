"""Who may use the API: whoever shows a key, as a bearer token or password, or has a session."""

from __future__ import annotations

import base64
import hmac
import logging
import math
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from dicom_node.api.answers.problem_kinds import OTHER_SITE
from dicom_node.api.answers.problems import ProblemError
from dicom_node.api.front.rates import Rates
from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import IndexUnavailable, NodeError, ProviderAway, SettingsError, SignInDenied
from dicom_node.core.principal import Permission, Principal, UserRole
from dicom_node.index.people.sessions import Session
from dicom_node.people.accounts import TriedFrom
from dicom_node.people.directory import People
from dicom_node.people.limits import FailureLimit
from dicom_node.people.openid.sessions import ProviderSessions
from dicom_node.people.sessions import digest_of
from dicom_node.storage.durable import write_new_file

COOKIE = "dicom_node_session"
#: Tells a browser in which somebody has signed in before from one that is new; it opens nothing.
BROWSER_COOKIE = "dicom_node_browser"
BROWSER_REMEMBERED_S = 90 * 86400
#: Header of what a page asks by itself, while nobody may sit before it: that keeps no session open.
UNATTENDED = "X-Unattended"
#: Whoever shows the API token.
API_TOKEN = Principal("api-token", frozenset({UserRole.ADMIN}))
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_HOW_TO_SIGN_IN = (
    "Show a key as `Authorization: Bearer …`, or sign in on the page. The API token, a key of an administrator, is in "
    "the file `api-token` in the node's data folder."
)
_log = logging.getLogger(__name__)

# Only for the OpenAPI document: reading and judging are done below, in one place.
_bearer = HTTPBearer(auto_error=False, description="An API key, or the API token.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="A session opened by POST /login.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who asks, and by what they showed it: a session, a key, or a token that somebody else signed.

    `key_digest` is the sha256 of the key, or of the name of whose token it is.
    """

    principal: Principal
    session: Session | None = None
    key_digest: str = ""
    #: When what was shown ends by itself.
    until: datetime | None = None


class Access:
    """Says who is asking, by the key or the session that a request shows."""

    def __init__(
        self,
        token_digest: str,
        people: People,
        audit: Audit,
        provider: ProviderSessions | None = None,
        failures_per_minute: int = 10,
    ) -> None:
        """`provider` is whom people may sign in at instead, if one is configured."""
        self.people = people
        self.provider = provider
        self.sessions = people.sessions
        self._token_digest = token_digest
        self.audit = audit
        self._limit = FailureLimit(failures_per_minute)

    def of_token(self, token: str, address: str) -> SignedIn:
        """Return whose token or key this is: the one place that knows who there is.

        Compared before anything is counted: behind a reverse proxy everybody has one address, and whoever guesses there
        must not shut out those who know. Raises `ProblemError` 401 for a wrong one, or 429 when this address has
        guessed too often.
        """
        try:
            identity = self._known(token)
        except SignInDenied as error:
            raise self._refused(address, str(error)) from None
        if identity is None:
            raise self._refused(address, f"The token is wrong. {_HOW_TO_SIGN_IN}")
        return identity

    def _known(self, token: str) -> SignedIn | None:
        if hmac.compare_digest(digest_of(token), self._token_digest):
            return SignedIn(API_TOKEN, key_digest=self._token_digest)
        if self.provider is not None and token.count(".") == 2:  # a JWT; no key holds a dot
            principal, until = self.provider.service(token)
            return SignedIn(principal, key_digest=digest_of(principal.identity), until=until)
        key = self.people.keys.find(token)
        return None if key is None else SignedIn(key.principal, key_digest=key.secret_digest, until=key.expires_at)

    def _refused(self, address: str, why: str) -> ProblemError:
        wait_s = math.ceil(self._limit.wait_s(address))
        if wait_s > 0:
            return ProblemError(429, f"Too many wrong tokens. Try again in {wait_s} s.", {"Retry-After": str(wait_s)})
        self._limit.failed(address)
        _log.warning("wrong API token", extra={"address": address})
        self.note(AuditedAct.SIGN_IN, Principal("unknown"), address, AuditOutcome.MINOR_FAILURE)
        return ProblemError(401, why, {"WWW-Authenticate": "Bearer"})

    def identity_of(self, request: Request) -> SignedIn:
        """Return who is asking. Raises `ProblemError`: 401, 403 (another site's page is asking) or 429."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.of_token(token.strip(), address_of(request))
        if scheme.lower() == "basic":  # what many DICOMweb clients know only; the key is the password
            identity = self.of_token(_password_in(token), address_of(request))
            if request.method not in _SAFE_METHODS:
                require_same_site(request)  # browsers keep it and send it along by themselves
            return identity
        session = self.session_of(request)
        if session is None:
            if "cookie" in request.headers:  # else it was counted at the front; any cookie would be a way around that
                rates_of(request).count_unknown(address_of(request))
            raise ProblemError(401, _HOW_TO_SIGN_IN, {"WWW-Authenticate": "Bearer"})
        if request.method not in _SAFE_METHODS:
            require_same_site(request)
        return SignedIn(session.principal, session=session)

    def signed_in_by_password(self, name: str, password: str, tried: TriedFrom) -> str:
        """Open a session of whose name and password these are, and return its secret.

        Raises `ProblemError` 401 where they are wrong, without a word on what of it is, and `SignInDelayed`.
        """
        account = self.people.accounts.sign_in(name, password, tried)
        if account is not None:
            self.note(AuditedAct.SIGN_IN, account.principal, tried.address)
            secret = self.sessions.open_for(account, tried.browser_digest)
            if secret is not None:
                return secret
        # What is no account's name may be a password in the wrong field.
        known = self.people.accounts.known_name(name)
        self.note(AuditedAct.SIGN_IN, Principal(known or "unknown"), tried.address, AuditOutcome.MINOR_FAILURE)
        raise ProblemError(401, "Name or password is wrong.", {"WWW-Authenticate": "Bearer"})

    def note(
        self, act: AuditedAct, actor: Principal, address: str, outcome: AuditOutcome = AuditOutcome.SUCCESS
    ) -> None:
        """Write an act down. Raises `AuditUnavailable`."""
        self.audit.record(AuditedEvent(act=act, actor=actor, address=address, outcome=outcome))

    def still_admits(self, request: Request) -> bool:
        """Tell, in the middle of a long answer, whether who asked for it is still let in."""
        try:
            return self._again(request)
        except (IndexUnavailable, ProviderAway):
            return True  # it says nothing of anybody; the next look will
        except SignInDenied:
            return False

    def _again(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            return self.session_of(request, is_used=False) is not None
        secret = token.strip() if scheme.lower() == "bearer" else _password_in(token)
        return self._known(secret) is not None

    def session_of(self, request: Request, *, is_used: bool = True) -> Session | None:
        """Return the open session whose cookie a request shows; one of an API token that is no more is over."""
        by_itself = UNATTENDED in request.headers or "text/event-stream" in request.headers.get("accept", "")
        is_used = is_used and not by_itself
        session = self.sessions.find(request.cookies.get(cookie_name(request), ""), is_used=is_used)
        if session and session.principal == API_TOKEN and session.opened_by.key_digest != self._token_digest:
            return None
        if session is None or session.provider is None:
            return session
        return self._still_vouched_for(session, address_of(request))

    def _still_vouched_for(self, session: Session, address: str) -> Session | None:
        """Return a session as its provider has it by now; `None` where that has ended it."""
        if self.provider is None:
            self.sessions.end(session)
            return None
        try:
            return self.provider.vouched(session)
        except SignInDenied as error:
            _log.info("session ended by the provider", extra={"why": str(error)})
            self.audit.note(AuditedEvent(act=AuditedAct.SIGN_OUT, actor=session.principal, address=address))
            return None


def access_of(request: Request) -> Access:
    """Return the access control of the application."""
    return cast(Access, request.app.state.access)


def rates_of(request: Request) -> Rates:
    """Return how often one may ask the application."""
    return cast(Rates, request.app.state.rates)


def cookie_name(request: Request) -> str:
    """Return the name of the session cookie; over https one that no other host and no plain connection can set."""
    return _prefixed(request, COOKIE)


def browser_cookie_name(request: Request) -> str:
    """Return the name of the cookie by which a browser is known again."""
    return _prefixed(request, BROWSER_COOKIE)


def _prefixed(request: Request, name: str) -> str:
    return f"__Host-{name}" if request.url.scheme == "https" else name


def identified(
    request: Request,
    _bearer: Annotated[object, Security(_bearer)],
    _cookie: Annotated[object, Security(_cookie)],
) -> SignedIn:
    """Return who is asking and how they showed it, or raise `ProblemError`."""
    identity = access_of(request).identity_of(request)
    rates_of(request).count_person(identity.principal)
    return identity


def signed_in(identity: Annotated[SignedIn, Depends(identified)]) -> Principal:
    """Return who is asking, or raise `ProblemError`."""
    return identity.principal


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
        scheme, _, host = (origin or "").partition("://")
        # Without TLS here, a proxy that the node was not told about may have it.
        is_ours = request.url.scheme != "https" or scheme == "https"
        is_same = origin is None or (is_ours and host == request.headers.get("host"))
    if not is_same:
        raise ProblemError(
            403, "A page of another site may not do this. Use the node's own page, or the API token.", kind=OTHER_SITE
        )


def address_of(request: Request) -> str:
    """Return the client's address: the peer's, or the one that trusted proxies tell of (`api.front.proxies`)."""
    return request.client.host if request.client else "unknown"


def _password_in(credentials: str) -> str:
    """Return the password of basic authentication (RFC 7617), "" when there is none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


class Allowed:
    """A dependency of a route: lets pass who has this permission. Which routes ask for which is read from these."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(self, request: Request, principal: Annotated[Principal, Depends(signed_in)]) -> Principal:
        """Return who is asking. Raises `ProblemError` 401 (nobody), or 403 (somebody who may not)."""
        if not principal.may(self.permission):
            self._note_refused(request, principal)
            raise ProblemError(
                403, f"{principal.name} may not {self.permission} here. Ask an administrator of the node."
            )
        return principal

    def _note_refused(self, request: Request, principal: Principal) -> None:
        audit: Audit = request.app.state.parts.audit
        audit.note(
            AuditedEvent(
                act=AuditedAct.ACCESS_REFUSED, actor=principal, address=address_of(request),
                outcome=AuditOutcome.MINOR_FAILURE,
                detail={"route": getattr(request.scope.get("route"), "path", ""), "permission": self.permission},
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts in a request, from where, and where that is written down."""

    principal: Principal
    address: str
    audit: Audit

    @contextmanager
    def acting(self, act: AuditedAct, **detail: object) -> Iterator[None]:
        """Write an act down before it is done, and once more if it fails. Raises `AuditUnavailable`: it is not done."""
        self._record(act, AuditOutcome.SUCCESS, detail)
        try:
            yield
        except (NodeError, ProblemError) as error:
            self._record(act, AuditOutcome.MINOR_FAILURE, {**detail, "why": type(error).__name__})
            raise

    def _record(self, act: AuditedAct, outcome: AuditOutcome, detail: Mapping[str, object]) -> None:
        self.audit.record(
            AuditedEvent(act=act, actor=self.principal, address=self.address, outcome=outcome, detail=detail)
        )


def actor_of(request: Request, principal: Annotated[Principal, Depends(signed_in)]) -> Actor:
    """Return who acts in this request."""
    return Actor(principal, address_of(request), access_of(request).audit)


#: Let nobody else pass.
Reads = Depends(Allowed(Permission.READ))
Reviews = Depends(Allowed(Permission.REVIEW))
Operates = Depends(Allowed(Permission.OPERATE))
Administers = Depends(Allowed(Permission.ADMINISTER))
#: Who it is, for what is done in somebody's name.
CurrentPrincipal = Annotated[Principal, Depends(signed_in)]
CurrentIdentity = Annotated[SignedIn, Depends(identified)]
CurrentActor = Annotated[Actor, Depends(actor_of)]
CurrentAccess = Annotated[Access, Depends(access_of)]


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


def _create(path: Path) -> str | None:
    """Write a new token under `path`, whole or not at all; `None` when another process was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    return token if write_new_file(path, f"{token}\n".encode()) else None

"""Sign-in at an OpenID provider: where browsers are sent, what they bring back, and what the provider tells."""

from __future__ import annotations

import html
import logging
import re
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi import Query as UrlQuery
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from dicom_node.api.access import CurrentAccess, address_of
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.parts import Parts
from dicom_node.api.routes.people.session import set_session_cookie
from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import AnotherSignIn, ProviderAway, SignInDenied
from dicom_node.core.principal import Principal
from dicom_node.people.openid.sessions import ProviderSessions
from dicom_node.people.openid.sign_in import BEGUN_FOR_S, CALLBACK

router = APIRouter(tags=["page"])
_log = logging.getLogger(__name__)
#: What the page may show after a sign-in: nothing but a view of itself.
_VIEW = re.compile(r"(study|deliveries|state)/[A-Za-z0-9._]{1,64}|people|account")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign-in</title><link rel="stylesheet" href="/page/style.css"></head>
<body><main class="login card"><h1>You are not signed in</h1><p role="alert">{why}</p>
<p><a href="/">Back to the sign-in</a></p></main></body></html>
"""


@dataclass(frozen=True, slots=True)
class WaysToSignIn:
    """How people sign in here besides by password. `openid` is the text of the button, "" for none; `openid_fault` says
    why it does not work now."""

    openid: str = ""
    openid_fault: str = ""


def _provider(access: CurrentAccess) -> ProviderSessions:
    if access.provider is None:
        raise ProblemError(404, "No OpenID provider is configured here (oidc.issuer).")
    return access.provider


Provider = Annotated[ProviderSessions, Depends(_provider)]
_NO_SIGN_IN: dict[int | str, dict[str, Any]] = {
    **described(404),
    403: {"description": "A page that says why nobody was signed in.", "content": {"text/html": {}}},
    503: {"description": "A page that says that the provider is away.", "content": {"text/html": {}}},
}


@router.get("/login/ways", summary="How people sign in here")
def ways(access: CurrentAccess) -> WaysToSignIn:
    """For the sign-in page, which nobody has signed in to yet."""
    if access.provider is None:
        return WaysToSignIn()
    return WaysToSignIn(access.provider.settings.label, access.provider.sign_in.fault())


@router.get(
    "/login/oidc",
    status_code=303,
    summary="Go to the OpenID provider",
    response_class=RedirectResponse,
    responses=_NO_SIGN_IN,
)
def begin(provider: Provider, view: Annotated[str, UrlQuery(max_length=80)] = "") -> Response:
    """Send a browser to the provider. It brings back a sealed cookie that holds for ten minutes and for one answer."""
    try:
        begun = provider.sign_in.begin(view if _VIEW.fullmatch(view) else "")
    except ProviderAway as error:
        return _page(503, f"{error} Try again in a minute, or sign in with a local account.")
    response = RedirectResponse(begun.url, status_code=303)
    # Lax: the provider's page sends the browser back.
    response.set_cookie(
        _cookie(provider), begun.cookie, max_age=BEGUN_FOR_S, httponly=True, samesite="lax", secure=_is_https(provider)
    )
    return response


@router.get(
    CALLBACK,
    status_code=303,
    summary="Come back from the OpenID provider",
    response_class=RedirectResponse,
    responses=_NO_SIGN_IN,
)
def finish(request: Request, provider: Provider, access: CurrentAccess, parts: Parts) -> Response:
    """Open a session of whom the provider vouches for, and show the page."""
    cookie, address = request.cookies.get(_cookie(provider), ""), address_of(request)
    try:
        vouched, view = provider.sign_in.finish(cookie, dict(request.query_params))
    except (ProviderAway, SignInDenied) as error:
        _log.warning("sign-in failed", extra={"address": address, "why": str(error)})
        failed = AuditOutcome.MINOR_FAILURE
        detail = {"by": "openid", "why": str(error)}
        parts.audit.record(
            AuditedEvent(
                act=AuditedAct.SIGN_IN, actor=Principal("unknown"), address=address, outcome=failed, detail=detail
            )
        )
        response = _page(403 if isinstance(error, SignInDenied) else 503, str(error))
        if isinstance(error, AnotherSignIn):  # the one that was begun last goes on in its own tab
            return response
    else:
        # A name may be another's tomorrow; issuer and subject are one person's for ever (OpenID Connect Core 5.7).
        by = {"by": "openid", "issuer": provider.settings.issuer, "subject": vouched.grant.subject}
        parts.audit.record(AuditedEvent(act=AuditedAct.SIGN_IN, actor=vouched.principal, address=address, detail=by))
        response = RedirectResponse(f"/#/{view}", status_code=303)
        set_session_cookie(request, response, access, provider.open(vouched))
    response.delete_cookie(_cookie(provider), httponly=True, samesite="lax", secure=_is_https(provider))
    return response


async def _form(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await request.body()).decode("ascii"), max_num_fields=8))
    except ValueError:
        return {}


@router.post(
    "/logout/oidc/backchannel",
    summary="Hear who has signed out at the provider",
    responses={**described(404, 503), 400: {"description": "The logout token does not hold."}},
)
def signed_out_there(
    request: Request, provider: Provider, parts: Parts, form: Annotated[dict[str, str], Depends(_form)]
) -> Response:
    """End the sessions that a logout token speaks of (OpenID Connect Back-Channel Logout 1.0, 2.5 to 2.8)."""
    try:
        ended = provider.end_as_told(form.get("logout_token", ""))
    except SignInDenied as error:
        _log.warning("logout token refused", extra={"address": address_of(request), "why": str(error)})
        return JSONResponse({"error": "invalid_request", "error_description": str(error)}, 400)
    _note_signed_out(request, provider, parts, ended)
    return Response(status_code=200)


@router.get("/logout/oidc/frontchannel", summary="Hear which session at the provider is over", responses=described(404))
def signed_out_there_in_browser(
    request: Request,
    provider: Provider,
    parts: Parts,
    iss: Annotated[str, UrlQuery(max_length=255)] = "",
    sid: Annotated[str, UrlQuery(max_length=255)] = "",
) -> Response:
    """End what was opened by a session there (OpenID Connect Front-Channel Logout 1.0, 3): its page asks for this."""
    if sid and iss == provider.settings.issuer and (ended := provider.end_session_there(sid)):
        _note_signed_out(request, provider, parts, ended)
    return HTMLResponse("")


def _note_signed_out(request: Request, provider: ProviderSessions, parts: Parts, ended: int) -> None:
    actor, detail = Principal(provider.sign_in.host), {"by": "openid", "sessions": ended}
    parts.audit.note(AuditedEvent(act=AuditedAct.SIGN_OUT, actor=actor, address=address_of(request), detail=detail))


def _cookie(provider: ProviderSessions) -> str:
    return "__Host-dicom_node_login" if _is_https(provider) else "dicom_node_login"


def _is_https(provider: ProviderSessions) -> bool:
    return provider.settings.public_url.startswith("https:")


def _page(status: int, why: str) -> Response:
    """Return what is told to somebody in a browser who does not come in."""
    return HTMLResponse(_PAGE.format(why=html.escape(why)), status)

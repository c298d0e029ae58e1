"""The page and its sign-in: name and password, or a key, are exchanged for a session that scripts cannot read."""

from __future__ import annotations

import secrets
from typing import Annotated, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints, model_validator
from starlette.responses import HTMLResponse, JSONResponse, Response

from dicom_node.api.access import (
    BROWSER_REMEMBERED_S,
    Access,
    CurrentAccess,
    address_of,
    browser_cookie_name,
    cookie_name,
    require_same_site,
)
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.page_files import document, language_of
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.core.audit import AuditedAct
from dicom_node.index.people.sessions import OpenedBy
from dicom_node.people.accounts import TriedFrom
from dicom_node.people.passwords import MAX_LENGTH
from dicom_node.people.sessions import digest_of

router = APIRouter(tags=["page"])


class Login(BaseModel):
    """What the sign-in form sends: `name` and `password`, or `token`, which is a key or the API token."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["name", "password"]}, {"required": ["token"]}]},
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] = ""
    password: Annotated[SecretStr, StringConstraints(min_length=1, max_length=MAX_LENGTH)] = SecretStr("")
    token: Annotated[SecretStr, StringConstraints(min_length=1, max_length=256)] = SecretStr("")

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        given = self.model_fields_set
        if ("token" in given) == ({"name", "password"} <= given):
            raise ValueError("give name and password, or token")
        return self


@router.get("/", include_in_schema=False)
def page(request: Request, parts: Parts) -> HTMLResponse:
    """The status page, with links to the modules that it needs at once."""
    return _document("index.html", request, parts)


@router.get(f"{V1}/docs", include_in_schema=False)
def api_page(request: Request, parts: Parts) -> HTMLResponse:
    """The description of the API for people; it asks no other host for anything."""
    return _document("docs.html", request, parts)


def _document(name: str, request: Request, parts: ApiParts) -> HTMLResponse:
    written = document(name, language_of(request, parts.settings.api.language))
    return HTMLResponse(written, headers={"Cache-Control": "no-cache", "Vary": "Cookie"})


@router.post("/login", status_code=204, summary="Open a session", responses=described(401, 403, 422, 429, 503))
def login(request: Request, access: CurrentAccess, given: Login) -> Response:
    """Exchange name and password, or a key, for a session cookie (HttpOnly, SameSite=Strict).

    The session ends after `people.idle_minutes` without use and after `people.session_hours`.
    """
    require_same_site(request)
    shown = request.cookies.get(browser_cookie_name(request), "")
    browser = shown if len(shown) == 43 else secrets.token_urlsafe(32)
    session = _opened(access, given, TriedFrom(address_of(request), digest_of(browser)))
    access.sessions.close(request.cookies.get(cookie_name(request), ""))
    response = Response(status_code=204)
    set_session_cookie(request, response, access, session)
    _set_cookie(request, response, browser_cookie_name(request), browser, BROWSER_REMEMBERED_S)
    return response


def _opened(access: Access, given: Login, tried: TriedFrom) -> str:
    """Open a session, and return its secret. Raises `ProblemError` or `SignInDelayed`."""
    if given.name:
        return access.signed_in_by_password(given.name, given.password.get_secret_value(), tried)
    identity = access.of_token(given.token.get_secret_value(), tried.address)
    access.note(AuditedAct.SIGN_IN, identity.principal, tried.address)
    opened_by = OpenedBy(key_digest=identity.key_digest, browser_digest=tried.browser_digest)
    return access.sessions.open(identity.principal, None, opened_by, identity.until)


def set_session_cookie(request: Request, response: Response, access: Access, secret: str) -> None:
    """Give the secret of a session to the browser, where scripts do not see it and other sites cannot use it."""
    longest_s = int(access.sessions.limits.longest.total_seconds())
    _set_cookie(request, response, cookie_name(request), secret, longest_s)


def _set_cookie(request: Request, response: Response, name: str, value: str, max_age_s: int) -> None:
    is_https = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=max_age_s, httponly=True, samesite="strict", secure=is_https)


@router.post("/logout", status_code=204, summary="Close the session", responses=described(403, 503))
def logout(request: Request, access: CurrentAccess) -> Response:
    """End the session of this cookie; without one nothing happens.

    Whoever signed in at an OpenID provider is told where to sign out there, too: `{"sign_out_at": ADDRESS}`.
    """
    require_same_site(request)
    sign_out_at = ""
    session = access.session_of(request)
    if session is not None:
        sign_out_at = access.provider.close(session) if access.provider and session.provider else ""
        access.sessions.end(session)
        access.note(AuditedAct.SIGN_OUT, session.principal, address_of(request))
    response = JSONResponse({"sign_out_at": sign_out_at}) if sign_out_at else Response(status_code=204)
    is_https = request.url.scheme == "https"
    response.delete_cookie(cookie_name(request), httponly=True, samesite="strict", secure=is_https)
    return response

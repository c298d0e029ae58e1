"""The status page and its log-in: the token is exchanged for a session that scripts cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, SecretStr, StringConstraints
from starlette.responses import FileResponse, Response

from dicom_node.api.access import COOKIE, SESSION_S, CurrentAccess, address_of, require_same_site
from dicom_node.api.problems import described

PAGE = Path(__file__).resolve().parents[1] / "page"
router = APIRouter(tags=["page"])


class Login(BaseModel):
    """What the log-in form sends."""

    token: Annotated[SecretStr, StringConstraints(max_length=256)]


@router.get("/", include_in_schema=False)
def page() -> FileResponse:
    """The status page."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


@router.post("/login", status_code=204, summary="Open a session", responses=described(401, 403, 422, 429))
def login(request: Request, access: CurrentAccess, given: Login) -> Response:
    """Exchange the API token for a session cookie (HttpOnly, SameSite=Strict, 12 hours)."""
    require_same_site(request)
    principal = access.principal_of_token(given.token.get_secret_value(), address_of(request))
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        access.sessions.open(principal),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/logout", status_code=204, summary="Close the session", responses=described(403))
def logout(request: Request, access: CurrentAccess) -> Response:
    """End the session of this cookie; without one nothing happens."""
    require_same_site(request)
    access.sessions.close(request.cookies.get(COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response

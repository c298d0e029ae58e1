"""Where the API is: under `/api/v1`. The same without the version is for scripts from before there was one."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request
from starlette.routing import Match
from starlette.types import Scope

#: Prefix of every resource of the API.
V1 = "/api/v1"
_BEFORE_VERSIONS = "/api/"
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def lead_to_v1(scope: Scope) -> None:
    """Let a request for an address without version be one for the same under `V1`; nothing is answered twice."""
    path: str = scope["path"]
    if path.startswith(_BEFORE_VERSIONS) and not path.startswith(f"{V1}/"):
        scope["path"] = f"{V1}/{path.removeprefix(_BEFORE_VERSIONS)}"
        scope["raw_path"] = quote(scope["path"]).encode()


def methods_at(request: Request) -> list[str]:
    """Return the methods that the address of a request takes (RFC 9110 10.2.1), in alphabetical order."""

    def is_taken(method: str) -> bool:
        # of what is asked by GET the head may be asked alone (`front.guard`)
        asked = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if is_taken(method)]

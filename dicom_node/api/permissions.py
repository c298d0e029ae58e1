"""What every route asks for, as its dependencies say; and which ask for nothing, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from dicom_node.api.access import Allowed
from dicom_node.core.principal import PERMISSIONS, Permission, UserRole

#: The only addresses for whoever asks. A new one needs its reason here, or a permission.
PUBLIC: Mapping[str, str] = {
    "GET /healthz": "a supervisor asks whether the process lives; nothing of patients",
    "GET /readyz": "a load balancer asks whether studies are taken; nothing of patients",
    "GET /": "the page, before anybody has signed in on it",
    "GET /page": "scripts and style of the page",
    "GET /viewer": "files of the viewer, before anybody has signed in; its images come from /dicom-web, which asks",
    "POST /login": "here one signs in",
    "POST /logout": "whoever has no session has none to end",
    "GET /login/ways": "what the sign-in page offers, before anybody has signed in on it",
    "GET /login/oidc": "here one begins to sign in at the OpenID provider",
    "GET /login/oidc/callback": "here one comes back from it, with what it says",
    "POST /logout/oidc/backchannel": "the provider tells who has signed out, and signs what it tells",
    "GET /logout/oidc/frontchannel": "the provider's page tells which of its sessions is over",
    "GET /api/v1/openapi.json": "the description of this interface, the same on every node of a version",
    "GET /api/v1/docs": "the same for people",
    "GET /api/v1/problems/{name}": "what one kind of problem means",
    "GET /.well-known/jwks.json": "public keys, for servers that the node signs in to",
}


@dataclass(frozen=True, slots=True)
class RouteAccess:
    """One method at one address, and the permissions that it asks for."""

    method: str
    path: str
    permissions: frozenset[Permission]

    @property
    def call(self) -> str:
        """Method and address, as a reader writes them."""
        return f"{self.method} {self.path}"

    @property
    def why_public(self) -> str:
        """Why everybody may, "" where not everybody may."""
        return PUBLIC.get(self.call, "")

    def admits(self, role: UserRole) -> bool:
        """Tell whether somebody of this one role is let in."""
        return self.permissions <= PERMISSIONS[role]


def routes_of(app: FastAPI) -> Sequence[RouteAccess]:
    """Return every route of an application, by address."""
    found = {route.call: route for one in iter_route_contexts(app.routes) for route in _accesses(one)}
    return sorted(found.values(), key=lambda route: (route.path, route.method))


def _accesses(route: Any) -> Iterator[RouteAccess]:
    asked = frozenset(_asked(route.dependant)) if getattr(route, "dependant", None) else frozenset()
    for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD"}):
        yield RouteAccess(method, route.path, asked)


def _asked(dependant: Dependant) -> Iterator[Permission]:
    if isinstance(dependant.call, Allowed):
        yield dependant.call.permission
    for below in dependant.dependencies:
        yield from _asked(below)

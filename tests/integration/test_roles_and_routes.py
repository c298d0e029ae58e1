"""Every route with every role: who may gets in, who may not is refused, and nobody is nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter

from dicom_node.api.permissions import PUBLIC, RouteAccess, routes_of
from dicom_node.core.principal import UserRole
from dicom_node.index.database import Database
from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.results.seeded import CHEST_XR

#: What stands for the parameters of addresses; what is not here is a name that nobody has.
VALUES = {"uid": CHEST_XR, "id": "1", "job_key": "a" * 64}
REFUSED = {401, 403}


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[UserRole | None, Client]]:
    """A client of each role, and one of nobody, of one application."""
    folder = tmp_path_factory.mktemp("roles")
    database = seeded_database(folder)
    client = client_of(parts_over(database, folder))
    client.app.state.feed.close()  # a stream of events would not end
    yield {None: client.stranger(), **{role: client.with_role(role) for role in UserRole}}
    database.close()


@pytest.fixture(scope="module")
def routes(clients: dict[UserRole | None, Client]) -> list[RouteAccess]:
    return list(routes_of(clients[None].app))


def asked(client: Client, route: RouteAccess, method: str = "") -> int:
    path = re.sub(r"{(\w+)}", lambda found: VALUES.get(found[1], "no-such"), route.path)
    return client.request(method or route.method, path).status_code


def test_every_cell_of_the_table_is_as_it_says(
    clients: dict[UserRole | None, Client], routes: list[RouteAccess]
) -> None:
    guarded = [route for route in routes if not route.why_public]
    assert len(guarded) > 30
    wrong = []
    for route in guarded:
        answers = {role: asked(client, route) for role, client in clients.items()}
        if route.method == "GET" and answers != {role: asked(one, route, "HEAD") for role, one in clients.items()}:
            wrong.append((f"HEAD {route.path}", answers))
        wanted = {role: route.admits(role) for role in UserRole}
        got = {role: answers[role] not in REFUSED for role in UserRole}
        if got != wanted or answers[None] != 401 or any(answers[role] != 403 for role in UserRole if not wanted[role]):
            wrong.append((route.call, answers))
    assert wrong == []


def test_a_route_asks_for_a_permission_or_says_why_it_asks_for_none(routes: list[RouteAccess]) -> None:
    assert [route.call for route in routes if not route.permissions and not route.why_public] == [], (
        "give it a dependency such as Reads, or a reason in api/permissions.PUBLIC"
    )
    assert [route.call for route in routes if route.permissions and route.why_public] == []
    assert set(PUBLIC) <= {route.call for route in routes}


def test_a_forgotten_permission_is_found(tmp_path: Path) -> None:
    database = seeded_database(tmp_path)
    app = client_of(parts_over(database, tmp_path)).app
    router = APIRouter(prefix="/api")
    router.get("/forgotten")(lambda: {})
    app.include_router(router)
    assert RouteAccess("GET", "/api/forgotten", frozenset()) in routes_of(app)
    database.close()


def test_public_routes_are_for_everybody_and_tell_nothing_of_patients(
    clients: dict[UserRole | None, Client], routes: list[RouteAccess], tmp_path: Path
) -> None:
    nothing_in_it = client_of(parts_over(Database(f"sqlite:///{tmp_path / 'none.sqlite'}"), tmp_path))
    for route in routes:
        if route.why_public and route.method == "GET" and route.path not in {"/page", "/viewer"}:
            answer = clients[None].get(route.path.replace("{name}", "not-signed-in"))
            # No provider is configured here.
            assert answer.status_code == (404 if "/oidc" in route.path else 200), route.call
            if route.path.endswith("openapi.json"):  # its examples are of this very study, on every node
                assert answer.content == nothing_in_it.get(route.path).content
            else:
                assert CHEST_XR not in answer.text

"""What the API writes into the audit trail, what it refuses without one, and who may read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from inspect import getsource
from pathlib import Path
from pkgutil import walk_packages

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text

import dicom_node.api.routes as routes_of_api
from dicom_node.api.audited import Audited
from dicom_node.api.parts import ApiParts
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail
from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.results.rows import key_of
from tests.support.results.seeded import CHEST_CT, GAP_CT

#: Routes that show nothing of a patient and change nothing. To sign in and out is written down where it is judged.
UNAUDITED = {
    "GET /", "POST /login", "POST /logout", "GET /login/ways", "GET /login/oidc", "GET /login/oidc/callback",
    "POST /logout/oidc/backchannel", "GET /logout/oidc/frontchannel",
    "GET /healthz", "GET /readyz", "GET /.well-known/jwks.json", "GET /metrics",
    "GET /api/v1/status", "GET /api/v1/models", "GET /api/v1/models/{name}", "GET /api/v1/routes",
    "GET /api/v1/sources", "GET /api/v1/destinations", "GET /api/v1/configuration",
    "GET /api/v1/me", "GET /api/v1/users", "GET /api/v1/keys", "GET /api/v1/docs", "GET /api/v1/problems/{name}",
    "GET /api/v1/review-codes",
    "GET /api/v1/alarms/rules", "GET /api/v1/drift/stops",
}  # fmt: skip
#: It names the patient, too, so it writes itself down; tests/integration/test_api_history.py looks.
WRITES_ITSELF_DOWN = {"GET /api/v1/patients/{id:path}/history"}


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[ApiParts]:
    database = seeded_database(tmp_path)
    keys = AuditKeys(tmp_path / "audit" / "key")
    keys.make()
    trail = AuditTrail(database, keys, Anchor(tmp_path / "anchor"), AuditSpool(tmp_path / "audit" / "waiting"))
    yield replace(parts_over(database, tmp_path), audit=trail)
    trail.close()
    database.close()


@pytest.fixture
def client(parts: ApiParts) -> Client:
    return client_of(parts)


def told(client: Client, **asked: object) -> list[dict[str, object]]:
    """What the trail says, oldest first, without the look into it."""
    records: list[dict[str, object]] = client.get("/api/audit", params=asked).json()["records"]
    return [one for one in reversed(records) if one["act"] != "audit-read"]


def test_every_route_that_reads_or_acts_says_which_act_it_is() -> None:
    found = walk_packages(routes_of_api.__path__, f"{routes_of_api.__name__}.")
    modules = [import_module(one.name) for one in found if not one.ispkg]
    routes = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    named = {f"{min(one.methods)} {one.path}": one for one in routes}
    unaudited = {name for name, one in named.items() if not says_its_act(one)}
    assert unaudited == UNAUDITED | WRITES_ITSELF_DOWN
    assert len(named) - len(unaudited) > 20


def says_its_act(route: APIRoute) -> bool:
    """By its dependency, or where it is done, which knows more of it."""
    return any(isinstance(one.dependency, Audited) for one in route.dependencies) or "actor.acting(" in getsource(
        route.endpoint
    )


def test_a_look_at_a_result_says_who_from_where_and_about_which_study(client: Client) -> None:
    for _ in range(3):  # as the page asks again and again
        client.get(f"/api/studies/{CHEST_CT}/results")
    client.get(f"/api/results/{key_of('chest-ct')}")
    results, result = told(client)
    assert (results["act"], results["actor"], results["address"]) == ("result-read", "api-token", "127.0.0.1")
    assert [one["study_instance_uid"] for one in (results, result)] == [CHEST_CT, CHEST_CT]
    assert results["detail"] == {"route": "GET /api/v1/studies/{uid}/results", "roles": ["admin"]}


def test_an_act_is_told_before_it_is_done_and_again_when_it_was_refused(client: Client, parts: ApiParts) -> None:
    client.post(f"/api/studies/{CHEST_CT}/withdraw", json={"reason": "It is of another patient."})
    assert client.post("/api/studies/1.2.3/retry").status_code == 404
    parts.audit.flush()  # type: ignore[attr-defined]
    acts = [(one["act"], one["study_instance_uid"], one["outcome"]) for one in told(client)]
    assert acts == [("withdrawal", CHEST_CT, "0"), ("retry", "1.2.3", "0"), ("retry", "1.2.3", "4")]
    assert told(client, outcome="4")[0]["detail"]["failed"] == "NotFound"  # type: ignore[index]


def test_words_that_may_be_a_name_are_not_written_down(client: Client) -> None:
    client.get("/api/studies", params={"query": "Doe Jane"})
    client.get("/api/studies", params={"query": "1.2.826"})
    assert [one["detail"]["query"] for one in told(client)] == ["2 words", "1.2.826"]  # type: ignore[index]


def test_the_trail_is_paged_and_filtered_and_that_it_was_read_is_in_it(client: Client) -> None:
    for uid in (CHEST_CT, GAP_CT):
        client.get(f"/api/studies/{uid}")
        client.get(f"/api/studies/{uid}/timeline")
    first = client.get("/api/audit", params={"limit": 3}).json()
    second = client.get("/api/audit", params={"limit": 3, "before": first["older"]}).json()
    assert [one["number"] for one in (*first["records"], *second["records"])] == [5, 4, 3, 2, 1]
    assert second["older"] is None
    assert first["records"][0]["act"] == "audit-read"
    assert {one["study_instance_uid"] for one in told(client, study=GAP_CT)} == {GAP_CT}
    assert told(client, since="2099-01-01T00:00:00Z") == []
    assert client.stranger().get("/api/audit").status_code == 401
    for time in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        assert client.get("/api/audit", params={"since": time}).status_code == 422


def test_without_a_trail_people_are_refused_and_the_status_says_why(client: Client, parts: ApiParts) -> None:
    assert client.get(f"/api/studies/{CHEST_CT}").status_code == 200
    with parts.database.write() as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO gone"))
    refused = client.post(f"/api/studies/{CHEST_CT}/retry")
    assert refused.status_code == 503
    assert "audit trail" in refused.json()["detail"]
    assert client.get(f"/api/studies/{CHEST_CT}").status_code == 503, "though it was looked at a moment ago"
    assert "The database does not take it" in client.get("/api/status").json()["audit_fault"]
    with parts.database.write() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO audit_records"))
    assert client.post(f"/api/studies/{CHEST_CT}/retry").status_code == 200
    assert client.get("/api/status").json()["audit_fault"] == ""


def test_the_trail_tells_the_roles_that_somebody_was_given_and_not_those_of_who_gave_them(client: Client) -> None:
    client.post("/api/users", json={"name": "vera", "roles": ["viewer"]})
    client.request("PATCH", "/api/users/vera", json={"roles": ["reviewer", "operator"]})
    client.post("/api/keys", json={"name": "ris", "roles": ["operator"]})
    details = [one["detail"] for one in told(client) if one["act"] in {"account-changed", "key-changed"}]
    assert [one["given"] for one in details] == [["viewer"], ["operator", "reviewer"], ["operator"]]  # type: ignore[index]
    assert [one["roles"] for one in details] == [["admin"]] * 3, "of whoever gave them"  # type: ignore[index]

"""Routes that a person writes anew: checked as the file is, in force without a restart, kept with their versions."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.core.errors import ChangedMeanwhile, Conflict
from dicom_node.core.principal import UserRole
from dicom_node.index.database import Database
from dicom_node.inference.cards.folders import survey_models
from dicom_node.operate.routes_in_force import RouteChange, RoutesInForce
from dicom_node.roles.settings import SiteSettings
from tests.integration.test_rules_tried import CT, XR
from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.results.rows import SOMEBODY

PACS = {"name": "pacs", "kind": "folder", "path": "out"}
STRICTER = {**CT, "when": {"modality": "CT", "slice_thickness": {"max": 1.5}}, "quiet_period_s": 60.0}


def site(*routes: dict[str, Any]) -> SiteSettings:
    return SiteSettings.model_validate({"destination": [PACS], "route": list(routes)})


@dataclass(frozen=True)
class Process:
    """One process of a node, with the configuration that it was started with."""

    database: Database

    def routes(self, *in_file: dict[str, Any]) -> RoutesInForce:
        return RoutesInForce(site(*in_file), survey_models(()).cards, self.database)


@pytest.fixture
def process(index: Database) -> Process:
    return Process(index)


def save(routes: RoutesInForce, route: dict[str, Any]) -> None:
    routes.save(route, RouteChange("too many thick slices", SOMEBODY, datetime.now(UTC)))


def revert(routes: RoutesInForce, name: str, reason: str = "no more") -> None:
    routes.revert(name, RouteChange(reason, SOMEBODY, datetime.now(UTC)))


def whens(routes: RoutesInForce) -> dict[str, object]:
    return {one.name: one.when for one in routes.now().routes}


def test_an_edit_is_in_force_in_every_process_at_once_and_after_a_start_until_it_is_reverted(process: Process) -> None:
    here, elsewhere = process.routes(CT, XR), process.routes(CT, XR)
    before = whens(elsewhere)
    save(here, STRICTER)
    assert [one.name for one in elsewhere.now().routes] == ["chest-ct", "chest-radiograph"]
    assert whens(elsewhere)["chest-ct"] == whens(here)["chest-ct"] == (STRICTER["when"],)
    origin = process.routes(CT, XR).now().origins["chest-ct"]
    assert (origin.edited_by, origin.edit_reason) == (SOMEBODY.name, "too many thick slices")
    assert (origin.conflict, origin.unusable) == ("", "")
    revert(here, "chest-ct", "thin slices come from all scanners now")
    assert whens(elsewhere) == before
    assert elsewhere.now().origins == {}


def test_routes_of_settings_that_are_read_again_lie_under_the_edits_as_after_a_start(process: Process) -> None:
    running = process.routes(CT)
    save(running, STRICTER)
    prepared = running.prepared(site({**CT, "quiet_period_s": 5.0}, XR))
    assert whens(running) == {"chest-ct": (STRICTER["when"],)}
    prepared.begin()

    assert list(whens(running)) == ["chest-ct", "chest-radiograph"]
    assert whens(running)["chest-ct"] == (STRICTER["when"],)
    (told,) = prepared.warnings
    assert told.startswith("Edited route chest-ct: The configuration file has another route 'chest-ct' than when")
    revert(running, "chest-ct")
    assert {one.name: one.quiet_period_s for one in running.now().routes}["chest-ct"] == 5.0


def test_a_start_with_a_changed_file_tells_the_conflict_and_keeps_the_edit(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    save(process.routes(CT), STRICTER)
    with caplog.at_level(logging.WARNING):
        started = process.routes({**CT, "quiet_period_s": 5.0})
        assert whens(started)["chest-ct"] == (STRICTER["when"],)
    assert "rules revert chest-ct" in started.now().origins["chest-ct"].conflict
    assert [one.message for one in caplog.records] == ["edited route"]


def test_an_edit_whose_model_or_destination_is_gone_leaves_the_files_route_in_force_and_says_so(
    process: Process,
) -> None:
    save(process.routes(CT), {**STRICTER, "destinations": ["pacs"]})
    settings = SiteSettings.model_validate({"route": [CT]})
    started = RoutesInForce(settings, survey_models(()).cards, process.database)
    assert whens(started)["chest-ct"] == (CT["when"],)
    assert "pacs" in started.now().origins["chest-ct"].unusable


def test_a_route_that_another_edit_needs_is_not_taken_away_before_it(process: Process) -> None:
    routes = process.routes(XR)
    save(routes, CT)
    save(routes, {"name": "next", "model": "ct-lung-density", "shadow": True, "shadow_of": "chest-ct"})
    with pytest.raises(Conflict, match="next"):
        revert(routes, "chest-ct")
    revert(routes, "next")
    revert(routes, "chest-ct")
    assert list(whens(routes)) == ["chest-radiograph"]


def test_of_two_who_saw_the_same_version_only_the_first_changes_the_route_also_on_postgresql(process: Process) -> None:
    def write(reason: str) -> str:
        try:
            process.routes(CT).save(STRICTER, RouteChange(reason, SOMEBODY, datetime.now(UTC), "0-active"))
        except ChangedMeanwhile as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as threads:
        told = sorted(threads.map(write, [f"reason {number}" for number in range(8)]))
    assert told[0] == ""
    assert all(SOMEBODY.name in one and "reason" in one for one in told[1:])


# --- by the API --------------------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    database = seeded_database(tmp_path)
    parts = parts_over(database, tmp_path)
    settings = SiteSettings.model_validate({"node": parts.settings.node, "destination": [PACS], "route": [CT, XR]})
    yield client_of(replace(parts, settings=settings, routes=RoutesInForce(settings, parts.cards, database)))
    database.close()


def test_an_administrator_writes_a_route_anew_looks_at_its_versions_and_goes_back(client: Client) -> None:
    route = {**STRICTER, "parameters": {"laa_threshold_hu": -910.0}}
    at, body = "/api/v1/routes/chest-ct", {"route": route, "reason": "thick slices"}
    seen = matching(client)
    assert client.with_role(UserRole.OPERATOR).request("PUT", at, json=body, headers=seen).status_code == 403
    told = client.request("PUT", at, json=body, headers=seen).json()
    assert (told["quiet_period_s"], told["edited"]["edited_by"]) == (60.0, "api-token")
    assert told["parameters"] == {"laa_threshold_hu": -910.0}
    [ct, radiograph] = client.get("/api/v1/routes").json()
    assert (ct, radiograph["edited"]) == (told, None)
    back = client.post(f"{at}/revert", json={"reason": "as before"}, headers=matching(client))
    assert back.json()[0]["edited"] is None
    versions = client.get(f"{at}/versions").json()
    assert [one["reason"] for one in versions] == ["as before", "thick slices"]
    assert (versions[0]["settings"], versions[1]["settings"]["when"]) == (None, STRICTER["when"])
    assert client.post(f"{at}/revert", json={"reason": "again"}, headers=matching(client)).status_code == 404


def matching(client: Client) -> dict[str, str]:
    """Return the header that says which version of chest-ct was looked at."""
    return {"If-Match": f'"{client.get("/api/v1/routes").json()[0]["version"]}"'}


def test_who_has_not_seen_what_another_changed_does_not_overwrite_it(client: Client) -> None:
    at, seen = "/api/v1/routes/chest-ct", matching(client)
    saved = client.request("PUT", at, json={"route": STRICTER, "reason": "thick slices"}, headers=seen)
    assert saved.status_code == 200
    late = client.request("PUT", at, json={"route": CT, "reason": "as I like it"}, headers=seen)
    assert (late.status_code, late.json()["type"]) == (412, "/api/v1/problems/changed-meanwhile")
    assert "api-token wrote it anew" in late.json()["detail"]
    assert "thick slices" in late.json()["detail"]
    assert client.post(f"{at}/revert", json={"reason": "x"}, headers=seen).status_code == 412
    assert [one["reason"] for one in client.get(f"{at}/versions").json()] == ["thick slices"]
    seen = matching(client)
    assert client.post(f"{at}/suspend", json={"reason": "alerts"}, headers=seen).status_code == 200
    late = client.request("PUT", at, json={"route": CT, "reason": "x"}, headers=seen)
    assert "api-token suspended it" in late.json()["detail"]
    assert client.request("PUT", at, json={"route": CT, "reason": "x"}, headers=matching(client)).status_code == 200


def test_a_change_that_does_not_say_which_version_it_was_made_from_is_not_made(client: Client) -> None:
    at, body = "/api/v1/routes/chest-ct", {"route": STRICTER, "reason": "x"}
    asked = {
        None: 428, ("If-Match", "3"): 422, ("If-Match", '"3", "4"'): 422, ("If-Match", 'W/"0-active"'): 422,
        ("If-None-Match", "*"): 412, ("If-None-Match", '"3"'): 422,
    }  # fmt: skip
    for header, status in asked.items():
        told = client.request("PUT", at, json=body, headers=dict([header]) if header else {})
        assert (header, told.status_code) == (header, status)
        assert "If-" in told.json()["detail"] or status == 412
    assert client.post(f"{at}/revert", json={"reason": "x"}).status_code == 428
    assert client.get(f"{at}/versions").json() == []
    assert client.request("PUT", at, json=body, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    ("header", "value", "is_one"),
    [
        ("If-Match", '"3"', True), ("If-Match", "*", True), ("If-Match", "3", False), ("If-Match", '"a b"', False),
        ("If-Match", '""', False), ("If-Match", 'W/"3"', False), ("If-Match", '"' + 101 * "x" + '"', False),
        ("If-None-Match", "*", True), ("If-None-Match", '"3"', False),
    ],
)  # fmt: skip
def test_the_description_says_what_a_version_looks_like(
    client: Client, header: str, value: str, *, is_one: bool
) -> None:
    put = client.get("/api/v1/openapi.json").json()["paths"]["/api/v1/routes/{name}"]["put"]
    [pattern] = [one["schema"]["pattern"] for one in put["parameters"] if one["name"] == header]
    assert bool(re.search(pattern, value)) == is_one
    body = {"route": STRICTER, "reason": "x"}
    for more in ({}, {"If-Match": "*"}):
        answer = client.request("PUT", "/api/v1/routes/chest-ct", json=body, headers={**more, header: value})
        assert (answer.status_code != 422) == is_one


def test_a_route_is_added_where_there_is_none_of_its_name(client: Client) -> None:
    at, body = "/api/v1/routes/new", {"route": {**CT, "name": "new"}, "reason": "x"}
    assert client.request("PUT", at, json=body, headers={"If-Match": "*"}).status_code == 412
    assert client.request("PUT", at, json=body, headers={"If-None-Match": "*"}).status_code == 200
    assert client.request("PUT", at, json=body, headers={"If-None-Match": "*"}).status_code == 412


REFUSED = [
    ({**CT, "name": "other"}, "chest-ct"),
    ({**CT, "model": "cxr-pneumonia"}, "nobody has accepted it"),
    ({**CT, "model": "none"}, "none"),
    ({**CT, "destinations": ["nowhere"]}, "nowhere"),
    ({**CT, "when": {"modalty": "CT"}}, "modalty"),
]


def test_what_the_settings_would_refuse_is_not_saved(client: Client) -> None:
    for route, word in REFUSED:
        answer = client.request(
            "PUT", "/api/v1/routes/chest-ct", json={"route": route, "reason": "x"}, headers=matching(client)
        )
        assert answer.status_code == 409
        assert word in answer.json()["detail"]
    assert client.get("/api/v1/routes/chest-ct/versions").json() == []
    assert client.get("/api/v1/routes/a%00b/versions").status_code == 422  # which PostgreSQL could not be asked for

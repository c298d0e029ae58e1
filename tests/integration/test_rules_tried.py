"""Routes tried on the studies that have come: what would change, and why; nothing runs and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.core.principal import UserRole
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.roles.settings import SiteSettings
from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.results.seeded import CHEST_CT, CHEST_XR

CT = {"name": "chest-ct", "model": "ct-lung-density", "when": {"modality": "CT"}}
XR = {"name": "chest-radiograph", "model": "cxr-pneumonia", "when": {"modality": ["CR", "DX"]}}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    database = seeded_database(tmp_path)
    parts = parts_over(database, tmp_path)
    settings = SiteSettings.model_validate({"node": parts.settings.node, "route": [CT, XR]})
    yield client_of(replace(parts, settings=settings, routes=RoutesInForce(settings, parts.cards, database)))
    database.close()


def tried(client: Client, **asked: object) -> dict[str, dict[str, object]]:
    answer = client.post("/api/v1/rules/try", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["studies"] > 3
    return {one["route"]: one for one in answer.json()["routes"]}


def test_a_stricter_route_tells_which_studies_it_loses_and_how_often_each_clause_holds(client: Client) -> None:
    stricter = {**CT, "when": {"modality": "CT", "station_name": "NOWHERE"}}
    told = tried(client, routes=[stricter])
    ct, radiograph = told["chest-ct"], told["chest-radiograph"]
    assert ct["wanted"] == ct["gained"] == 0
    assert ct["lost"] == ct["wanted_before"] != 0
    [lost] = [one for one in ct["changed"] if one["study_instance_uid"] == CHEST_CT]  # type: ignore[attr-defined]
    assert lost["change"] == "LOST"
    assert "station_name" in lost["reason"]
    clause = next(one for one in ct["clauses"] if one["attribute"] == "station_name")  # type: ignore[attr-defined]
    assert (clause["holds"], clause["asked_by"]) == (0, "route")
    assert (radiograph["gained"], radiograph["lost"], radiograph["changed"]) == (0, 0, [])


def test_a_new_route_written_in_toml_is_tried_beside_the_present_ones(client: Client) -> None:
    toml = "[[route]]\nname = 'all-x-ray'\nmodel = 'cxr-anomaly'\nwhen = { modality = ['CR', 'DX', 'RG'] }\n"
    told = tried(client, toml=toml, studies=50)
    assert list(told) == ["chest-ct", "chest-radiograph", "all-x-ray"]
    assert told["all-x-ray"]["wanted"] == told["all-x-ray"]["gained"] == told["chest-radiograph"]["wanted"]
    assert CHEST_XR in {one["study_instance_uid"] for one in told["all-x-ray"]["changed"]}  # type: ignore[attr-defined]
    assert client.get("/api/v1/routes").json()[-1]["name"] == "chest-radiograph"


def test_without_a_proposal_the_present_routes_are_held_against_what_was_decided(client: Client) -> None:
    assert tried(client)["chest-ct"]["wanted_before"] != 0


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"routes": [{**CT, "model": "no-such"}]}, "no-such"),
    ({"routes": [{**CT, "destinations": ["nowhere"]}]}, "nowhere"),
    ({"routes": [{**CT, "when": {"modalty": "CT"}}]}, "modalty"),
    ({"routes": [{**CT, "whenn": {}}]}, "whenn"),
    ({"toml": "[node]\nae_title = 'X'"}, "[[route]]"),
    ({"toml": "route ="}, "TOML"),
    ({"routes": [{**CT, "when": {"modality": {"regex": "(a+)+$"}}}]}, "for ever"),
    ({"routes": [{**CT, "when": [{"modality": {"regex": "a*a*a*a*b"}}]}]}, "for ever"),
    ({"routes": [{**CT, "when": {"modality": {"regex": "(" * 2000 + ")" * 2000}}}]}, "for ever"),
    ({"routes": [{**CT, "when": {"modality": {"regex": "a{99999999999}"}}}]}, "for ever"),
    ({"routes": [{**CT, "when": {"modality": {"regex": "(a"}}}]}, "regular expression"),
]


def test_a_route_that_the_settings_would_refuse_is_refused_with_what_is_wrong(client: Client) -> None:
    assert client.with_role(UserRole.VIEWER).post("/api/v1/rules/try", json={}).status_code == 403
    assert client.post("/api/v1/rules/try", json={"studies": "50"}).status_code == 422
    for asked, word in REFUSED:
        answer = client.post("/api/v1/rules/try", json=asked)
        assert answer.status_code == 409
        assert word in answer.json()["detail"]


def test_a_model_is_told_by_its_card_its_limits_its_decisions_and_its_figures(client: Client) -> None:
    told = client.get("/api/v1/models/cxr-pneumonia").json()
    assert (told["model"]["version"], told["model"]["standing"]) == ("1.2.0", "MODEL_NOT_ACCEPTED")
    assert [one["attribute"] for one in told["takes"][0]] == ["modality", "body_region"]
    assert {"attribute": "max_age_years", "condition": "5"} in told["gate"]
    assert told["looks_for"][0]["code"] == "233604007, SCT"
    assert told["parameters"]["threshold"] == pytest.approx(0.5189)
    assert told["figures"]["operating_point"]["threshold"] == pytest.approx(0.5189)
    assert client.get("/api/v1/models/none").status_code == 404

"""Every list of the API comes in pages that a Link joins, and what results say has a type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from dicom_node.api.parts import ApiParts
from dicom_node.index.tables import results
from tests.support.api_client import Client, client_of, parts_over, seeded_database
from tests.support.results.rows import key_of
from tests.support.results.seeded import CHEST_CT, GAP_CT
from tools.api_examples import KEPT, examples


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[ApiParts]:
    database = seeded_database(tmp_path)
    yield parts_over(database, tmp_path)
    database.close()


@pytest.fixture
def client(parts: ApiParts) -> Client:
    return client_of(parts)


def all_pages(client: Client, path: str, limit: int) -> list[Any]:
    """Follow the links from the first page to the last."""
    answer = client.get(path, params={"limit": limit})
    found = []
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        entries = (
            page if isinstance(page, list) else next(page[name] for name in ("studies", "instances") if name in page)
        )
        assert len(entries) <= limit
        found += entries
        if not answer.links:
            return found
        answer = client.get(answer.links["next"]["url"])


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/api/v1/studies", 6),
        ("/api/v1/jobs", 4),
        ("/api/v1/deliveries", 7),
        ("/api/v1/commitments", 0),
        ("/api/v1/shadows", 0),
        (f"/api/v1/studies/{CHEST_CT}/timeline", 8),
        (f"/api/v1/studies/{CHEST_CT}/results", 1),
        (f"/api/v1/studies/{CHEST_CT}/versions", 1),
    ],
)
def test_a_list_read_page_by_page_is_the_whole_list(client: Client, path: str, number: int) -> None:
    whole = all_pages(client, path, 100)
    assert len(whole) == number
    for limit in (1, 3):
        assert all_pages(client, path, limit) == whole
    assert client.get(path, params={"cursor": "\x00"}).status_code == 422


def test_every_list_in_the_description_has_limit_and_cursor_and_tells_of_its_link(client: Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    whole = {"/api/v1/routes", "/api/v1/destinations", "/api/v1/sources", "/api/v1/sources/{name}/studies"}
    whole |= {"/api/v1/alarms/rules", "/api/v1/configuration", "/api/v1/drift/stops"}
    for path, verbs in document["paths"].items():
        told = verbs.get("get", {}).get("responses", {}).get("200", {})
        schema = told.get("content", {}).get("application/json", {}).get("schema", {})
        if schema.get("type") == "array" and path not in whole:
            assert {"limit", "cursor"} <= {one["name"] for one in verbs["get"]["parameters"]}, path
            assert "Link" in told["headers"], path


def test_the_examples_of_the_description_are_what_a_node_answers(client: Client) -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(dict(examples()))), "run python -m tools.api_examples"
    document = client.get("/api/v1/openapi.json").json()
    ours = [told for path, verbs in document["paths"].items() if path.startswith("/api") for told in verbs.values()]
    without = {told["operationId"] for told in ours if not _has_example(told)}
    elsewhere = {
        "suspend_route",
        "resume_route",
        "save_route",
        "revert_route",
        "suspend_destination",
        "resume_destination",
        "upload",
        "retrieve_study",
        "list_retrievals",
        "get_retrieval",
        "find_studies",
        "retry_destination",
    }
    elsewhere |= {"add_user", "change_user", "add_key", "decide_on_result", "lock_result"}
    elsewhere |= {"reload_configuration", "restore"}
    assert without == elsewhere, "those need another process, a PACS or a reader, or change who may come in"


def _has_example(told: dict[str, Any]) -> bool:
    good = next(one for status, one in told["responses"].items() if status.startswith("2"))
    return "example" in good.get("content", {}).get("application/json", {"example": "no JSON"})


def test_results_are_told_apart_by_their_state_and_have_typed_findings(client: Client) -> None:
    schemas = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    assert schemas["AnalysisSummary"]["properties"]["findings"]["items"] == {
        "$ref": "#/components/schemas/FindingAnswer"
    }
    declined = client.get(f"/api/v1/studies/{GAP_CT}/results").json()[0]
    assert (declined["state"], declined["summary"]["findings"]) == ("NOT_ANALYSABLE", [])
    found = client.get(f"/api/v1/results/{key_of('chest-ct')}").json()["summary"]
    assert found["model"]["name"] == "ct-lung-density"
    assert [one["key"] for one in found["findings"]] == ["left-lung", "right-lung"]


def test_a_summary_of_another_form_costs_what_cannot_be_read_and_no_more(client: Client, parts: ApiParts) -> None:
    address = f"/api/v1/results/{key_of('chest-ct')}"
    before = client.get(address).json()["summary"]
    odd = {
        **before,
        "findings": [before["findings"][0], {"key": "x", "label": "y"}, 7],
        "took_s": "long",
        "notes": None,
    }
    with parts.database.write() as connection:
        connection.execute(update(results).where(results.c.job_key == key_of("chest-ct")).values(summary=odd))
    after = client.get(address).json()["summary"]
    assert after["findings"] == before["findings"][:1]
    assert (after["unreadable"], after["took_s"], after["notes"]) == (2, None, [])
    assert after["model"] == before["model"]
    assert client.get(f"/api/v1/studies/{CHEST_CT}").status_code == 200

"""What others have reported of FHIR servers in use, tried against the client; each test links the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.outgoing import Outgoing
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.client.client import FhirClient
from tests.integration.test_fhir_odd_answers import (
    BUNDLE,
    CAPABILITIES,
    GOOD,
    PATIENT,
    REPORT,
    TRANSACTED,
    Answer,
    Server,
    answers_of,
    delivered,
    searchset,
    second_page,
    stored_bundle,
)
from tests.peers.fhir_server import FhirServer
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    analysis,
    written_objects,
)

LATER = replace(CONTEXT, job_key="b" * 64, started_at=CONTEXT.started_at + timedelta(hours=1))
SEARCH = ("POST", "Patient/_search")
ONE_BY_ONE = GOOD | {("GET", "metadata"): CAPABILITIES | {"rest": []}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Outgoing:
    return stored_bundle(tmp_path_factory.mktemp("bundle"), BUNDLE)


def outcome_of(**more: str) -> dict[str, Any]:
    """A resource that says something about the search, as servers add it to what they found."""
    issue = [{"severity": "warning", "code": "processing"}]
    return {"resourceType": "OperationOutcome", "issue": issue, **more}


def test_a_report_made_anew_within_a_minute_reaches_a_server_that_keeps_its_searches(fhir_server: FhirServer) -> None:
    """HAPI answers a search again from its cache for a minute: github.com/hapifhir/hapi-fhir/issues/2277."""
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    fhir_server.set(keepsSearches=True)

    with FhirClient(fhir_server.url) as client:
        for context in (CONTEXT, LATER):
            client.send(build_bundle(analysis(findings=FINDINGS[:1]), context, written_objects(), OPTIONS))

    fhir_server.set(keepsSearches=False)
    (report,) = fhir_server.all("DiagnosticReport")
    assert [one["value"] for one in report["identifier"]].count("b" * 64) == 1
    assert sorted(one["status"] for one in fhir_server.all("Observation")) == ["entered-in-error", "preliminary"]


def test_a_remark_among_the_hits_does_not_hide_a_second_patient(server: Server, stored: Outgoing) -> None:
    """Servers put an OperationOutcome among the matches: github.com/hapifhir/hapi-fhir/issues/6799."""
    found = searchset(PATIENT, outcome_of(id="warning"))
    server.answers = answers_of(GOOD | {SEARCH: found})

    assert "says it has 2 Patients" in str(delivered(server, stored).error)


def test_a_remark_beside_the_one_patient_holds_nothing_back(server: Server, stored: Outgoing) -> None:
    """As above, where the server does not count its remark: github.com/FirelyTeam/spark/issues/1267."""
    found = searchset(PATIENT, outcome_of()) | {"total": 1}
    server.answers = answers_of(GOOD | {SEARCH: found})

    assert delivered(server, stored).error is None


@pytest.mark.parametrize("configured", ["LocalHost", "localhost"])
@pytest.mark.parametrize("named", ["LOCALHOST", "localhost"])
def test_a_next_page_may_spell_the_same_address_in_another_way(
    server: Server, stored: Outgoing, configured: str, named: str
) -> None:
    """Proxies rewrite paging links, here the spelling of the host: github.com/opensrp/fhircore/issues/1714."""
    port = urlsplit(server.url).port
    first = second_page(searchset(PATIENT), f"http://{named}:{port}/fhir/page2?token=1")
    server.answers = answers_of(GOOD | {SEARCH: first, ("GET", "page2"): searchset()})
    destination = FhirDestination(name="ehr", kind="fhir", url=f"http://{configured}:{port}/fhir")

    (sent,) = destination.sender(Caller("AINODE", 30.0)).send([stored])

    assert sent.error is None


def test_a_bundle_that_was_only_kept_as_a_bundle_is_not_delivered(server: Server, stored: Outgoing) -> None:
    """Behind some gateways a transaction is stored as one resource: github.com/LinuxForHealth/FHIR/issues/4171."""
    usual = answers_of(GOOD)
    kept = (201, {"Location": f"{server.url}/Bundle/1/_history/1", "ETag": 'W/"1"'}, b"")
    server.answers = lambda method, path: kept if (method, path) == ("POST", "") else usual(method, path)

    assert isinstance(delivered(server, stored).error, DeliveryDeferred)


def test_of_a_transaction_taken_as_a_batch_every_entry_counts(server: Server, stored: Outgoing) -> None:
    """A transaction answered entry by entry: github.com/WorldHealthOrganization/ddcc/issues/67."""
    entries = [dict(entry) for entry in TRANSACTED["entry"]]
    places = [entry["resource"]["resourceType"] for entry in BUNDLE["entry"]]
    entries[places.index("Observation")] = {"response": {"status": "422 Unprocessable Entity", "outcome": outcome_of()}}
    batch = TRANSACTED | {"type": "batch-response", "entry": entries[: len(places)]}
    server.answers = answers_of(GOOD | {("POST", ""): batch})

    error = delivered(server, stored).error

    assert isinstance(error, DeliveryRefused)
    assert "422 for the Observation" in str(error)


@pytest.mark.parametrize("etag", ["4", '"4"', 'W/"4"'], ids=["bare", "strong", "weak"])
@pytest.mark.parametrize("where", ["Location", "Content-Location"])
def test_a_creation_is_delivered_however_the_server_writes_version_and_place(
    server: Server, stored: Outgoing, etag: str, where: str
) -> None:
    """Bare ETags: github.com/medplum/medplum/issues/3083; no Location: github.com/FirelyTeam/spark/issues/88."""
    usual = answers_of(ONE_BY_ONE)

    def answer(method: str, path: str) -> Answer:
        if method not in {"POST", "PUT"} or path.endswith("_search"):
            return usual(method, path)
        kind = path.partition("/")[0]
        body = json.dumps({"resourceType": kind, "id": "new", "meta": {"versionId": "4"}}).encode()
        return 201, {"ETag": etag, where: f"{server.url}/{kind}/new/_history/4"}, body

    server.answers = answer

    assert delivered(server, stored).error is None


def test_a_merged_patient_found_by_both_records_is_one_patient(server: Server, stored: Outgoing) -> None:
    """The survivor keeps the other's number, marked as old: github.com/medplum/medplum/pull/7891."""
    old_number = [{"use": "old", "system": PATIENT_SYSTEM, "value": PATIENT_ID}]
    source = PATIENT | {"id": "s", "active": False, "link": [_link("replaced-by", "Patient/t")]}
    target = PATIENT | {"id": "t", "identifier": old_number, "link": [_link("replaces", "Patient/s")]}
    server.answers = answers_of(GOOD | {SEARCH: searchset(source, target), ("GET", "Patient/t"): target})

    assert delivered(server, stored).error is None
    transaction = next(json.loads(one) for one in reversed(server.received) if b'"transaction"' in one)
    (report,) = (e["resource"] for e in transaction["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    assert report["subject"]["reference"] == "Patient/t"


def _link(kind: str, reference: str) -> dict[str, Any]:
    return {"type": kind, "other": {"reference": reference}}


def test_two_reports_made_by_a_race_in_the_server_are_told_and_neither_is_changed(
    server: Server, stored: Outgoing
) -> None:
    """Conditional creates at one moment may both succeed: github.com/hapifhir/hapi-fhir/issues/3141."""
    twins = searchset(REPORT, REPORT | {"id": "r2"})
    server.answers = answers_of(GOOD | {("GET", "DiagnosticReport"): twins})
    server.received.clear()

    error = delivered(server, stored).error

    assert isinstance(error, DeliveryRefused)
    assert "2 DiagnosticReports" in str(error)
    assert not any(b'"transaction"' in one for one in server.received)


def test_a_server_that_refuses_the_version_in_either_spelling_is_told(server: Server, stored: Outgoing) -> None:
    """Some compare If-Match letter by letter with the version id: github.com/FirelyTeam/spark/issues/713."""
    usual = answers_of(ONE_BY_ONE)
    updates: list[str] = []

    def answer(method: str, path: str) -> Answer:
        if method == "PUT":
            updates.append(path)
            return 412, {}, b""
        if method == "POST" and not path.endswith("_search"):
            return 201, {"Location": f"{path}/new"}, b""
        return usual(method, path)

    server.answers = answer
    error = delivered(server, stored).error

    assert isinstance(error, DeliveryRefused)
    assert "refuses If-Match" in str(error)
    assert updates == ["DiagnosticReport/r"] * 2


@pytest.mark.parametrize("mode", ["include", "outcome"])
def test_what_a_server_shows_beside_the_matches_is_no_match(server: Server, stored: Outgoing, mode: str) -> None:
    """Of search.mode clients forget the rarer values: github.com/hapifhir/hapi-fhir/issues/5780."""
    beside = {"resource": PATIENT | {"id": "q"}, "search": {"mode": mode}}
    found = searchset(PATIENT)
    server.answers = answers_of(GOOD | {SEARCH: found | {"entry": [*found["entry"], beside]}})

    assert delivered(server, stored).error is None

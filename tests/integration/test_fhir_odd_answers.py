"""Whatever a FHIR server answers, a delivery ends as sent, put off or refused, with a reason, and names no patient."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.core.entities import Artifact, ArtifactKind
from dicom_node.core.errors import DeliveryDeferred, DeliveryError, DeliveryRefused
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.outgoing import Outgoing, Sent
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.json_types import to_json_bytes
from tests.support.results.fhir_examples import (
    CONTEXT,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    analysis,
    radiograph,
    written_objects,
)

Answer = tuple[int, dict[str, str], bytes]
BUNDLE = json.loads(to_json_bytes(build_bundle(analysis(), CONTEXT, written_objects(), OPTIONS)))
REPORT_IDENTIFIERS = BUNDLE["entry"][-2]["resource"]["identifier"]


class Server:
    """A server that answers each request as `answers` says; it is real as far as HTTP goes."""

    def __init__(self) -> None:
        self.answers: Callable[[str, str], Answer] = answers_of({})
        self.received: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                outer.received.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                path = urlsplit(self.path)
                asked = path.path.removeprefix("/fhir").strip("/") + (f"?{path.query}" if path.query else "")
                status, headers, content = outer.answers(self.command, asked)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _any  # noqa: N815 - the names are the library's

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/fhir"

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Outgoing:
    return stored_bundle(tmp_path_factory.mktemp("bundle"), BUNDLE)


def stored_bundle(folder: Path, bundle: object) -> Outgoing:
    content = json.dumps(bundle).encode()
    path = folder / "1.2.3.json"
    path.write_bytes(content)
    artifact = Artifact(
        uid="1.2.3",
        kind=ArtifactKind.FHIR_BUNDLE,
        media_type="application/fhir+json",
        object_key="1.2.3",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        order=9,
    )
    return Outgoing(artifact, path)


def delivered(server: Server, stored: Outgoing, timeout_s: float = 30.0) -> Sent:
    destination = FhirDestination(name="ehr", kind="fhir", url=server.url)
    (sent,) = destination.sender(Caller("AINODE", timeout_s)).send([stored])
    return sent


# --- a server in good order, whose answers are then bent ---


def searchset(*resources: object) -> dict[str, Any]:
    return {
        "resourceType": "Bundle", "type": "searchset", "total": len(resources),
        "link": [{"relation": "self", "url": "x"}], "entry": [{"resource": one} for one in resources],
    }  # fmt: skip


PATIENT = {
    "resourceType": "Patient", "id": "p", "active": True, "birthDate": "1970-01-01", "gender": "female", "link": [],
    "identifier": [{"system": PATIENT_SYSTEM, "value": PATIENT_ID}],
}  # fmt: skip
REPORT = {
    "resourceType": "DiagnosticReport", "id": "r", "status": "preliminary", "issued": "2020-01-01T00:00:00Z",
    "identifier": [*REPORT_IDENTIFIERS[:-1], {"system": REPORT_IDENTIFIERS[-1]["system"], "value": "earlier"}],
    "result": [{"reference": "Observation/o"}], "meta": {"versionId": "3"},
}  # fmt: skip
OBSERVATION = {
    "resourceType": "Observation", "id": "o", "status": "preliminary", "identifier": [{"system": "x", "value": "y"}],
    "meta": {"versionId": "8", "lastUpdated": "2020-01-01T00:00:00Z"},
}  # fmt: skip
CAPABILITIES = {
    "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1",
    "rest": [{"mode": "server", "interaction": [{"code": "transaction"}], "resource": [{"type": "Device"}]}],
}  # fmt: skip
TRANSACTED = {
    "resourceType": "Bundle", "type": "transaction-response",
    "entry": [{"response": {"status": "200 OK", "location": "Type/1/_history/4", "etag": 'W/"4"'}}] * 11,
}  # fmt: skip
OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [{"code": "invalid", "details": {"text": "DOE, JANE"}, "diagnostics": "x", "expression": ["Patient.id"]}],
}
GOOD: dict[tuple[str, str], Any] = {
    ("GET", "metadata"): CAPABILITIES,
    ("POST", "Patient/_search"): searchset(PATIENT),
    ("GET", "DiagnosticReport"): searchset(REPORT),
    ("GET", "DiagnosticReport/r"): REPORT,
    ("GET", "Observation"): searchset(OBSERVATION),
    ("GET", "Observation/o"): OBSERVATION,
    ("POST", ""): TRANSACTED,
}
JUNK = [None, 0, -1.5, True, "", "x", [], [None], {}, {"a": None}, [[]], "9" * 99, {"resourceType": 5}, 10**30]


def answers_of(good: dict[tuple[str, str], Any], status: int = 200) -> Callable[[str, str], Answer]:
    def answer(method: str, asked: str) -> Answer:
        body = good.get((method, asked.partition("?")[0]), searchset())
        return status, {"Content-Type": "application/fhir+json"}, json.dumps(body).encode()

    return answer


def bent(node: Any, steps: list[int], junk: object) -> Any:
    """Return the node with what lies at the end of the steps replaced."""
    if not steps or not isinstance(node, dict | list) or not node:
        return junk
    node = copy.copy(node)
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = keys[steps[0] % len(keys)]
    node[key] = bent(node[key], steps[1:], junk)
    return node


def test_the_good_server_takes_the_report(server: Server, stored: Outgoing) -> None:
    server.answers = answers_of(GOOD)

    assert delivered(server, stored).error is None


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(sorted(GOOD)),
    steps=st.lists(st.integers(0, 20), max_size=6),
    junk=st.sampled_from(JUNK),
    transactions=st.booleans(),
)
def test_an_answer_bent_anywhere_is_an_outcome_and_no_exception(
    server: Server, stored: Outgoing, which: tuple[str, str], steps: list[int], junk: object, *, transactions: bool
) -> None:
    metadata = CAPABILITIES if transactions else CAPABILITIES | {"rest": []}
    good = GOOD | {("GET", "metadata"): metadata}
    server.answers = answers_of(good | {which: bent(good[which], steps, junk)})

    error = delivered(server, stored).error

    assert error is None or (isinstance(error, DeliveryDeferred | DeliveryRefused) and str(error))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    status=st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 409, 412, 422, 429, 500, 501, 503]),
    steps=st.lists(st.integers(0, 20), max_size=5),
    junk=st.sampled_from(JUNK),
)
def test_any_status_with_a_bent_outcome_is_an_outcome_and_no_exception(
    server: Server, stored: Outgoing, status: int, steps: list[int], junk: object
) -> None:
    body = json.dumps(bent(OUTCOME, steps, junk)).encode()
    server.answers = lambda *_: (status, {"Retry-After": "9" * 30}, b"" if status == 204 else body)

    error = delivered(server, stored).error

    assert isinstance(error, DeliveryError)
    assert "JANE" not in str(error)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Encoding": "gzip"}, b"no gzip"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"{}")[:-6]),
        ({}, b"<html>login, please</html>"),
        ({}, b""),
        ({}, b"\xff\xfe{"),
        ({}, b"[" * 100_000),
        ({}, b'{"resourceType": "Bundle", "total": ' + b"9" * 9000 + b"}"),
        ({}, b'{"a": "' + b"x" * (17 << 20) + b'"}'),
        ({"Content-Encoding": "gzip"}, gzip.compress(b" " * (64 << 20))),
    ],
    ids=["no gzip", "cut gzip", "HTML", "empty", "no text", "deep", "long number", "huge", "bomb"],
)
@pytest.mark.parametrize("asked", ["metadata", "Patient/_search", "DiagnosticReport", "", "all"])
def test_a_body_that_cannot_be_read_is_an_outcome_and_no_exception(
    server: Server, stored: Outgoing, asked: str, headers: dict[str, str], content: bytes
) -> None:
    usual = answers_of(GOOD)
    server.answers = lambda method, path: (
        (200, headers, content) if asked in ("all", path.partition("?")[0]) else usual(method, path)
    )

    error = delivered(server, stored).error

    assert isinstance(error, DeliveryDeferred | DeliveryRefused) or (error is None and asked == "metadata")


def test_an_issued_without_zone_does_not_hold_the_report_back(server: Server, stored: Outgoing) -> None:
    there = REPORT | {"issued": "2020-01-01T00:00:00"}
    server.answers = answers_of(
        GOOD | {("GET", "DiagnosticReport"): searchset(there), ("GET", "DiagnosticReport/r"): there}
    )

    assert delivered(server, stored).error is None


def test_a_transaction_answered_without_a_word_is_put_off_until_the_report_shows(
    server: Server, stored: Outgoing
) -> None:
    usual = answers_of(GOOD)
    server.answers = lambda method, path: (200, {}, b"") if (method, path) == ("POST", "") else usual(method, path)

    error = delivered(server, stored).error

    assert isinstance(error, DeliveryDeferred)
    assert "does not show the report" in str(error)


def test_an_attempt_is_over_in_its_time_however_slowly_the_server_speaks(server: Server, stored: Outgoing) -> None:
    usual = answers_of(GOOD)

    def slowly(method: str, path: str) -> Answer:
        time.sleep(0.4)  # the server's slowness is what is tested
        return usual(method, path)

    server.answers = slowly
    error = delivered(server, stored, timeout_s=1.0).error

    assert isinstance(error, DeliveryDeferred)


def test_a_report_that_another_created_meanwhile_is_looked_at_again(server: Server, stored: Outgoing) -> None:
    looks = []

    def answer(method: str, asked: str) -> Answer:
        looks.append(asked)
        absent = asked.startswith("DiagnosticReport?") and sum(one == asked for one in looks) == 1
        return answers_of({} if absent else GOOD)(method, asked)

    server.answers = answer

    assert delivered(server, stored).error is None
    assert looks.count("") == 2


# --- which patient ---


def second_page(answer: dict[str, Any], url: str) -> dict[str, Any]:
    return answer | {"link": [{"relation": "next", "url": url}]}


def twin() -> dict[str, Any]:
    return PATIENT | {"id": "q"}


def test_a_second_patient_on_the_next_page_is_seen(server: Server, stored: Outgoing) -> None:
    first = second_page(searchset(PATIENT), f"{server.url}/page2?token=1")
    server.answers = answers_of(GOOD | {("POST", "Patient/_search"): first, ("GET", "page2"): searchset(twin())})

    assert "2 Patients" in str(delivered(server, stored).error)


def test_a_total_beyond_what_is_shown_is_not_one_patient(server: Server, stored: Outgoing) -> None:
    more = searchset(PATIENT) | {"total": 2}
    server.answers = answers_of(GOOD | {("POST", "Patient/_search"): more})

    assert "says it has 2 Patients" in str(delivered(server, stored).error)


@pytest.mark.parametrize("url", ["http://elsewhere.example/fhir/page2", "//elsewhere.example/x", "file:///etc/passwd"])
def test_the_next_page_is_not_looked_for_on_another_host(server: Server, stored: Outgoing, url: str) -> None:
    server.answers = answers_of(GOOD | {("POST", "Patient/_search"): second_page(searchset(PATIENT), url)})

    assert "outside the address" in str(delivered(server, stored).error)


def test_pages_without_end_are_refused(server: Server, stored: Outgoing) -> None:
    for_ever = second_page(searchset(PATIENT), f"{server.url}/page2")
    server.answers = answers_of(GOOD | {("POST", "Patient/_search"): for_ever, ("GET", "page2"): for_ever})

    assert "pages" in str(delivered(server, stored).error)


def merged_into(reference: str) -> dict[str, Any]:
    return PATIENT | {"id": "old", "link": [{"type": "replaced-by", "other": {"reference": reference}}]}


def test_a_merged_record_stands_for_the_one_it_was_merged_into(server: Server, stored: Outgoing) -> None:
    survivor = {key: value for key, value in PATIENT.items() if key != "identifier"}
    good = GOOD | {
        ("POST", "Patient/_search"): searchset(merged_into(f"{server.url}/Patient/p")),
        ("GET", "Patient/p"): survivor,
    }
    server.answers = answers_of(good)

    assert delivered(server, stored).error is None


def test_records_merged_in_a_circle_are_no_patient(server: Server, stored: Outgoing) -> None:
    circle = merged_into("Patient/old")
    server.answers = answers_of(GOOD | {("POST", "Patient/_search"): searchset(circle), ("GET", "Patient/old"): circle})

    assert "no Patient" in str(delivered(server, stored).error)


@pytest.mark.parametrize(
    ("images", "record", "differing"),
    [
        (("19700101", "F"), {}, ""),
        (("19700102", "F"), {}, "birth date"),
        (("19700101", "M"), {}, "sex"),
        (("19600101", "M"), {}, "birth date and another sex"),
        (("19700102", "F"), {"birthDate": "1970-01"}, ""),
        (("19700102", "F"), {"birthDate": None}, ""),
        (("19700201", "F"), {"birthDate": "1970-01"}, "birth date"),
        (("00010101", "O"), {}, ""),
        (("", ""), {}, ""),
        (("19700101", "M"), {"gender": "unknown"}, ""),
    ],
)
def test_birth_date_and_sex_are_compared_where_both_sides_have_them(
    server: Server, tmp_path: Path, images: tuple[str, str], record: dict[str, Any], differing: str
) -> None:
    source = radiograph(PatientBirthDate=images[0], PatientSex=images[1])
    bundle = build_bundle(analysis(sources=(source,)), CONTEXT, written_objects(), OPTIONS)
    server.answers = answers_of(GOOD | {("POST", "Patient/_search"): searchset(PATIENT | record)})

    error = delivered(server, stored_bundle(tmp_path, bundle)).error

    assert (error is None) == (not differing)
    assert not differing or f"has another {differing} than the images" in str(error)
    assert "19" not in str(error)


def test_birth_date_and_sex_are_not_sent(server: Server, tmp_path: Path) -> None:
    source = radiograph(PatientBirthDate="19700101", PatientSex="F")
    bundle = build_bundle(analysis(sources=(source,)), CONTEXT, written_objects(), OPTIONS)
    server.answers = answers_of(GOOD)
    server.received.clear()

    assert delivered(server, stored_bundle(tmp_path, bundle)).error is None

    assert b"1970-01-01" in to_json_bytes(bundle)
    assert not any(b"1970-01-01" in content for content in server.received)
    assert any(b"transaction" in content for content in server.received)

"""One result at EHRs that differ in what they do: whatever becomes of it, each has it once, or not any more.

The server is the same in four costumes, honest ones and such whose CapabilityStatement says more than it does.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis.context import ReplacedResult, ReportLine
from dicom_node.core.errors import DeliveryRefused
from dicom_node.deliver.server_memory import KeptMemory
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.retraction import Retraction, retraction_bundle
from dicom_node.fhir.client.client import Delivered, FhirClient, Fit
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.fhir.options import FhirProfile
from dicom_node.index.decided import actions
from dicom_node.index.tables import deliveries
from tests.integration.step_by_step_node import site
from tests.peers.fhir_faults import MOMENTS, Fault, FaultyEhr
from tests.peers.fhir_server import FhirServer
from tests.peers.process import wait_until
from tests.support.campaign import amount
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import opened_database
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    MODEL,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    STUDY_UID,
    analysis,
    not_analysed,
    radiograph,
    written_objects,
)
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct

Json = dict[str, Any]
KINDS = ("DiagnosticReport", "Observation", "Device", "Endpoint", "ImagingStudy", "Provenance", "DocumentReference")


def listed(kinds: tuple[str, ...] = KINDS, **said: Any) -> list[Json]:
    """Return the types of a CapabilityStatement."""
    codes = [{"code": code} for code in ("read", "create", "update", "search-type")]
    return [{"type": kind, "interaction": codes, **said} for kind in ("Patient", *kinds)]


NO_TRANSACTIONS = {"transactions": False}
NO_CONDITIONS = {"refusesConditions": True}
DOCUMENTS_ONLY = {"notOffered": [kind for kind in KINDS if kind != "DocumentReference"]}
COSTUMES: Mapping[str, Mapping[str, Any]] = {
    "full": {"resources": listed(conditionalCreate=True)},
    "no transactions": {**NO_TRANSACTIONS, "resources": listed()},
    "no transactions, says otherwise": {**NO_TRANSACTIONS, "claimTransactions": True},
    "no conditional operations": {**NO_CONDITIONS, "resources": listed(conditionalCreate=False)},
    "no conditional operations, ids are chosen": {
        **NO_CONDITIONS, "resources": listed(conditionalCreate=False, updateCreate=True),
    },
    "no conditional operations, says nothing": NO_CONDITIONS,
    "documents only": {**DOCUMENTS_ONLY, "resources": listed(("DocumentReference",))},
    "documents only, says otherwise (400)": {**DOCUMENTS_ONLY, "resources": listed()},
    "documents only, says otherwise (404)": {**DOCUMENTS_ONLY, "resources": listed(), "notOfferedStatus": 404},
    "reports refused, Observations taken": {"notOffered": ["DiagnosticReport"], "transactions": False},
}  # fmt: skip
OTHER_ID = "PID-0815"


def bundle_of(job: str, hours: int, answer: Any = None) -> Json:
    replaced = tuple(ReplacedResult(job_key=one * 64) for one in "abcdef"[: "abcdef".index(job)])
    context = replace(
        CONTEXT, job_key=job * 64, started_at=CONTEXT.started_at + timedelta(hours=hours), replaced=replaced
    )
    return json.loads(to_json_bytes(build_bundle(answer or analysis(), context, written_objects(), OPTIONS)))


FIRST = bundle_of("a", 0)
LATER: Mapping[str, Json] = {
    "a re-run": bundle_of("b", 1, analysis(findings=FINDINGS[:1])),
    "a late image": bundle_of("c", 2, analysis(sources=(radiograph(), radiograph(SOPInstanceUID=f"{STUDY_UID}.1.2")))),
    "a corrected patient": bundle_of("d", 3, analysis(sources=(radiograph(PatientID=OTHER_ID),))),
    "not analysed": bundle_of("e", 4, not_analysed()),
}


def withdrawal_of(*bundles: Json) -> Json:
    told = Retraction(
        study_instance_uid=STUDY_UID, node=CONTEXT.node_uid, job_keys=[job_of(one) for one in bundles],
        line=ReportLine(model=MODEL.name, route=CONTEXT.route_name), bundles=list(bundles), reason="Wrong protocol.",
        at=datetime(2026, 11, 21, tzinfo=UTC),
    )  # fmt: skip
    return retraction_bundle(told)


def report_of(bundle: Json) -> Json:
    (report,) = (one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")
    return report


def job_of(bundle: Json) -> str:
    return str(report_of(bundle)["identifier"][-1]["value"])


@pytest.fixture(params=COSTUMES, ids=str)
def costumed(request: pytest.FixtureRequest, fhir_server: FhirServer) -> FhirServer:
    return dressed(fhir_server, request.param)


def dressed(server: FhirServer, costume: str) -> FhirServer:
    for patient in (PATIENT_ID, OTHER_ID):
        server.add_patient(PATIENT_SYSTEM, patient)
    server.set(**COSTUMES[costume])
    return server


def send(server: FhirServer, bundle: Json) -> Delivered:
    with FhirClient(server.url) as client:
        return client.send(bundle)


def told(server: FhirServer) -> list[Json]:
    """What the EHR holds of reports, in whatever shape and state."""
    server.set(notOffered=[], notOfferedStatus=400)
    return [*server.all("DiagnosticReport"), *(one for one in server.all("DocumentReference") if "docStatus" in one)]


def assert_holds_only(server: FhirServer, bundle: Json) -> None:
    """Hold that there is one report, the latest, of the right patient, and that nothing else counts as a result."""
    (report,) = told(server)
    assert job_of(bundle) in {one["value"] for one in report["identifier"]}
    assert report["status"] in {"preliminary", "current"}
    subject = report_of(bundle)["subject"]["identifier"]["value"]
    patient = server.http.get(f"{server.url}/{report['subject']['reference']}").json()
    assert patient["identifier"][0]["value"] == subject
    live = {f"Observation/{one['id']}" for one in server.all("Observation") if one["status"] == "preliminary"}
    assert live == {one["reference"] for one in report.get("result", ())}
    assert {one["subject"]["reference"] for one in server.all("ImagingStudy")} <= {report["subject"]["reference"]}
    for kind in ("Device", "ImagingStudy"):
        assert len(server.all(kind)) <= 1


def test_a_result_sent_twice_is_there_once(costumed: FhirServer) -> None:
    costume = costumed.http.get(costumed.control_url).json()
    send(costumed, FIRST)
    send(costumed, FIRST)
    assert_holds_only(costumed, FIRST)

    costumed.set(notOffered=costume["notOffered"])
    send(costumed, withdrawal_of(FIRST))
    (report,) = told(costumed)
    assert report["status"] == "entered-in-error"
    assert "WITHDRAWN" in report["text"]["div"]
    assert not [one for one in costumed.all("Observation") if one["status"] == "preliminary"]
    assert "83.5" not in json.dumps(report)


def test_a_report_is_proved_by_its_own_run_and_a_withdrawal_by_what_stands_no_longer(costumed: FhirServer) -> None:
    later = LATER["a re-run"]
    with FhirClient(costumed.url) as client:
        client.send(FIRST)
        assert client.has(FIRST)
        assert not client.has(later)
        assert not client.has(withdrawal_of(FIRST))

        client.send(later)
        assert client.has(later)
        assert client.has(FIRST)  # left alone by a later one: it needs no second sending
        assert not client.has(withdrawal_of(later, FIRST))

        client.send(withdrawal_of(later, FIRST))
        assert client.has(withdrawal_of(later, FIRST))
        assert not client.has(LATER["not analysed"])


#: Each costume meets one event, and each event several costumes; a campaign has them all.
PAIRS = [*product(COSTUMES, LATER)]
SAMPLE = [(costume, [*LATER][number % len(LATER)]) for number, costume in enumerate(COSTUMES)]


@pytest.mark.campaign
@pytest.mark.parametrize(("costume", "event"), amount(SAMPLE, campaign=PAIRS))
def test_what_comes_later_replaces_what_was_there(fhir_server: FhirServer, costume: str, event: str) -> None:
    dressed(fhir_server, costume)
    send(fhir_server, FIRST)
    send(fhir_server, LATER[event])

    assert_holds_only(fhir_server, LATER[event])
    (report,) = told(fhir_server)
    history = fhir_server.http.get(f"{fhir_server.url}/{report['resourceType']}/{report['id']}/_history").json()
    earlier = [entry["resource"] for entry in history["entry"]][-1]
    assert job_of(FIRST) in {one["value"] for one in earlier["identifier"]}


def test_an_earlier_result_that_was_delayed_leaves_the_later_document(fhir_server: FhirServer) -> None:
    dressed(fhir_server, "documents only")
    send(fhir_server, LATER["a re-run"])

    assert send(fhir_server, FIRST).superseded
    assert_holds_only(fhir_server, LATER["a re-run"])


def test_a_document_that_a_person_has_made_final_stands(fhir_server: FhirServer) -> None:
    dressed(fhir_server, "documents only")
    send(fhir_server, FIRST)
    (document,) = told(fhir_server)
    fhir_server.replace({**document, "docStatus": "final"})
    standing = told(fhir_server)

    for bundle in (FIRST, LATER["a re-run"], withdrawal_of(FIRST)):
        fhir_server.set(**COSTUMES["documents only"])
        with pytest.raises(DeliveryRefused, match="a person has decided"):
            send(fhir_server, bundle)
    assert told(fhir_server) == standing


def test_a_result_after_a_withdrawn_document_is_a_document_of_its_own(fhir_server: FhirServer) -> None:
    dressed(fhir_server, "documents only")
    for bundle in (FIRST, withdrawal_of(FIRST), LATER["a re-run"]):
        send(fhir_server, bundle)

    assert sorted(one["status"] for one in told(fhir_server)) == ["current", "entered-in-error"]


def test_what_failed_as_unsupported_is_not_asked_for_again(fhir_server: FhirServer) -> None:
    dressed(fhir_server, "no transactions, says otherwise")
    fhir_server.set(refuse=[{"method": "POST", "path": "^/Patient/_search$", "status": 405}], refusesConditions=True)
    with FhirClient(fhir_server.url) as client:
        client.send(FIRST)
        before = len(fhir_server.log())
        client.send(LATER["a re-run"])

    asked = [(one["method"], one["url"].removeprefix("/fhir/R4")) for one in fhir_server.log()[before:]]
    assert ("POST", "") not in asked
    assert ("POST", "/Patient/_search") not in asked
    assert ("GET", "/metadata") not in asked


def test_a_study_of_the_node_follows_its_patient_also_where_no_provenance_is_taken(fhir_server: FhirServer) -> None:
    dressed(fhir_server, "full")
    without = Fit(profile=FhirProfile(drop=frozenset({"Provenance"})))
    with FhirClient(fhir_server.url, fit=without) as client:
        client.send(FIRST)
        client.send(LATER["a corrected patient"])

    assert_holds_only(fhir_server, LATER["a corrected patient"])
    assert fhir_server.all("Provenance") == []
    titles = [
        one.get("title", "") for series in fhir_server.all("ImagingStudy")[0]["series"] for one in series["instance"]
    ]
    assert len(titles) == 3


def test_a_study_of_the_pacs_stays_with_the_patient_it_names(fhir_server: FhirServer) -> None:
    dressed(fhir_server, "full")
    send(fhir_server, FIRST)
    (study,) = fhir_server.all("ImagingStudy")
    fhir_server.replace({**study, "identifier": [one for one in study["identifier"] if "oid" in one["value"]]})
    (standing,) = fhir_server.all("ImagingStudy")
    send(fhir_server, LATER["a corrected patient"])

    (report,) = told(fhir_server)
    assert fhir_server.all("ImagingStudy") == [standing]
    assert "reference" not in report["imagingStudy"][0]


def test_what_was_learned_of_a_server_outlives_the_node_and_ends_with_its_age(
    fhir_server: FhirServer, tmp_path: Path
) -> None:
    dressed(fhir_server, "no transactions, says otherwise")
    peer = ("ehr", fhir_server.url)
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        for holds in (timedelta(days=1), timedelta(days=1), timedelta(0)):
            with FhirClient(fhir_server.url, fit=Fit(memory=KeptMemory(database, peer, holds))) as client:
                client.send(FIRST)
        elsewhere = KeptMemory(database, ("ehr", "https://elsewhere.example/fhir"), timedelta(days=1)).recall()

    asked = [(one["method"], one["url"].removeprefix("/fhir/R4")) for one in fhir_server.log()]
    assert asked.count(("GET", "/metadata")) == 2, "once, and again when it is too old"
    assert asked.count(("POST", "")) == 1, "the refusal of transactions counts for a day"
    assert (elsewhere.offered, elsewhere.refused) == (None, frozenset())


def test_a_document_is_superseded_by_the_report_of_a_server_that_has_learned_to_take_it(
    fhir_server: FhirServer,
) -> None:
    dressed(fhir_server, "documents only")
    send(fhir_server, FIRST)
    fhir_server.set(notOffered=[], **COSTUMES["full"])
    send(fhir_server, LATER["a re-run"])

    states = {one["resourceType"]: one["status"] for one in told(fhir_server)}
    assert states == {"DiagnosticReport": "preliminary", "DocumentReference": "superseded"}


# --- the whole node ---


def test_a_node_brings_and_takes_back_a_document_as_its_settings_say(fhir_server: FhirServer, tmp_path: Path) -> None:
    dressed(fhir_server, "documents only, says otherwise (400)")
    there = {
        "name": "ehr",
        "kind": "fhir",
        "url": fhir_server.url,
        "patient": "logical",
        "profile": {"categories": ["loinc"]},
        "headers": {"X-Api-Key": "the-key"},
        "viewer_url": "https://viewer.example/?StudyInstanceUIDs={study_instance_uid}",
    }
    images = small_chest_ct()[0]
    study = str(images[0].StudyInstanceUID)
    with site(tmp_path / "node", [there]) as node:
        node.run(images)
        (document,) = told(fhir_server)
        fhir_server.set(**COSTUMES["documents only, says otherwise (400)"])
        with node.database.write() as connection:
            actions.withdraw_study(connection, study, ("Wrong protocol.", None), SOMEBODY, datetime.now(UTC))
        node.deliver()
        (after,) = told(fhir_server)
        notes = {row.note for row in node.rows(deliveries)}

    page = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
    assert f'href="https://viewer.example/?StudyInstanceUIDs={study}"' in page
    assert [one["coding"][0]["code"] for one in document["category"]] == ["LP29684-5"]
    assert (document["id"], after["status"]) == (after["id"], "entered-in-error")
    assert "WITHDRAWN" in after["text"]["div"]
    assert notes == {"stored as 1 resource; as a document, since it takes no reports", "taken back: 1 resource"}
    assert [one for one in fhir_server.log() if one["apiKey"] == "the-key"]


# --- kill -9 ---

_CHILD = """
import json, sys
from dicom_node.fhir.client.client import FhirClient
with FhirClient(sys.argv[1]) as client:
    client.send(json.load(open(sys.argv[2])))
"""
#: For each costume the write after which the node is killed while it waits for the answer.
_KILLED_AT: Mapping[str, tuple[str, str]] = {
    "full": MOMENTS["transaction"],
    "no transactions": MOMENTS["report written"],
    "no conditional operations": MOMENTS["observation written"],
    "documents only": ("POST", "^DocumentReference"),
}


@pytest.mark.campaign
@pytest.mark.parametrize("costume", amount(["no conditional operations"], campaign=[*_KILLED_AT]))
def test_a_kill_in_the_midst_leaves_one_report_after_the_restart(
    fhir_server: FhirServer, tmp_path: Path, costume: str
) -> None:
    dressed(fhir_server, costume)
    stored = tmp_path / "bundle.json"
    stored.write_text(json.dumps(FIRST))
    with FaultyEhr(fhir_server).running() as ehr:
        ehr.fail_at(_KILLED_AT[costume], Fault("slow after it was done", None, commits=True, hangs=True))
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", _CHILD, ehr.url, str(stored)]
        with subprocess.Popen(command, env=environment) as child:
            wait_until(lambda: ehr.is_holding, 120.0, "the write to be held")
            child.send_signal(signal.SIGKILL)
        ehr.mend()

    send(fhir_server, FIRST)
    assert_holds_only(fhir_server, FIRST)

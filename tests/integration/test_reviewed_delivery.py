"""A reviewed report in a real FHIR R4 server: it takes the place of the node's own, and of nobody else's."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dicom_node.analysis.context import ReplacedResult, ReportLine
from dicom_node.core.assessment.review import Review, ReviewedFinding
from dicom_node.core.entities import ReviewState
from dicom_node.core.errors import DeliveryRefused
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.builders.retraction import Retraction, retraction_bundle
from dicom_node.fhir.client.client import Delivered, FhirClient, Fit
from dicom_node.fhir.json_types import Json
from dicom_node.fhir.options import FhirProfile
from tests.peers.fhir_server import PEER, FhirServer, node_environment
from tests.support.needs import tool
from tests.support.results.fhir_examples import (
    CONTEXT,
    FINDINGS,
    MODEL,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    STUDY_UID,
    analysis,
    written_objects,
)
from tests.support.results.reviewed_examples import READER, measured

HOUR = timedelta(hours=1)
VERIFIED_AT = CONTEXT.started_at + HOUR


def review(of_job_key: str, at: Any) -> Review:
    """Return a review that removes one finding and measures another."""
    stands, wrong, *others = FINDINGS
    return Review(
        of_job_key=of_job_key, state=ReviewState.MODIFIED, reviewer=READER, decided_at=at,
        findings=(
            ReviewedFinding(finding=stands, said_by_model=stands),
            ReviewedFinding(finding=wrong, said_by_model=wrong, removed=True),
            *(ReviewedFinding(finding=measured(one), said_by_model=one) for one in others),
        ),
    )  # fmt: skip


def built(context: Any) -> Json:
    return dict(build_bundle(analysis(), context, written_objects(), OPTIONS))


FIRST = built(CONTEXT)
REVIEWED = built(
    replace(CONTEXT, job_key="b" * 64, review=review(CONTEXT.job_key, VERIFIED_AT),
            replaced=(ReplacedResult(job_key=CONTEXT.job_key),))
)  # fmt: skip
BOTH = (ReplacedResult(job_key=CONTEXT.job_key), ReplacedResult(job_key="b" * 64, verified=True))
LATER = replace(CONTEXT, job_key="c" * 64, started_at=VERIFIED_AT + HOUR, replaced=BOTH)
AGAIN = built(
    replace(LATER, job_key="d" * 64, review=review("c" * 64, VERIFIED_AT + 2 * HOUR),
            replaced=(*BOTH, ReplacedResult(job_key="c" * 64)))
)  # fmt: skip


@pytest.fixture
def server(fhir_server: FhirServer) -> FhirServer:
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    return fhir_server


def send(server: FhirServer, bundle: Json, fit: Fit = Fit()) -> Delivered:  # noqa: B008 - frozen
    with FhirClient(server.url, fit=fit) as client:
        return client.send(bundle)


def report(server: FhirServer) -> Json:
    (found,) = server.all("DiagnosticReport")
    return found


def statuses(server: FhirServer) -> dict[str, str]:
    return {one["code"]["text"]: one["status"] for one in server.all("Observation")}


@pytest.mark.parametrize("transactions", [True, False])
def test_a_reviewed_report_takes_the_place_of_the_preliminary_one(server: FhirServer, *, transactions: bool) -> None:
    server.set(transactions=transactions)
    send(server, FIRST)
    before = report(server)["id"]
    send(server, REVIEWED)
    there = report(server)
    assert (there["id"], there["status"]) == (before, "final")
    assert there["resultsInterpreter"][0]["display"] == "Dr. Anna Weiß"
    assert set(statuses(server).values()) == {"final"}
    assert len(server.all("Observation")) == len(FINDINGS)


def test_a_reviewed_report_sent_twice_changes_nothing(server: FhirServer) -> None:
    for bundle in (FIRST, REVIEWED, REVIEWED):
        send(server, bundle)
    assert report(server)["status"] == "final"
    assert set(statuses(server).values()) == {"final"}


def test_the_preliminary_report_that_was_late_leaves_the_verified_one_alone(server: FhirServer) -> None:
    send(server, REVIEWED)
    assert send(server, FIRST).superseded
    assert report(server)["status"] == "final"


@pytest.mark.parametrize("status", ["final", "amended", "cancelled"])
def test_what_a_physician_has_finalised_is_not_overwritten_by_a_review(server: FhirServer, status: str) -> None:
    send(server, FIRST)
    decided = report(server) | {"status": status, "conclusion": "By a physician in the EHR."}
    server.replace(decided)
    with pytest.raises(DeliveryRefused, match="a person has decided"):
        send(server, REVIEWED)
    assert report(server)["conclusion"] == "By a physician in the EHR."


def test_a_verified_report_that_a_physician_has_corrected_is_not_overwritten(server: FhirServer) -> None:
    send(server, REVIEWED)
    server.replace(report(server) | {"status": "corrected", "conclusion": "Corrected in the EHR."})
    with pytest.raises(DeliveryRefused, match="a person has decided"):
        send(server, AGAIN)
    assert report(server)["conclusion"] == "Corrected in the EHR."


def test_a_new_result_that_nobody_reviewed_does_not_replace_a_verified_one(server: FhirServer) -> None:
    send(server, REVIEWED)
    with pytest.raises(DeliveryRefused, match="Review the new result"):
        send(server, built(LATER))
    assert report(server)["status"] == "final"


def test_a_later_review_amends_the_verified_report_and_takes_back_its_findings(server: FhirServer) -> None:
    send(server, REVIEWED)
    earlier = {one["id"] for one in server.all("Observation")}
    send(server, AGAIN)
    assert report(server)["status"] == "amended"
    by_id = {one["id"]: one["status"] for one in server.all("Observation")}
    assert {by_id[one] for one in earlier} == {"entered-in-error"}
    assert {status for one, status in by_id.items() if one not in earlier} == {"final"}


def test_a_verified_report_is_taken_back_like_any_other(server: FhirServer) -> None:
    send(server, REVIEWED)
    send(server, retraction_bundle(Retraction(
        study_instance_uid=STUDY_UID, node=CONTEXT.node_uid, reason="Wrong patient", bundles=[REVIEWED, FIRST],
        line=ReportLine(model=MODEL.name, route=CONTEXT.route_name), job_keys=["b" * 64, CONTEXT.job_key],
        at=VERIFIED_AT + HOUR,
    )))  # fmt: skip
    assert report(server)["status"] == "entered-in-error"
    assert set(statuses(server).values()) == {"entered-in-error"}


def test_a_server_that_takes_documents_gets_the_verified_one_in_place(server: FhirServer) -> None:
    for bundle in (FIRST, REVIEWED, REVIEWED):
        send(server, bundle, Fit(profile=FhirProfile(as_document=True)))
    documents = [one for one in server.all("DocumentReference") if "docStatus" in one]
    assert [one["docStatus"] for one in documents] == ["final"]


def test_a_reviewed_bundle_is_valid_r4_by_two_others(tmp_path: Any) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(REVIEWED), encoding="utf-8")
    command = [tool("node", "nodejs"), str(PEER / "validate.cjs"), str(path)]
    done = subprocess.run(command, env=node_environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []

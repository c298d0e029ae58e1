"""The order in the EHR that a report answers: taken where exactly one is the study's, named by its number else."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.client.client import FhirClient, Fit
from dicom_node.fhir.options import FhirProfile
from tests.peers.fhir_server import FhirServer
from tests.support.results.fhir_examples import (
    CONTEXT,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    analysis,
    written_objects,
)

Json = dict[str, Any]
ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
PLACER = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PLAC"}]}
ACCESSION = {"type": ACSN, "system": OPTIONS.accession_system, "value": "ACC1"}


@pytest.fixture
def patient(fhir_server: FhirServer) -> str:
    return f"Patient/{fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)}"


def order(server: FhirServer, patient: str, **changes: Any) -> str:
    """Store an order for this patient, with an encounter; return its place."""
    visit = server.add(
        {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": patient},
        }
    )
    asked = {
        "resourceType": "ServiceRequest",
        "identifier": [ACCESSION],
        "status": "active",
        "intent": "order",
        "subject": {"reference": patient},
        "encounter": {"reference": f"Encounter/{visit}"},
        **changes,
    }
    return f"ServiceRequest/{server.add(asked)}"


def sent(server: FhirServer, profile: FhirProfile | None = None) -> None:
    with FhirClient(server.url, fit=Fit(profile=profile or FhirProfile())) as client:
        client.send(build_bundle(analysis(), CONTEXT, written_objects(), OPTIONS))


def based_on(server: FhirServer) -> tuple[str, bool]:
    """The order that the report refers to, if any; and whether it has an encounter."""
    (report,) = server.all("DiagnosticReport")
    (based,) = report["basedOn"]
    assert based["identifier"]["value"] == "ACC1", "the number stays, whatever is found"
    return based.get("reference", ""), "encounter" in report


def test_a_report_is_based_on_the_only_order_and_belongs_to_its_encounter(
    fhir_server: FhirServer, patient: str
) -> None:
    there = order(fhir_server, patient)
    sent(fhir_server)

    assert based_on(fhir_server) == (there, True)
    for kind in ("Observation", "ImagingStudy"):
        assert {one["basedOn"][0]["reference"] for one in fhir_server.all(kind)} == {there}
        assert all(one["encounter"]["reference"].startswith("Encounter/") for one in fhir_server.all(kind))
    assert not [one for one in fhir_server.log() if "ServiceRequest?" in one["url"]], (
        "the number stays out of addresses"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"identifier": [{**ACCESSION, "system": "urn:oid:1.2.3.78"}]},
        {"identifier": [{**ACCESSION, "type": PLACER}]},
        {"identifier": [{**ACCESSION, "value": "ACC11"}]},
        {"status": "revoked"},
        {"status": "entered-in-error"},
    ],
)
def test_an_order_that_is_not_the_studys_is_not_taken(
    fhir_server: FhirServer, patient: str, changes: dict[str, Any]
) -> None:
    order(fhir_server, patient, **changes)
    sent(fhir_server)

    assert based_on(fhir_server) == ("", False)


def test_neither_of_two_orders_and_none_of_another_patient_is_taken(fhir_server: FhirServer, patient: str) -> None:
    other = f"Patient/{fhir_server.add_patient(PATIENT_SYSTEM, 'another')}"
    order(fhir_server, other)
    sent(fhir_server)
    assert based_on(fhir_server) == ("", False)

    mine = order(fhir_server, patient)
    sent(fhir_server)
    assert based_on(fhir_server) == (mine, True)

    order(fhir_server, patient)
    sent(fhir_server)
    assert based_on(fhir_server) == ("", False)


@pytest.mark.parametrize("status", [403, 404, 400])
def test_an_ehr_that_does_not_show_its_orders_gets_the_report(
    fhir_server: FhirServer, patient: str, status: int
) -> None:
    order(fhir_server, patient)
    fhir_server.set(
        refuse=[{"method": method, "path": "^/ServiceRequest", "status": status} for method in ("GET", "POST")]
    )
    sent(fhir_server)

    assert based_on(fhir_server) == ("", False)


def test_a_document_belongs_to_the_encounter_too(fhir_server: FhirServer, patient: str) -> None:
    there = order(fhir_server, patient)
    sent(fhir_server, FhirProfile(as_document=True))

    (document,) = (one for one in fhir_server.all("DocumentReference") if "docStatus" in one)
    assert there in {one.get("reference") for one in document["context"]["related"]}
    assert document["context"]["encounter"][0]["reference"].startswith("Encounter/")

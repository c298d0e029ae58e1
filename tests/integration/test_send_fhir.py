"""Delivery of stored bundles through the FHIR client to a real R4 server."""

from __future__ import annotations

import hashlib

import pytest

from dicom_node.core.entities import Artifact, ArtifactKind
from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused, DestinationAway
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.kind import Caller
from dicom_node.deliver.outgoing import Outgoing, SentObject
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.json_types import to_json_bytes
from tests.peers.process import free_port
from tests.support.results.fhir_examples import (
    CONTEXT,
    OPTIONS,
    PATIENT_ID,
    PATIENT_SYSTEM,
    analysis,
    written_objects,
)


def stored(folder, uid="1.2.3", content=None):
    content = content or to_json_bytes(build_bundle(analysis(), CONTEXT, written_objects(), OPTIONS))
    path = folder / f"{uid}.json"
    path.write_bytes(content)
    artifact = Artifact(
        uid=uid,
        kind=ArtifactKind.FHIR_BUNDLE,
        media_type="application/fhir+json",
        object_key=uid,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        order=9,
    )
    return Outgoing(artifact, path)


def ehr(url, timeout_s=60):
    return FhirDestination(name="ehr", kind="fhir", url=url).sender(Caller("AINODE", timeout_s))


def test_a_stored_report_arrives_and_twice_is_harmless(fhir_server, tmp_path):
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    for _ in range(2):
        (sent,) = ehr(fhir_server.url).send([stored(tmp_path)])
        assert (sent.artifact_uid, sent.error) == ("1.2.3", None)
        assert sent.note.startswith("stored as ")
    assert len(fhir_server.all("DiagnosticReport")) == 1


def test_bytes_that_are_no_bundle_are_parked_and_the_rest_goes_on(fhir_server, tmp_path):
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    items = [stored(tmp_path, "1.1", b"{"), stored(tmp_path, "1.2", b"[]"), stored(tmp_path, "1.3")]
    first, second, third = ehr(fhir_server.url).send(items)
    assert isinstance(first.error, DeliveryRefused)
    assert isinstance(second.error, DeliveryRefused)
    assert third.error is None


@pytest.mark.parametrize("count", [1, 4])
def test_a_dead_server_defers_every_report(tmp_path, count):
    items = [stored(tmp_path, f"1.{number}") for number in range(count)]
    sent = list(ehr(f"http://127.0.0.1:{free_port()}/fhir").send(items))
    assert [one.artifact_uid for one in sent] == [item.artifact.uid for item in items]
    assert all(isinstance(one.error, DeliveryDeferred) for one in sent)


def sent_object(item):
    made = item.artifact
    return SentObject("1.1", "", "", made.uid, made.kind.value, made.media_type, made.sha256, item.path)


def test_a_report_is_read_back_by_its_identifier_where_that_is_asked_for(fhir_server, tmp_path):
    item = stored(tmp_path)
    asked = FhirDestination(name="ehr", kind="fhir", url=fhir_server.url, verify="query")
    questions = asked.proof_questions(Caller("AINODE", 60))
    assert questions.has([sent_object(item)]) == set()
    fhir_server.add_patient(PATIENT_SYSTEM, PATIENT_ID)
    (sent,) = ehr(fhir_server.url).send([item])
    assert sent.error is None
    assert questions.has([sent_object(item)]) == {"1.2.3"}
    unread = asked.model_copy(update={"ca": tmp_path / "none.pem"}).proof_questions(Caller("AINODE", 60))
    with pytest.raises(DestinationAway, match="cannot be called"):  # and not where the node starts
        unread.has([sent_object(item)])
    by_default = FhirDestination(name="ehr", kind="fhir", url=fhir_server.url)
    assert by_default.proof_questions(Caller("AINODE", 60)) is None

"""Records of the trail as audit messages: valid by the schema of PS3.15 A.5.1, each act what the standard calls it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from dicom_node.core.audit import AuditedAct
from dicom_node.index.people.audit_records import AuditRecord
from dicom_node.people.audit.fhir import audit_event
from dicom_node.people.audit.messages import EVENT_KINDS, AuditSource, audit_message, syslog_line
from tests.support.validators.audit_message import faults

SOURCE = AuditSource("radiology-ai", "AINODE")
STUDY = "1.2.826.0.1.3680043.8.498.101"


def record(act: str = AuditedAct.RESULT_READ, **changes: object) -> AuditRecord:
    values: dict[str, object] = {
        "number": 17, "event_id": "0" * 32, "at": datetime(2026, 11, 20, 8, 0, 1, 5, UTC), "act": act, "actor": "alice",
        "address": "10.0.0.7", "outcome": "0", "study_instance_uid": STUDY, "patient_id": "P-17",
        "issuer_of_patient_id": "HOSPITAL", "detail": '{"route": "GET /api/studies/{uid}", "name": "Zoë <&>"}',
        "key_id": "", "previous": "", "mac": "",
    }  # fmt: skip
    return AuditRecord(**(values | changes))  # type: ignore[arg-type]


RECEIVED = record(AuditedAct.STUDY_RECEIVED, actor="CT1", detail='{"sop_classes": {"1.2.840.10008.5.1.4.1.1.2": 64}}')


def test_every_act_has_its_place_in_the_standard() -> None:
    assert set(EVENT_KINDS) == set(AuditedAct)


@pytest.mark.parametrize("act", AuditedAct)
def test_every_act_is_valid_as_a_message_and_as_a_resource_also_of_nobody_about_nothing(act: AuditedAct) -> None:
    nobody = record(act, actor="node", address="", study_instance_uid="", patient_id="", detail="{}", outcome="12")
    for one in (record(act), nobody):
        assert faults(audit_message(one, SOURCE)) == []
        AuditEvent.model_validate(audit_event(one, SOURCE, lambda _: "urn:oid:1.2.3"))


def test_the_validator_sees_what_the_schema_forbids() -> None:
    good = audit_message(record(), SOURCE).decode()
    for old, new in (
        ("EventActionCode", "EventAction"), ('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"'),
        (' UserIsRequestor="true"', ""), ("<AuditSource", "<ActiveParticipant/><AuditSource"),
        ('codeSystemName="DCM" ', ""),
    ):  # fmt: skip
        assert faults(good.replace(old, new).encode()) != [], old


def test_a_study_that_came_says_who_sent_what_to_whom_about_which_patient() -> None:
    root = ET.fromstring(audit_message(RECEIVED, SOURCE))
    event_id = root.find("EventIdentification/EventID")
    assert event_id is not None
    assert event_id.attrib == {
        "csd-code": "110104", "codeSystemName": "DCM", "originalText": "DICOM Instances Transferred",
    }  # fmt: skip
    sender, receiver = root.findall("ActiveParticipant")
    assert (sender.get("AlternativeUserID"), sender.get("NetworkAccessPointID")) == ("AETITLES=CT1", "10.0.0.7")
    roles = [one.find("RoleIDCode").get("csd-code") for one in (sender, receiver)]  # type: ignore[union-attr]
    assert roles == ["110153", "110152"]
    study, patient = root.findall("ParticipantObjectIdentification")
    assert [one.get("ParticipantObjectID") for one in (study, patient)] == [STUDY, "P-17^^^HOSPITAL"]
    sop_class = study.find("SOPClass")
    assert sop_class is not None
    assert sop_class.attrib == {"UID": "1.2.840.10008.5.1.4.1.1.2", "NumberOfInstances": "64"}


@pytest.mark.parametrize(("outcome", "priority"), [("0", 85), ("4", 84)])
def test_a_line_of_syslog_names_facility_time_and_message_type(outcome: str, priority: int) -> None:
    line = syslog_line(record(outcome=outcome), SOURCE).decode()
    header = rf"<{priority}>1 2026-11-20T08:00:01\.000005Z \S+ dicom-node [0-9]+ DICOM\+RFC3881 - \ufeff<AuditMessage>"
    assert re.match(header, line), line[:120]


def test_a_resource_names_patient_and_study_by_identifiers_the_site_knows() -> None:
    event = audit_event(RECEIVED, SOURCE, {"HOSPITAL": "urn:oid:1.2.3"}.__getitem__)
    patient, study = event["entity"]
    assert patient["what"]["identifier"] == {"value": "P-17", "system": "urn:oid:1.2.3"}
    assert study["what"]["identifier"] == {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}
    assert event["agent"][0]["network"] == {"address": "10.0.0.7", "type": "2"}

"""A record of the trail as others read it: an audit message (DICOM PS3.15 A.5), in a line of syslog (RFC 5424)."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from xml.etree import ElementTree as ET

from dicom_node.core.audit import AuditedAct, AuditOutcome
from dicom_node.index.people.audit_records import AuditRecord

_DCM, _RFC_3881 = "DCM", "RFC-3881"
#: The scheme of the node's own codes: the second type of an event names the act exactly.
OWN_SCHEME = "99DICOMNODE"

Code = tuple[str, str]
_USED_LOG = ("110101", "Audit Log Used")
_BEGIN = ("110102", "Begin Transferring DICOM Instances")
_ACCESSED = ("110103", "DICOM Instances Accessed")
_TRANSFERRED = ("110104", "DICOM Instances Transferred")
_ALERT = ("110113", "Security Alert")
_SIGNED = ("110114", "User Authentication")
_ACTIVITY = ("110100", "Application Activity")
_SOFTWARE = ("110131", "Software Configuration")
_SOURCE, _DESTINATION = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
_APPLICATION = ("110150", "Application")


@dataclass(frozen=True, slots=True)
class EventKind:
    """What an act is in the standard: EventID (CID 400), EventActionCode, EventTypeCode (CID 401), if it has one."""

    event_id: Code
    action: str
    event_type: Code | None = None


EVENT_KINDS: Mapping[AuditedAct, EventKind] = {
    AuditedAct.APPLICATION_STARTED: EventKind(_ACTIVITY, "E", ("110120", "Application Start")),
    AuditedAct.APPLICATION_STOPPED: EventKind(_ACTIVITY, "E", ("110121", "Application Stop")),
    AuditedAct.SETTINGS_IN_FORCE: EventKind(_ALERT, "E", _SOFTWARE),
    AuditedAct.SETTINGS_RELOADED: EventKind(_ALERT, "E", _SOFTWARE),
    AuditedAct.SIGN_IN: EventKind(_SIGNED, "E", ("110122", "Login")),
    AuditedAct.SIGN_OUT: EventKind(_SIGNED, "E", ("110123", "Logout")),
    AuditedAct.ACCOUNT_CHANGED: EventKind(_ALERT, "E", ("110137", "User Security Attributes Changed")),
    AuditedAct.KEY_CHANGED: EventKind(_ALERT, "E", ("110129", "Security Configuration")),
    AuditedAct.ACCESS_REFUSED: EventKind(_ALERT, "E", ("110132", "Use of Restricted Function")),
    AuditedAct.ASSOCIATION_REFUSED: EventKind(_ALERT, "E", ("110126", "Node Authentication")),
    AuditedAct.STUDY_RECEIVED: EventKind(_TRANSFERRED, "C"),
    AuditedAct.STUDY_SENT: EventKind(_TRANSFERRED, "R"),
    AuditedAct.STUDY_IMPORTED: EventKind(("110107", "Import"), "C"),
    AuditedAct.STUDY_RETRIEVED: EventKind(_BEGIN, "E"),
    AuditedAct.RESULT_READ: EventKind(_ACCESSED, "R"),
    AuditedAct.IMAGES_READ: EventKind(_ACCESSED, "R"),
    AuditedAct.HISTORY_READ: EventKind(("110110", "Patient Record"), "R"),
    AuditedAct.QUERY: EventKind(("110112", "Query"), "E"),
    AuditedAct.EXPORT: EventKind(("110106", "Export"), "R"),
    AuditedAct.RETRY: EventKind(_BEGIN, "E"),
    AuditedAct.RERUN: EventKind(_ACCESSED, "U"),
    AuditedAct.WITHDRAWAL: EventKind(_ACCESSED, "D"),
    AuditedAct.DISCARD: EventKind(_ACCESSED, "D"),
    AuditedAct.HOLD: EventKind(_ACCESSED, "U"),
    AuditedAct.RELEASE: EventKind(_ACCESSED, "U"),
    AuditedAct.PURGE: EventKind(_ACTIVITY, "E"),
    AuditedAct.ALARM_ACKNOWLEDGED: EventKind(_ACTIVITY, "E"),
    AuditedAct.DELETION: EventKind(("110105", "DICOM Study Deleted"), "D"),
    AuditedAct.REVIEW: EventKind(_ACCESSED, "U"),
    AuditedAct.MODEL_DECISION: EventKind(_ALERT, "E", _SOFTWARE),
    AuditedAct.DESTINATION_CHANGED: EventKind(_ALERT, "E", _SOFTWARE),
    AuditedAct.ROUTE_CHANGED: EventKind(_ALERT, "E", _SOFTWARE),
    AuditedAct.AUDIT_READ: EventKind(_USED_LOG, "R"),
    AuditedAct.AUDIT_ACCEPTED: EventKind(_ALERT, "E", ("110129", "Security Configuration")),
    AuditedAct.AUDIT_GAP: EventKind(_ALERT, "E", ("110133", "Audit Recording Stopped")),
}


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who sends audit messages: the id of the audit source, and the node's AE title."""

    source_id: str
    ae_title: str


def kind_of(record: AuditRecord) -> EventKind:
    """Return what the act of a record is in the standard; of an act that this version does not know, no more than that
    the application did something."""
    try:
        return EVENT_KINDS[AuditedAct(record.act)]
    except ValueError:
        return EventKind(_ACTIVITY, "E")


# --- the message (PS3.15 A.5.1) ----------------------------------------------------------------------------------


def audit_message(record: AuditRecord, source: AuditSource) -> bytes:
    """Return a record as an AuditMessage in XML, UTF-8."""
    kind, root = kind_of(record), ET.Element("AuditMessage")
    event = ET.SubElement(root, "EventIdentification", {
        "EventActionCode": kind.action, "EventDateTime": record.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": record.outcome})  # fmt: skip
    _code(event, "EventID", kind.event_id)
    if kind.event_type is not None:
        _code(event, "EventTypeCode", kind.event_type)
    _code(event, "EventTypeCode", (record.act, record.act.replace("-", " ")), OWN_SCHEME)
    _participants(root, record, source)
    where = ET.SubElement(root, "AuditSourceIdentification", {"AuditSourceID": source.source_id})
    ET.SubElement(where, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server process
    _objects(root, record, kind, source)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=False)
    return written


def _participants(root: ET.Element, record: AuditRecord, source: AuditSource) -> None:
    """Say who acted, on which application, and where something went."""
    act, detail = record.act, json.loads(record.detail)
    is_transfer = act in (AuditedAct.STUDY_RECEIVED, AuditedAct.STUDY_SENT)
    own_role = _SOURCE if act == AuditedAct.STUDY_SENT else _DESTINATION if is_transfer else _APPLICATION
    is_peer = act in (AuditedAct.STUDY_RECEIVED, AuditedAct.ASSOCIATION_REFUSED)
    acts_itself = record.actor == "node"
    if not acts_itself:
        about = {"AlternativeUserID": f"AETITLES={record.actor}"} if is_peer else {}
        _participant(root, record.actor, _SOURCE if is_peer else None, about | _access_point(record.address))
    own = {"AlternativeUserID": f"AETITLES={source.ae_title}", "requestor": "true" if acts_itself else "false"}
    _participant(root, f"{os.getpid()}", own_role, own | _access_point(socket.gethostname()))
    if act == AuditedAct.STUDY_SENT:
        _participant(root, str(detail.get("destination", "")), _DESTINATION, {"requestor": "false"})


def _participant(root: ET.Element, user_id: str, role: Code | None, about: Mapping[str, str]) -> None:
    told = {name: value for name, value in about.items() if name != "requestor"}
    requestor = about.get("requestor", "true")
    one = ET.SubElement(root, "ActiveParticipant", {"UserID": user_id, **told, "UserIsRequestor": requestor})
    if role is not None:
        _code(one, "RoleIDCode", role)


def _access_point(address: str) -> dict[str, str]:
    """Return an address with what kind it is: 2 for an IP address, 1 for a machine's name."""
    if not address:
        return {}
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "1"}
    return {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2"}


def _objects(root: ET.Element, record: AuditRecord, kind: EventKind, source: AuditSource) -> None:
    if record.study_instance_uid:
        study = _object(root, record.study_instance_uid, ("2", "3"), ("110180", "Study Instance UID"), _DCM)
        _detail(study, "record", str(record.number))
        _detail(study, "detail", record.detail)
        for uid, count in _sop_classes(record):
            ET.SubElement(study, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})
    if record.patient_id:
        number = patient_number(record)
        _object(root, number, ("1", "1"), ("2", "Patient Number"), _RFC_3881)
    if kind.event_id == ("110112", "Query"):
        query = _object(root, str(record.number), ("2", "24"), ("10", "Search Criteria"), _RFC_3881)
        ET.SubElement(query, "ParticipantObjectQuery").text = _base64(record.detail)
    elif kind.event_id == _USED_LOG:
        log = _object(root, f"urn:dicom-node:audit:{source.source_id}", ("2", "13"), ("12", "URI"), _RFC_3881)
        ET.SubElement(log, "ParticipantObjectName").text = "Security Audit Log"
    elif kind.event_id == _ALERT:
        about = record.address or socket.gethostname()
        _detail(_object(root, about, ("2", None), ("110182", "Node ID"), _DCM), "Alert Description", record.detail)


def _object(root: ET.Element, object_id: str, kind: tuple[str, str | None], id_type: Code, scheme: str) -> ET.Element:
    """Add a participant object; `kind` is its type and role."""
    attributes = {"ParticipantObjectID": object_id, "ParticipantObjectTypeCode": kind[0]}
    if kind[1] is not None:
        attributes["ParticipantObjectTypeCodeRole"] = kind[1]
    one = ET.SubElement(root, "ParticipantObjectIdentification", attributes)
    _code(one, "ParticipantObjectIDTypeCode", id_type, scheme)
    return one


def _code(parent: ET.Element, name: str, code: Code, scheme: str = _DCM) -> None:
    ET.SubElement(parent, name, {"csd-code": code[0], "codeSystemName": scheme, "originalText": code[1]})


def _detail(parent: ET.Element, name: str, value: str) -> None:
    ET.SubElement(parent, "ParticipantObjectDetail", {"type": name, "value": _base64(value)})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _sop_classes(record: AuditRecord) -> Iterator[tuple[str, int]]:
    found: Any = json.loads(record.detail).get("sop_classes", {})
    yield from found.items()


def patient_number(record: AuditRecord) -> str:
    """Return the patient's number as HL7 v2 writes it, with its issuer where one is known."""
    issuer = record.issuer_of_patient_id
    return f"{record.patient_id}^^^{issuer}" if issuer else record.patient_id


# --- the line of syslog (RFC 5424; PS3.15 A.6) ---------------------------------------------------------------------

#: Facility 10 (security and authorization) in severity notice, and warning for what did not succeed.
_NOTICE, _WARNING = 10 * 8 + 5, 10 * 8 + 4


def syslog_line(record: AuditRecord, source: AuditSource) -> bytes:
    """Return a record as one syslog message, without framing: header, no structured data, BOM, audit message."""
    priority = _NOTICE if record.outcome == AuditOutcome.SUCCESS else _WARNING
    at = record.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    host = "".join(letter for letter in socket.gethostname() if "!" <= letter <= "~")[:255] or "-"
    header = f"<{priority}>1 {at} {host} dicom-node {os.getpid()} DICOM+RFC3881 - "
    return header.encode() + b"\xef\xbb\xbf" + audit_message(record, source)

"""A record of the trail as a FHIR R4 AuditEvent: agents, source and entities as IHE BALP has them for acts that are no
FHIR interactions (patient, data, query)."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Callable
from datetime import UTC
from typing import Any

from dicom_node.core.audit import AuditedAct
from dicom_node.index.people.audit_records import AuditRecord
from dicom_node.people.audit.messages import OWN_SCHEME, AuditSource, Code, kind_of

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_OWN_SYSTEM = f"urn:dicom-node:{OWN_SCHEME}"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_AGENT_TYPE = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"


def audit_event(record: AuditRecord, source: AuditSource, system_of: Callable[[str], str]) -> dict[str, Any]:
    """Return a record as an AuditEvent; `system_of` gives the identifier system of an issuer of patient numbers, ""
    where the site has named none."""
    kind = kind_of(record)
    types = [kind.event_type] if kind.event_type is not None else []
    own = {"system": _OWN_SYSTEM, "code": record.act, "display": record.act.replace("-", " ")}
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "type": _coding(_DCM, kind.event_id),
        "subtype": [*(_coding(_DCM, one) for one in types), own],
        "action": kind.action,
        "recorded": record.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "outcome": record.outcome,
        "agent": _agents(record, source),
        "source": {
            "observer": _named(source.source_id),
            "type": [_coding(_SOURCE_TYPE, ("4", "Application Server"))],
        },
    }
    entities = [*_patient(record, system_of), *_study(record), *_query(record)]
    return event | ({"entity": entities} if entities else {})


def _agents(record: AuditRecord, source: AuditSource) -> list[dict[str, Any]]:
    """Return who acted, then the application; the other end of a transfer is one of the two, or a third."""
    act, acts_itself = record.act, record.actor == "node"
    is_sent = act == AuditedAct.STUDY_SENT
    is_peer = act in (AuditedAct.STUDY_RECEIVED, AuditedAct.ASSOCIATION_REFUSED)
    own_role = ("110153", "Source Role ID") if is_sent else ("110152", "Destination Role ID")
    agents = [{"type": _concept(_DCM, own_role), "who": _named(source.ae_title), "requestor": acts_itself}]
    if not acts_itself:
        role = _concept(_DCM, ("110153", "Source Role ID")) if is_peer else _person()
        agents.insert(0, {"type": role, "who": _named(record.actor), "requestor": True, **_network(record.address)})
    if is_sent:
        to = str(json.loads(record.detail).get("destination", ""))
        role = _concept(_DCM, ("110152", "Destination Role ID"))
        agents.append({"type": role, "who": _named(to), "requestor": False})
    return agents


def _person() -> dict[str, Any]:
    return _concept(_PARTICIPATION, ("IRCP", "information recipient"))


def _network(address: str) -> dict[str, Any]:
    if not address:
        return {}
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"network": {"address": address, "type": "1"}}
    return {"network": {"address": address, "type": "2"}}


def _patient(record: AuditRecord, system_of: Callable[[str], str]) -> list[dict[str, Any]]:
    if not record.patient_id:
        return []
    identifier = {"value": record.patient_id}
    if system := system_of(record.issuer_of_patient_id):
        identifier["system"] = system
    elif record.issuer_of_patient_id:
        identifier["assigner"] = {"display": record.issuer_of_patient_id}  # type: ignore[assignment]
    return [
        {
            "what": {"type": "Patient", "identifier": identifier},
            "type": _coding(_ENTITY_TYPE, ("1", "Person")),
            "role": _coding(_OBJECT_ROLE, ("1", "Patient")),
        }
    ]


def _study(record: AuditRecord) -> list[dict[str, Any]]:
    if not record.study_instance_uid:
        return []
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{record.study_instance_uid}"}
    return [
        {
            "what": {"type": "ImagingStudy", "identifier": identifier},
            "type": _coding(_ENTITY_TYPE, ("2", "System Object")),
            "role": _coding(_OBJECT_ROLE, ("3", "Report")),
            "detail": [
                {"type": "record", "valueString": str(record.number)},
                {"type": "detail", "valueString": record.detail},
            ],
        }
    ]


def _query(record: AuditRecord) -> list[dict[str, Any]]:
    """Return what was asked, or where no study was named what else is known of the act."""
    if record.study_instance_uid and record.act != AuditedAct.QUERY:
        return []
    kind = {"type": _coding(_ENTITY_TYPE, ("2", "System Object"))}
    if record.act == AuditedAct.QUERY:
        query = base64.b64encode(record.detail.encode()).decode()
        return [kind | {"role": _coding(_OBJECT_ROLE, ("24", "Query")), "query": query}]
    told = [{"type": "record", "valueString": str(record.number)}, {"type": "detail", "valueString": record.detail}]
    return [kind | {"role": _coding(_OBJECT_ROLE, ("13", "Security Resource")), "name": record.act, "detail": told}]


def _coding(system: str, code: Code) -> dict[str, str]:
    return {"system": system, "code": code[0], "display": code[1]}


def _concept(system: str, code: Code) -> dict[str, Any]:
    return {"coding": [_coding(system, code)]}


def _named(name: str) -> dict[str, Any]:
    return {"identifier": {"value": name or "unknown"}, "display": name or "unknown"}

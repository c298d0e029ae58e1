"""A batch of acts as records of the chain: what each says, sealed upon the one before."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from dicom_node.core.audit import AuditedEvent
from dicom_node.core.entities import PatientNumber
from dicom_node.index.people.audit_records import AuditRecord, entered_events, patients_of
from dicom_node.people.audit.pending import PendingAct
from dicom_node.people.audit.seal import seal_of

#: Made once: `json.dumps` with arguments makes one for each text.
_as_json = json.JSONEncoder(sort_keys=True, default=str).encode


def not_entered(connection: Connection, batch: Sequence[PendingAct]) -> list[PendingAct]:
    """Return what has no record yet; what a crash left behind may have one."""
    known = entered_events(connection, [one.event_id for one in batch]) if batch else set()
    by_id = {one.event_id: one for one in batch if one.event_id not in known}
    return list(by_id.values())


def patients_in(connection: Connection, batch: Collection[PendingAct]) -> Mapping[str, PatientNumber]:
    """Return whose the studies are that a batch tells of."""
    uids = {one.event.study_instance_uid for one in batch if one.event.study_instance_uid}
    return patients_of(connection, uids) if uids else {}


def chained(
    batch: Sequence[PendingAct], patients: Mapping[str, PatientNumber], keys: Mapping[str, bytes], head: tuple[int, str]
) -> list[AuditRecord]:
    """Return the batch as sealed records, each upon the one before, the first upon `head`; the newest
    key seals them."""
    key_id = list(keys)[-1]
    number, previous = head
    records = []
    for pending in batch:
        event = pending.event
        if not event.patient_id and (patient := patients.get(event.study_instance_uid)):
            event = replace(event, patient_id=patient.value, issuer_of_patient_id=patient.authority)
        number += 1
        unsealed = _unsealed(pending, event, (number, previous), key_id)
        previous = seal_of(unsealed, keys[key_id])
        records.append(replace(unsealed, mac=previous))
    return records


def _unsealed(pending: PendingAct, event: AuditedEvent, place: tuple[int, str], key_id: str) -> AuditRecord:
    actor = event.actor
    told = {"roles": sorted(actor.roles), "person": actor.key}
    # What the act says of itself is never written over.
    detail = {**{key: value for key, value in told.items() if value}, **event.detail}
    return AuditRecord(
        number=place[0],
        event_id=pending.event_id,
        at=pending.at,
        act=event.act,
        actor=_plain(event.actor.name, 128),
        address=_plain(event.address, 64),
        outcome=event.outcome,
        study_instance_uid=_plain(event.study_instance_uid, 64),
        patient_id=_plain(event.patient_id, 64),
        issuer_of_patient_id=_plain(event.issuer_of_patient_id, 64),
        detail=_as_json(detail),
        key_id=key_id,
        previous=place[1],
        mac="",
    )


def _plain(text: str, most: int) -> str:
    """Return what every database can keep of a text that may come from a peer or a terminal."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text[:most]

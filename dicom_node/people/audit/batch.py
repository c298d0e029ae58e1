"""A batch of acts as records of the chain: what each says, sealed upon the one before."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from dicom_node.core.entities import PatientNumber
from dicom_node.index.people.audit_records import entered_events, patients_of
from dicom_node.people.audit.pending import PendingAct
from dicom_node.people.audit.seal import seal_of_values

#: Made once: `json.dumps` with arguments makes one for each text.
_as_json = json.JSONEncoder(sort_keys=True, default=str).encode


def not_entered(connection: Connection, batch: Sequence[PendingAct]) -> list[PendingAct]:
    """Return what has no record yet; what a crash left behind may have one."""
    doubtful = [one.event_id for one in batch if not one.is_new]
    known = entered_events(connection, doubtful) if doubtful else set()
    by_id = {one.event_id: one for one in batch if one.event_id not in known}
    return list(by_id.values())


def patients_in(connection: Connection, batch: Collection[PendingAct]) -> Mapping[str, PatientNumber]:
    """Return whose the studies are that a batch tells of."""
    uids = {one.event.study_instance_uid for one in batch if one.event.study_instance_uid}
    return patients_of(connection, uids) if uids else {}


def chained(
    batch: Sequence[PendingAct], patients: Mapping[str, PatientNumber], keys: Mapping[str, bytes], head: tuple[int, str]
) -> list[dict[str, Any]]:
    """Return the batch as sealed records, by column, each upon the one before, the first upon `head`; the newest
    key seals them."""
    key_id, key = list(keys.items())[-1]
    number, previous = head
    rows = []
    for pending in batch:
        number += 1
        row = _told(pending, patients)
        row |= {"number": number, "key_id": key_id, "previous": previous}
        row["mac"] = previous = seal_of_values(row, key)
        rows.append(row)
    return rows


def _told(pending: PendingAct, patients: Mapping[str, PatientNumber]) -> dict[str, Any]:
    """Return what a record says of its act, by column."""
    event, actor = pending.event, pending.event.actor
    patient_id, issuer = event.patient_id, event.issuer_of_patient_id
    if not patient_id and (patient := patients.get(event.study_instance_uid)):
        patient_id, issuer = patient.value, patient.authority
    told = {"roles": sorted(actor.roles), "person": actor.key}
    # What the act says of itself is never written over.
    detail = {**{key: value for key, value in told.items() if value}, **event.detail}
    return {
        "event_id": pending.event_id,
        "at": pending.at,
        "act": event.act,
        "actor": _plain(actor.name, 128),
        "address": _plain(event.address, 64),
        "outcome": event.outcome,
        "study_instance_uid": _plain(event.study_instance_uid, 64),
        "patient_id": _plain(patient_id, 64),
        "issuer_of_patient_id": _plain(issuer, 64),
        "detail": _as_json(detail) if detail else "{}",
    }


def _plain(text: str, most: int) -> str:
    """Return what every database can keep of a text that may come from a peer or a terminal."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text[:most]

"""An act on its way into the audit trail, and the line that it is in the file for what waits."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import NodeError
from dicom_node.core.principal import Principal, UserRole

#: Made once: `json.dumps` with arguments makes one for each text.
_as_json = json.JSONEncoder(default=str).encode


@dataclass(slots=True)
class PendingAct:
    """An act on its way into the trail; `is_done` when it is there, or `error` says why it cannot be."""

    event: AuditedEvent
    event_id: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_done: bool = False
    error: NodeError | None = None


def line_of(pending: PendingAct) -> str:
    """Return the act as a line of JSON."""
    event = pending.event
    actor = event.actor
    return _as_json(
        {
            "act": event.act, "actor": actor.name, "address": event.address, "outcome": event.outcome,
            "study_instance_uid": event.study_instance_uid, "patient_id": event.patient_id,
            "issuer_of_patient_id": event.issuer_of_patient_id, "detail": dict(event.detail),
            "roles": sorted(actor.roles), "person": actor.key,
            "event_id": pending.event_id, "at": pending.at.isoformat(),
        }
    )  # fmt: skip


def pending_of(line: Mapping[str, object]) -> PendingAct:
    """Return what `line_of` wrote. Raises `KeyError`, `ValueError` or `TypeError` for what is not known here."""
    known: dict[str, object] = dict(line)
    event_id, at = str(known.pop("event_id")), datetime.fromisoformat(str(known.pop("at")))
    roles = known.pop("roles")
    assert isinstance(roles, Collection)
    person = str(known.pop("person", ""))  # not told before 0022
    actor = Principal(str(known.pop("actor")), frozenset(UserRole(one) for one in roles), person)
    act, outcome = AuditedAct(str(known.pop("act"))), AuditOutcome(str(known.pop("outcome")))
    return PendingAct(AuditedEvent(act=act, outcome=outcome, actor=actor, **known), event_id, at)  # type: ignore[arg-type]

"""An act on its way into the audit trail, and the line that it is in the file for what waits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted

from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.errors import NodeError
from dicom_node.core.principal import Principal, UserRole

#: Made once: `json.dumps` with arguments makes one for each text.
_as_json = json.JSONEncoder(default=str).encode
_NAMES = (
    "act", "actor", "address", "outcome", "study_instance_uid", "patient_id", "issuer_of_patient_id", "detail", "roles",
    "person", "event_id", "at",
)  # fmt: skip
_FORM = "{" + ", ".join(f'"{name}": %s' for name in _NAMES) + "}"


@dataclass(slots=True)
class PendingAct:
    """An act on its way into the trail; `is_done` when it is there, or `error` says why it cannot be.

    `is_new`: it came into being here, and nobody has tried to enter it; so it has no record.
    """

    event: AuditedEvent
    event_id: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_new: bool = False
    is_done: bool = False
    error: NodeError | None = None


def new_event_id() -> str:
    """Return an id that no other act has. It begins with the time: the ids' index then grows at its end, where an id of
    nothing but chance has a page of its own written for every record."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def line_of(pending: PendingAct) -> str:
    """Return the act as a line of JSON, which its sender waits for; most of it is put together without the encoder."""
    event = pending.event
    actor = event.actor
    return _FORM % (
        _quoted(event.act), _quoted(actor.name), _quoted(event.address), _quoted(event.outcome),
        _quoted(event.study_instance_uid), _quoted(event.patient_id), _quoted(event.issuer_of_patient_id),
        _as_json(dict(event.detail)) if event.detail else "{}", _as_json(sorted(actor.roles)) if actor.roles else "[]",
        _quoted(actor.key), _quoted(pending.event_id), _quoted(pending.at.isoformat()),
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

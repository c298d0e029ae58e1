"""What the node writes into the audit trail of its own work: studies that came, and callers that were turned away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.principal import NODE, Principal
from dicom_node.index.database import Database
from dicom_node.index.received.associations import Carried, carried_unaudited, mark_audited


@dataclass(frozen=True, slots=True)
class ReceivedStudies:
    """Writes each study down once for each association that brought objects of it, when that has ended; however it
    came (C-STORE, STOW-RS, upload, folder, retrieval), and though the process that took it has died."""

    database: Database
    audit: Audit

    def run(self) -> None:
        """Look for associations that have ended since the last look."""
        with self.database.read() as connection:
            found = carried_unaudited(connection)
        if not found:
            return
        for one in found:
            self.audit.note(_received(one), f"received:{one.association_id}:{one.study_instance_uid}")
        with self.database.write() as connection:
            mark_audited(connection, found)


def _received(one: Carried) -> AuditedEvent:
    return AuditedEvent(
        act=AuditedAct.STUDY_RECEIVED,
        actor=Principal(one.calling_ae_title or "unknown"),
        address=one.source_host,
        outcome=AuditOutcome.SUCCESS if one.outcome == "released" else AuditOutcome.MINOR_FAILURE,
        study_instance_uid=one.study_instance_uid,
        detail={
            "association": one.association_id, "objects": one.instances, "ended": one.outcome, "revision": one.revision,
            "called_ae_title": one.called_ae_title, "sop_classes": dict(one.sop_classes),
            "from": one.opened_at.isoformat(), "to": one.closed_at.isoformat(),
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RefusedCaller:
    """A caller that was not let in; `count` is above one where more of its calls are told together.

    `protocol`: what it was to speak, ``dicom`` or ``hl7``.
    """

    calling_ae_title: str
    host: str
    why: str
    count: int = 1
    protocol: str = "dicom"


def note_turned_away(audit: Audit, callers: Iterable[RefusedCaller]) -> None:
    """Write callers down that were not let in."""
    for one in callers:
        audit.note(
            AuditedEvent(
                act=AuditedAct.ASSOCIATION_REFUSED,
                actor=Principal(one.calling_ae_title or "unknown"),
                address=one.host,
                outcome=AuditOutcome.SERIOUS_FAILURE,
                detail={"why": one.why, "count": one.count, "protocol": one.protocol},
            )
        )


class SentBatch(Protocol):
    """What a destination got at once: the objects of one result, or one event."""

    @property
    def key(self) -> str: ...
    @property
    def study_instance_uid(self) -> str: ...


def note_sent(audit: Audit, destination: str, batch: SentBatch, failed: int) -> None:
    """Write down that a destination took a batch, all but so many `failed` parts of it."""
    audit.note(
        AuditedEvent(
            act=AuditedAct.STUDY_SENT,
            actor=NODE,
            outcome=AuditOutcome.MINOR_FAILURE if failed else AuditOutcome.SUCCESS,
            study_instance_uid=batch.study_instance_uid,
            detail={
                "destination": destination,
                "what": batch.key,
                "objects": len(getattr(batch, "items", "1")) - failed,
            },
        )
    )

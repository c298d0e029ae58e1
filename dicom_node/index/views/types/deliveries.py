"""What is owed to destinations, and how much there is of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dicom_node.core.entities import ArtifactKind, DeliveryState, JobState, StudyState


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """One object on its way to one destination. `note` is the last answer of the destination.

    `warning` is the status with which it was stored otherwise than it was sent, such as ``0xB000``; empty: none.
    `proof` is how the destination was proved to have it, `COMMITMENT` or `QUERY`, empty while it is not; `proof_note`
    is what was answered, or why there is no proof.
    """

    id: int
    study_instance_uid: str
    artifact_uid: str
    artifact_kind: ArtifactKind
    artifact_description: str
    job_key: str
    destination: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    note: str
    created_at: datetime
    sent_at: datetime | None
    warning: str = ""
    proof: str = ""
    proof_note: str = ""
    transaction_uid: str = ""
    proved_at: datetime | None = None
    #: How often it was sent again, because it had not arrived, and because it was there and then was not.
    times_missing: int = 0
    times_lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEvent:
    """One event that a destination has not been told of, and that waits or is parked; `note` is its last answer."""

    id: str
    type: str
    destination: str
    state: DeliveryState
    attempts: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationCounts:
    """What waits for one destination, and how much of what it took it is proved to have."""

    destination: str
    pending: int
    parked: int
    sent: int = 0
    committed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much of everything there is; every state is listed, also when it is empty."""

    studies: Mapping[StudyState, int]
    jobs: Mapping[JobState, int]
    deliveries: Mapping[DeliveryState, int]
    destinations: Sequence[DestinationCounts]
    oldest_pending_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeToken:
    """A point in the history of the index; unequal tokens mean that something happened in between."""

    updated_at: datetime | None
    event_id: int

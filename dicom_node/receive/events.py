"""What the consumer is told, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from dicom_node.storage.journal import Record


@dataclass(frozen=True, slots=True)
class RecordStored:
    """A record is in a slot. `found`: by the scan at a start, so it may be cut off and its payload is checked."""

    slot: int
    sequence: int
    study_instance_uid: str
    found: bool


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """An association ended (released, aborted, lost); comes after its objects."""

    association_id: str
    outcome: str
    at_s: float


@dataclass(frozen=True, slots=True)
class AcceptorDied:
    """The acceptor died, and every association with it."""

    at_s: float


ReceiveEvent = RecordStored | AssociationClosed | AcceptorDied


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Where the journal lies, and how many slots it has."""

    folder: Path
    slots: int


@dataclass(frozen=True, slots=True)
class ConsumerLinks:
    """Whom the consumer tells: whose records (slot, sequence) have settled; why nothing can be taken now ("" when it
    can); and of requests for storage commitment, in the transaction that follows every object acknowledged before."""

    freed: Callable[[Sequence[tuple[int, int]]], None]
    trouble: Callable[[str], None]
    commitment_requested: Callable[[Connection, Record, bytes], None]

"""One retrieval's way into the node: objects go through `Intake` on an association of their own and are counted."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.errors import IndexUnavailable, NoRoomLeft, RetrievalStopped
from dicom_node.headers import StoreStatus
from dicom_node.index.database import Database
from dicom_node.index.intake import close_association
from dicom_node.intake import Intake, Received
from dicom_node.model import Sender
from dicom_node.spool import Buffer


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a retrieval has come. `expected` is `None` until the source has told, or when it never does."""

    expected: int | None = None
    received: int = 0
    failed: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """What arrivals need of the node: where objects go, where associations are noted, the largest object taken."""

    intake: Intake
    database: Database
    max_object_bytes: int


@dataclass(frozen=True, slots=True)
class Names:
    """What an object is called by whoever sends it, and how it is encoded."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Arrivals:
    """Takes the objects of one retrieval. Used by one thread; `progress` may be read by any."""

    def __init__(self, door: Door, sender: Sender, stopped: Callable[[], bool] = lambda: False) -> None:
        """`stopped` tells that the node is ending: the next object then raises `RetrievalStopped`."""
        self._door = door
        self._sender = sender
        self._stopped = stopped
        self._lock = threading.Lock()
        self._association_id = str(uuid.uuid4())
        self._received: set[str] = set()
        self._refused: dict[str, str] = {}
        self._expected: int | None = None
        self._elsewhere = 0
        self._failed_there = 0

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        with self._lock:
            failed = max(len(self._refused), self._failed_there)
            reason = next(iter(self._refused.values()), "")
            return Progress(self._expected, len(self._received) + self._elsewhere, failed, reason)

    def expect(self, count: int | None) -> None:
        """Note how many objects the source says there are."""
        with self._lock:
            self._expected = count

    def count_elsewhere(self, received: int, failed: int) -> None:
        """Note how many objects came through another door (C-MOVE: the DICOM listener)."""
        with self._lock:
            self._elsewhere, self._failed_there = received, failed

    def count_failed_there(self, failed: int) -> None:
        """Note how many objects the source says it could not send, those refused here among them."""
        with self._lock:
            self._failed_there = failed

    def has(self, sop_instance_uid: str) -> bool:
        """Tell whether this object has come and was stored."""
        return sop_instance_uid in self._received

    def check_stopped(self) -> None:
        """Raise `RetrievalStopped` when the node is ending."""
        if self._stopped():
            raise RetrievalStopped("The node was stopped during this retrieval.")

    def take(self, names: Names, pieces: Iterable[Buffer]) -> StoreStatus:
        """Store one object; `pieces` are its encoded data set and are read to their end. Returns the status.

        Raises `RetrievalStopped`, and whatever `pieces` raise.
        """
        self.check_stopped()
        data_set = self._gathered(pieces)
        status = StoreStatus.CANNOT_UNDERSTAND if data_set is None else self._store(names, data_set)
        self._count(names.sop_instance_uid, status)
        return status

    def refuse(self, sop_instance_uid: str, why: str) -> None:
        """Count an object that did not come, or in a form that cannot be stored; the first reason stays."""
        with self._lock:
            self._refused.setdefault(sop_instance_uid, why)

    def close(self, outcome: str) -> None:
        """Note that nothing more comes: released, aborted or lost. A database that is away closes it by its silence."""
        try:
            with self._door.database.write() as connection:
                close_association(connection, self._association_id, outcome, datetime.now(UTC))
        except IndexUnavailable:
            return

    def _gathered(self, pieces: Iterable[Buffer]) -> bytearray | None:
        """Collect the data set; `None` when it is larger than the node takes (the rest is read and dropped)."""
        data_set: bytearray | None = bytearray()
        for piece in pieces:
            if data_set is not None and len(data_set) + len(piece) > self._door.max_object_bytes:
                data_set = None
            if data_set is not None:
                data_set += piece
        return data_set

    def _store(self, names: Names, data_set: Buffer) -> StoreStatus:
        return self._door.intake.store(
            Received(
                sop_class_uid=names.sop_class_uid,
                sop_instance_uid=names.sop_instance_uid,
                transfer_syntax_uid=names.transfer_syntax_uid,
                data_set=data_set,
                sender=self._sender,
                association_id=self._association_id,
            )
        )

    def _count(self, sop_instance_uid: str, status: StoreStatus) -> None:
        with self._lock:
            if status is StoreStatus.SUCCESS:
                self._received.add(sop_instance_uid)
                self._refused.pop(sop_instance_uid, None)
            else:
                self._refused[sop_instance_uid] = _WHY.get(status, f"The node answered 0x{status:04X}.")


_WHY = {
    StoreStatus.OUT_OF_RESOURCES: "The node cannot store now: its disk is full or its database is away. Free space or "
    "repair it, then ask again.",
    StoreStatus.CANNOT_UNDERSTAND: "The node cannot use what was sent: damaged, without UIDs, or larger than "
    "dicom.max_object_mb.",
    StoreStatus.DATA_SET_DOES_NOT_MATCH: "The UIDs of an object are not those it was announced with.",
}


def require_room(status: StoreStatus, name: str) -> None:
    """Raise `NoRoomLeft` when nothing more can be stored: to go on would fetch for nothing."""
    if status is StoreStatus.OUT_OF_RESOURCES:
        raise NoRoomLeft(f"The retrieval from {name} was ended. {_WHY[status]}")

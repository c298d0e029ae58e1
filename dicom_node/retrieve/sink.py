"""One retrieval's way into the node: objects go through `Intake` on an association of their own and are counted:
expected, here, refused, sent elsewhere, and why something is missing."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TypeVar

from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.entities import SendingPeer
from dicom_node.core.errors import (
    IndexUnavailable,
    NoRoomLeft,
    NotFound,
    RefusedObject,
    RetrievalStopped,
    SourceFault,
    SourceUnavailable,
    StoreStatus,
)
from dicom_node.headers.file_meta import LONGEST_HEAD_BYTES, read_head
from dicom_node.index.database import Database
from dicom_node.index.received.associations import close_association
from dicom_node.index.received.retrievals import count_among, count_present
from dicom_node.ingest.intake import Intake, Received
from dicom_node.storage.spool import Buffer

#: How long objects that another way in has acknowledged may take to be indexed.
_SETTLING_S = 10.0
_LOOK_EVERY_S = 0.1
_WHY = {
    StoreStatus.OUT_OF_RESOURCES: "The node cannot store now: its disk is full or its database is away. Free space or "
    "repair it, then ask again.",
    StoreStatus.CANNOT_UNDERSTAND: "The node cannot use what was sent: damaged, without UIDs, or larger than "
    "dicom.max_object_mb.",
    StoreStatus.DATA_SET_DOES_NOT_MATCH: "The UIDs of an object are not those it was announced with.",
}


@dataclass(frozen=True, slots=True)
class WantedStudy:
    """A study to fetch; with series UIDs, only these series of it."""

    study_instance_uid: str
    series_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SinkParts:
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


class RetrieveSink:
    """Takes the objects of one retrieval. Used by one thread; the `counts` may be read by any."""

    def __init__(self, parts: SinkParts, sender: SendingPeer, stopped: Callable[[], bool] = lambda: False) -> None:
        """`stopped` tells that the node is ending: the next object then raises `RetrievalStopped`."""
        self.counts = RetrieveCounts()
        self._parts = parts
        self._sender = sender
        self._stopped = stopped
        self._association_id = str(uuid.uuid4())

    def has(self, sop_instance_uid: str) -> bool:
        """Tell whether this object has come and was stored."""
        return self.counts.has(sop_instance_uid)

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
        with on_behalf_of([self._association_id]):
            return self._kept(names, data_set)

    def _kept(self, names: Names, data_set: bytearray | None) -> StoreStatus:
        status = StoreStatus.CANNOT_UNDERSTAND if data_set is None else self._store(names, data_set)
        if status is StoreStatus.SUCCESS:
            self.counts.store(names.sop_instance_uid)
        else:
            self.counts.refuse(names.sop_instance_uid, _WHY.get(status, f"The node answered 0x{status:04X}."))
        return status

    def confirm(self, wanted: WantedStudy) -> None:
        """Believe the index, not the source: count only what is here, as part of what was asked for.

        What came through another way in may still be on its way from there into the index; it is waited for.
        """
        deadline = time.monotonic() + _SETTLING_S
        with suppress(IndexUnavailable):
            while self._count_here(wanted) < self.counts.sent_elsewhere and time.monotonic() < deadline:
                self.check_stopped()
                time.sleep(_LOOK_EVERY_S)

    def close(self, outcome: str) -> None:
        """Note that nothing more comes: released, aborted or lost. A database that is away closes it by its silence."""
        with suppress(IndexUnavailable), self._parts.database.write() as connection:
            close_association(connection, self._association_id, outcome, datetime.now(UTC))

    def _count_here(self, wanted: WantedStudy) -> int:
        stored = self.counts.stored
        with self._parts.database.read() as connection:
            here = count_present(connection, wanted.study_instance_uid, wanted.series_instance_uids)
            self.counts.confirm(here, count_among(connection, wanted.study_instance_uid, stored))
        return here

    def _gathered(self, pieces: Iterable[Buffer]) -> bytearray | None:
        """Collect the data set; `None` when it is larger than the node takes (the rest is read and dropped)."""
        data_set: bytearray | None = bytearray()
        for piece in pieces:
            if data_set is not None and len(data_set) + len(piece) > self._parts.max_object_bytes:
                data_set = None
            if data_set is not None:
                data_set += piece
        return data_set

    def _store(self, names: Names, data_set: Buffer) -> StoreStatus:
        return self._parts.intake.store(
            Received(
                sop_class_uid=names.sop_class_uid,
                sop_instance_uid=names.sop_instance_uid,
                transfer_syntax_uid=names.transfer_syntax_uid,
                data_set=data_set,
                sender=self._sender,
                association_id=self._association_id,
            )
        )


def require_room(status: StoreStatus, name: str) -> None:
    """Raise `NoRoomLeft` when nothing more can be stored: to go on would fetch for nothing."""
    if status is StoreStatus.OUT_OF_RESOURCES:
        raise NoRoomLeft(f"The retrieval from {name} was ended. {_WHY[status]}")


# --- objects that come as whole files ------------------------------------------------------------------------------


def opened_file(chunks: Iterable[bytes]) -> tuple[Names, Iterator[bytes]]:
    """Return the names of a streamed file (PS3.10 7.1) and the rest of it, the data set.

    Raises `RefusedObject` when it does not begin like a DICOM file, and whatever `chunks` raise.
    """
    stream, beginning = iter(chunks), bytearray()
    while len(beginning) < LONGEST_HEAD_BYTES and (chunk := next(stream, None)) is not None:
        beginning += chunk
    head = read_head(bytes(beginning))
    names = Names(head.sop_class_uid, head.sop_instance_uid, head.transfer_syntax_uid)
    return names, chain((bytes(beginning[head.data_set_offset :]),), stream)


def take_file(chunks: Iterable[bytes], arrivals: RetrieveSink) -> StoreStatus:
    """Store a streamed file. Raises as `opened_file` and `RetrieveSink.take` do."""
    names, data_set = opened_file(chunks)
    return arrivals.take(names, data_set)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a retrieval has come. `expected` is `None` until the source has told, or when it never does."""

    expected: int | None = None
    received: int = 0
    failed: int = 0
    reason: str = ""


class RetrieveCounts:
    """Counts that one thread writes and any may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: int | None = None
        self._stored: set[str] = set()
        self._refused: dict[str, str] = {}
        self._failed_there = 0
        self._sent_elsewhere = 0
        # Known once the index has been asked.
        self._strangers = 0
        self._here: int | None = None

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        with self._lock:
            elsewhere = self._sent_elsewhere if self._here is None else min(self._sent_elsewhere, self._here)
            received = len(self._stored) - self._strangers + elsewhere
            failed = max(len(self._refused), self._failed_there)
            reason = next(iter(self._refused.values()), "") or self._doubt(elsewhere)
            return Progress(self._expected, received, failed, reason)

    @property
    def stored(self) -> frozenset[str]:
        """The objects that came and are durable and indexed."""
        with self._lock:
            return frozenset(self._stored)

    def has(self, sop_instance_uid: str) -> bool:
        """Tell whether this object has come and was stored."""
        with self._lock:
            return sop_instance_uid in self._stored

    @property
    def sent_elsewhere(self) -> int:
        """How many objects the source says it sent to another receiver (C-MOVE)."""
        return self._sent_elsewhere

    def expect(self, count: int | None) -> None:
        """Note how many objects the source says there are."""
        with self._lock:
            self._expected = count

    def store(self, sop_instance_uid: str) -> None:
        """Count an object that is durable and indexed."""
        with self._lock:
            self._stored.add(sop_instance_uid)
            self._refused.pop(sop_instance_uid, None)

    def refuse(self, sop_instance_uid: str, why: str) -> None:
        """Count an object that did not come, or in a form that cannot be stored; the first reason stays."""
        with self._lock:
            self._refused.setdefault(sop_instance_uid, why)

    def count_failed_there(self, failed: int) -> None:
        """Note how many objects the source says it could not send, those refused here among them."""
        with self._lock:
            self._failed_there = failed

    def count_sent_elsewhere(self, sent: int) -> None:
        """Note how many objects the source says it sent to another receiver."""
        with self._lock:
            self._sent_elsewhere = sent

    def confirm(self, here: int, stored_here: int) -> None:
        """Correct the counts by what the index has of the study, and of the objects that came this way."""
        with self._lock:
            self._here = here
            self._strangers = len(self._stored) - stored_here

    def _doubt(self, elsewhere: int) -> str:
        if elsewhere < self._sent_elsewhere:
            return (
                f"The PACS says it sent {self._sent_elsewhere} objects, {elsewhere} are here. Check that "
                "move_destination is this node there, with this node's address and port."
            )
        return f"{self._strangers} objects were of another study." if self._strangers else ""


# --- objects fetched one by one ------------------------------------------------------------------------------------

#: Objects in a row at which the PACS may break off or fall silent before it is taken for gone.
_MOST_BREAKS = 3

T = TypeVar("T")


def fetch_singly(
    objects: Iterable[T], name_of: Callable[[T], str], fetch: Callable[[T], None], counts: RetrieveCounts
) -> None:
    """Fetch each object; one that fails is counted with its reason under its name, and the next is tried.

    A PACS that answers with an error is asked for all the others; one that does not answer is given up. Raises
    `SourceUnavailable` then, and whatever else `fetch` raises.
    """
    breaks = 0
    for one in objects:
        try:
            fetch(one)
            breaks = 0
        except (NotFound, RefusedObject, SourceFault) as error:
            counts.refuse(name_of(one), str(error))
            breaks = 0
        except SourceUnavailable as error:
            counts.refuse(name_of(one), str(error))
            breaks += 1
            if breaks == _MOST_BREAKS:
                raise

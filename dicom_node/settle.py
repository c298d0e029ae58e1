"""Behind the answer: records of the journal become files of the spool and rows of the index.

One thread takes what waits, in batches: headers are parsed in a process with limits, payloads copied, one
synchronisation makes the files durable, one transaction enters them. A slot is free again when the names of its files
are durable, too, which the next batch's synchronisation brings. Whatever dies in between, the record is still in its
slot and settles again; every step may run twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from dicom_node.errors import IndexUnavailable, SpoolUnavailable
from dicom_node.header_reader import NICE, Encoded, HeaderReader, Unreadable
from dicom_node.headers import Header
from dicom_node.index.database import Database
from dicom_node.index.events import record as record_event
from dicom_node.index.intake import add_instances, close_association, forget_lost_associations, open_association
from dicom_node.journal import Record, RecordKind, copy_payload, free_slot, read_payload, read_record
from dicom_node.model import Instance, InstanceRole, Sender
from dicom_node.spool import Spool, object_key

_BATCH = 128
#: A burst is filed when nothing came for the first, or at the latest after the second.
_QUIET_S, _GATHER_S = 0.1, 2.0
_RETRY_S = 1.0
_DISK_RETRY_S = 3.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A record is in a slot. `found`: by the scan at a start, so it may be cut off and its payload is checked."""

    slot: int
    sequence: int
    study_instance_uid: str
    found: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """An association ended (released, aborted, lost); comes after its objects."""

    association_id: str
    outcome: str
    at_s: float


@dataclass(frozen=True, slots=True)
class AllLost:
    """The acceptor died, and every association with it."""

    at_s: float


Event = Stored | Closed | AllLost


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the journal lies, and how many slots it has."""

    folder: Path
    slots: int


@dataclass(frozen=True, slots=True)
class SettlerLinks:
    """Whom the settler tells: whose records (slot, sequence) have settled; why nothing can be taken now ("" when it
    can); and of requests for storage commitment, in the transaction that follows every object acknowledged before."""

    freed: Callable[[Sequence[tuple[int, int]]], None]
    trouble: Callable[[str], None]
    commitment_requested: Callable[[Connection, Record, bytes], None]


@dataclass(slots=True)
class _Item:
    """One record on its way."""

    event: Stored
    record: Record
    part: Path | None = None
    header: Header | Unreadable | None = None


class Settler:
    """The thread that settles. `put` never blocks."""

    def __init__(
        self, database: Database, spool: Spool, journal: Journal, receiver_id: str, links: SettlerLinks
    ) -> None:
        self._database = database
        self._spool = spool
        self._journal = journal.folder
        self._hurry_above = journal.slots // 2
        self._receiver_id = receiver_id
        self._links = links
        self._headers = HeaderReader()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._unsettled: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        #: Settled, and free at the next synchronisation: slot and sequence.
        self._to_free: dict[int, int] = {}
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)

    def start(self) -> None:
        """Start the thread; leftovers of an earlier one are removed first."""
        self._spool.remove_parts("settle")
        self._headers.warm_up()
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way; what is left is found again at the next start."""
        self._stopping.set()
        self._events.put(None)
        self._thread.join(10)
        self._headers.close()

    def put(self, event: Event) -> None:
        """Take an event, in the order in which they happened."""
        if isinstance(event, Stored):
            with self._lock:
                self._unsettled[event.study_instance_uid] += 1
        self._events.put(event)

    def backlog(self) -> int:
        """Return how many records are not settled."""
        return self._unsettled.total()

    def unsettled_studies(self) -> frozenset[str]:
        """Return the studies of which an acknowledged object has no row yet; they are not complete."""
        with self._lock:
            return frozenset(self._unsettled)

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # answering senders comes first
        while not self._stopping.is_set():
            batch = self._next_batch()
            while batch and not self._stopping.is_set():
                batch = self._attempt(batch)

    def _next_batch(self) -> list[Event]:
        """Wait for events; when there are none, use the time to free slots.

        While objects keep coming, senders have the machine to themselves: a burst is filed when it is over, when a
        batch has gathered and some time has passed, or when the journal fills up.
        """
        if self._events.empty() and self._to_free:
            self._free_settled()
        events = [self._events.get()]
        latest = time.monotonic() + _GATHER_S
        while None not in events and self.backlog() < self._hurry_above:
            left_s = min(_QUIET_S, latest - time.monotonic())
            try:
                events.append(self._events.get(timeout=max(left_s, 0)))
            except queue.Empty:
                break
        while len(events) < _BATCH and not self._events.empty():
            events.append(self._events.get())
        return [event for event in events if event is not None]

    def _attempt(self, batch: list[Event]) -> list[Event]:
        """Settle a batch; return what must be tried again. All failures here are the node's, and pass."""
        items: list[_Item] = []
        try:
            self._prepare(batch, items)
            self._enter(batch, items)
        except (IndexUnavailable, SpoolUnavailable, OSError) as error:
            for item in items:
                if item.part is not None:
                    item.part.unlink(missing_ok=True)
            self._tell_trouble(str(error))
            self._stopping.wait(_RETRY_S if isinstance(error, IndexUnavailable) else _DISK_RETRY_S)
            return batch
        self._tell_trouble("")
        self._finish(batch, items)
        return []

    def _prepare(self, batch: Sequence[Event], items: list[_Item]) -> None:
        """Read records into `items`, parse headers, and bring payloads into the spool, durably.

        When it fails, the items tell what is there already.
        """
        stored = [event for event in batch if isinstance(event, Stored)]
        items += [item for event in stored if (item := self._load(event)) is not None]
        objects = [item for item in items if item.record.kind is not RecordKind.COMMITMENT]
        for item, header in zip(objects, self._headers.read([self._encoded(item) for item in objects]), strict=True):
            item.header = header
        for item in objects:
            if item.record.kind is RecordKind.OBJECT and (item.event.found or not self._is_filed(item.record)):
                item.part = self._copy(item)
        self._free_settled()
        for item in objects:
            if item.part is not None:
                self._spool.move(item.part, object_key(item.record.sha256, ".dcm"))
                item.part = None

    def _load(self, event: Stored) -> _Item | None:
        """Return the record; `None` when it has settled before, or was cut off (and so never acknowledged)."""
        if self._to_free.get(event.slot) == event.sequence:
            return None
        record = read_record(self._journal, event.slot)
        if record is None or record.sequence != event.sequence:
            self._links.freed([(event.slot, event.sequence)])  # an acceptor that has just started may not know
            return None
        if event.found and not self._is_whole(event.slot, record):
            _log.warning("a record was cut off and is dropped; it was never acknowledged", extra={"slot": event.slot})
            self._to_free[event.slot] = event.sequence
            return None
        return _Item(event, replace(record, sha256=self._sha256(event.slot, record)))

    def _is_whole(self, slot: int, record: Record) -> bool:
        if record.kind is RecordKind.FILE:
            path = self._spool.path(record.object_key)
            return path.exists() and path.stat().st_size == record.payload_bytes
        return zlib.crc32(self._data_set(slot, record)) == record.crc32

    def _sha256(self, slot: int, record: Record) -> str:
        """Return the digest that names the content: of transfer syntax and data set."""
        if record.kind is not RecordKind.OBJECT:
            return record.sha256
        digest = hashlib.sha256(record.transfer_syntax_uid.encode())
        digest.update(self._data_set(slot, record))
        return digest.hexdigest()

    def _data_set(self, slot: int, record: Record) -> bytes:
        start = record.data_set_offset
        return read_payload(self._journal, slot, start, record.payload_bytes - start)

    def _encoded(self, item: _Item) -> Encoded:
        record = item.record
        if record.kind is RecordKind.FILE:
            with self._spool.path(record.object_key).open("rb") as file:
                header = os.pread(file.fileno(), record.header_bytes, record.data_set_offset)
        else:
            header = read_payload(self._journal, item.event.slot, record.data_set_offset, record.header_bytes)
        return Encoded(header, record.transfer_syntax_uid)

    def _is_filed(self, record: Record) -> bool:
        return self._spool.path(object_key(record.sha256, ".dcm")).exists()

    def _copy(self, item: _Item) -> Path:
        part = self._spool.new_part("settle")
        part.fill(lambda target: copy_payload(self._journal, item.event.slot, item.record.payload_bytes, target))
        return part.finish()

    def _free_settled(self) -> None:
        """Synchronise: the files just copied become durable, and so do the names of those before, whose slots are free
        then."""
        self._spool.sync()
        settled, self._to_free = self._to_free, {}
        for slot in settled:
            free_slot(self._journal, slot)
        if settled:
            self._links.freed(list(settled.items()))

    # --- the index -----------------------------------------------------------------------------------------------

    def _enter(self, batch: Sequence[Event], items: Sequence[_Item]) -> None:
        """One transaction: rows, evidence of associations, requests for commitment, ends of associations."""
        objects = [item for item in items if item.record.kind is not RecordKind.COMMITMENT]
        instances = [_instance(item) for item in objects]
        carried: dict[tuple[str, str], list[Instance]] = {}
        for item, instance in zip(objects, instances, strict=True):
            if not item.event.found:  # an association from before the start is over
                carried.setdefault((item.record.association_id, instance.study_instance_uid), []).append(instance)
        with self._database.write() as connection:
            if instances:
                add_instances(connection, instances)
            for item in objects:
                if isinstance(item.header, Unreadable):
                    _record_unreadable(connection, item.record, item.header)
            for (association_id, _), of_association in sorted(carried.items()):
                open_association(connection, association_id, self._receiver_id, of_association)
            for item in items:
                if item.record.kind is RecordKind.COMMITMENT:
                    payload = read_payload(self._journal, item.event.slot, 0, item.record.payload_bytes)
                    self._links.commitment_requested(connection, item.record, payload)
            for event in batch:
                self._note_end(connection, event)

    def _note_end(self, connection: Connection, event: Event) -> None:
        if isinstance(event, Closed):
            close_association(connection, event.association_id, event.outcome, datetime.fromtimestamp(event.at_s, UTC))
        elif isinstance(event, AllLost):
            at = datetime.fromtimestamp(event.at_s, UTC)
            forget_lost_associations(connection, self._receiver_id, datetime.fromtimestamp(0, UTC), at)

    def _finish(self, batch: Sequence[Event], items: Sequence[_Item]) -> None:
        self._to_free |= {item.event.slot: item.event.sequence for item in items}
        with self._lock:
            for event in batch:
                if isinstance(event, Stored):
                    self._unsettled[event.study_instance_uid] -= 1
                    if not self._unsettled[event.study_instance_uid]:
                        del self._unsettled[event.study_instance_uid]

    def _tell_trouble(self, why: str) -> None:
        if why == self._trouble:
            return
        self._trouble = why
        if why:
            _log.error("received objects wait in the journal", extra={"why": why, "objects": self.backlog()})
        else:
            _log.info("received objects are filed again", extra={"objects": self.backlog()})
        self._links.trouble(why)


def _instance(item: _Item) -> Instance:
    record, header = item.record, item.header
    instance = Instance(
        sop_instance_uid=record.sop_instance_uid,
        sop_class_uid=record.sop_class_uid,
        transfer_syntax_uid=record.transfer_syntax_uid,
        study_instance_uid=record.study_instance_uid,
        series_instance_uid=record.series_instance_uid,
        sha256=record.sha256,
        size_bytes=record.payload_bytes,
        object_key=object_key(record.sha256, ".dcm"),
        # Acknowledged and therefore kept, but nothing is concluded from what cannot be read.
        role=InstanceRole.EVIDENCE,
        attributes={},
        received_at=datetime.fromtimestamp(record.received_at_s, UTC),
        sender=Sender(record.calling_ae_title, record.called_ae_title, record.host),
    )
    if isinstance(header, Header):
        return replace(instance, role=header.role, attributes=header.attributes)
    return instance


def _record_unreadable(connection: Connection, record: Record, unreadable: Unreadable) -> None:
    record_event(
        connection, record.study_instance_uid, datetime.fromtimestamp(record.received_at_s, UTC),
        ("unreadable", "The header of an object could not be read. The object is kept and not analysed."),
        sop_instance_uid=record.sop_instance_uid, why=unreadable.why,
    )  # fmt: skip

"""The thread that empties the journal, in batches: headers are parsed in a process with limits, payloads copied, one
synchronisation makes the files durable, one transaction enters them.

A slot is free again when the names of its files are durable, too, which the next batch's synchronisation brings.
Whatever dies in between, the record is still in its slot and settles again; every step may run twice.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dicom_node.core.errors import IndexUnavailable, ObjectDeleted, SpoolUnavailable
from dicom_node.core.metrics.table import BYTES_RECEIVED, OBJECTS_RECEIVED
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.received.versions import Comparison
from dicom_node.end import VitalThread
from dicom_node.headers.reader import NICE, HeaderReader
from dicom_node.index.damage import DamagedKind, DamagedObject, note_damaged
from dicom_node.index.database import Database
from dicom_node.index.transitions import record as record_event
from dicom_node.ingest.versions import VersionComparer
from dicom_node.receive.channel import Freed, RecordStored, Unavailable
from dicom_node.receive.events import ReceiveEvent, ReceiveEvents
from dicom_node.receive.journal_items import (
    JournalItem,
    JournalReader,
    LostRecord,
    enter_objects,
    note_end,
    parts_owner,
)
from dicom_node.storage.journal import (
    LOST_BYTES,
    UNREADABLE,
    Acknowledged,
    Record,
    free_slot,
    is_free,
    read_record,
    was_acknowledged,
)
from dicom_node.storage.spool import Spool

_BATCH = 128
#: A burst is filed when nothing came for the first, or at the latest after the second.
_QUIET_S, _GATHER_S = 0.1, 2.0
_RETRY_S, _DISK_RETRY_S = 1.0, 3.0
_DELETED_RETRY_S = 0.2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalPlace:
    """Where the journal lies, and how many slots it has."""

    folder: Path
    slots: int


@dataclass(frozen=True, slots=True)
class ConsumerLinks:
    """Where events come from; how the acceptor is told; and who keeps requests for storage commitment, in the
    transaction that enters every object acknowledged before."""

    events: ReceiveEvents
    tell: Callable[[Freed | Unavailable], None]
    keep_request: Callable[[Connection, Record, bytes], None]


class JournalConsumer:
    """Files what the acceptor has answered."""

    #: What cannot be filed for a reason of its own is tried again so often: a repaired database needs no restart.
    aside_retry_s = 60.0

    def __init__(
        self, database: Database, spool: Spool, journal: JournalPlace, receiver_id: str, links: ConsumerLinks
    ) -> None:
        self._database = database
        self._spool = spool
        self._journal = journal.folder
        self._gathers_below = journal.slots // 2
        self._receiver_id = receiver_id
        self._events, self._tell, self._keep_request = links.events, links.tell, links.keep_request
        self._parts_owner = parts_owner(receiver_id)
        self._items = JournalReader(journal.folder, spool, self._parts_owner)
        self._headers = HeaderReader()
        self._versions = VersionComparer(database, spool)
        self._stopping = threading.Event()
        #: Settled, and free at the next synchronisation: slot and sequence.
        self._to_free: dict[int, int] = {}
        #: What could not be filed, each for a reason of its own; its slots stay, and its studies incomplete.
        self._aside: set[RecordStored] = set()
        #: Slots that could not be read at a start.
        self._given_up: set[int] = set()
        #: Slots that the disk itself cannot read, and what is still to be told of them.
        self._moved: dict[int, LostRecord | None] = {}
        self._unavailable_reason = ""
        self._thread = VitalThread(self._run, "consumer")

    def start(self) -> None:
        """Start the thread; leftovers of an earlier one are removed first."""
        self._spool.remove_parts(self._parts_owner)
        self._headers.warm_up()
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way; what is left is found again at the next start."""
        self._stopping.set()
        self._events.close()
        if self._thread.is_alive():
            self._thread.join(10)
        self._headers.close()
        self._versions.close()

    def held_objects(self) -> frozenset[str]:
        """Return the keys of objects that this thread is still to enter, though their files may be there already."""
        return self._items.held_objects()

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if os.getpriority(os.PRIO_PROCESS, 0) < NICE:  # answering senders comes first; only root may take this back
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._stopping.is_set():
            batch = self._next_batch()
            self._settle(batch)

    def _settle(self, batch: list[ReceiveEvent]) -> None:
        """Try until nothing is left of the batch. An empty one frees what the last one has filed."""
        while not self._stopping.is_set():
            batch = self._attempt(batch)
            if not batch:
                return

    def _next_batch(self) -> list[ReceiveEvent]:
        """Wait for events; when there are none, use the time to free slots.

        While objects keep coming, senders have the machine to themselves: a burst is filed when it is over, when a
        batch has gathered and some time has passed, or when the journal fills up.
        """
        if self._events.is_empty() and self._to_free:
            return []
        try:
            batch = [self._events.get(self.aside_retry_s if self._aside else None)]
        except queue.Empty:
            return [*sorted(self._aside, key=lambda event: event.sequence)]
        latest = time.monotonic() + _GATHER_S
        while None not in batch and self._events.backlog() < self._gathers_below:
            left_s = min(_QUIET_S, latest - time.monotonic())
            try:
                batch.append(self._events.get(max(left_s, 0)))
            except queue.Empty:
                break
        while len(batch) < _BATCH and not self._events.is_empty():
            batch.append(self._events.get())
        return [event for event in batch if event is not None]

    def _attempt(self, batch: list[ReceiveEvent]) -> list[ReceiveEvent]:
        """Settle a batch; return what must be tried again."""
        items: list[JournalItem] = []
        try:
            self._file(batch, items)
            self._enter(batch, items)
        except (IndexUnavailable, SpoolUnavailable, OSError) as error:  # the node's failures, which pass
            _drop_parts(items)
            self._set_unavailable(str(error))
            self._stopping.wait(_RETRY_S if isinstance(error, IndexUnavailable) else _DISK_RETRY_S)
            return batch
        except ObjectDeleted:
            self._stopping.wait(_DELETED_RETRY_S)
            return batch
        except Exception:  # noqa: BLE001 - the worker's door: one record must not keep the others from being filed
            _drop_parts(items)
            return self._one_by_one(batch)
        self._set_unavailable("")
        _count(items)
        self._to_free |= {item.event.slot: item.event.sequence for item in items}
        self._aside.difference_update(event for event in batch if isinstance(event, RecordStored))
        self._events.settled(batch)
        return []

    def _one_by_one(self, batch: Sequence[ReceiveEvent]) -> list[ReceiveEvent]:
        """Try each by itself. A record that fails keeps its slot, and its study waits for it."""
        if len(batch) > 1:
            return [left for event in batch for left in self._attempt([event])]
        event = batch[0]
        if not isinstance(event, RecordStored):
            _log.exception("an event cannot be noted and is passed over")
        elif event not in self._aside:
            _log.exception("a record cannot be filed; it stays in its slot and is tried again", extra=_who(event))
            self._aside.add(event)
            self._tell_study(event)
        return []

    def _tell_study(self, event: RecordStored) -> None:
        """Say in the study's timeline what it waits for, if it has one (requests have none) and it takes that."""
        if not event.study_instance_uid:
            return
        line = ("unfiled", "An image that was acknowledged cannot be filed; the study waits for it. The log says why.")
        with suppress(IndexUnavailable, DBAPIError), self._database.write() as connection:
            record_event(connection, event.study_instance_uid, datetime.now(UTC), line)

    # --- one batch -----------------------------------------------------------------------------------------------

    def _file(self, batch: Sequence[ReceiveEvent], items: list[JournalItem]) -> None:
        """Read records into `items`, parse headers, and bring payloads into the spool, durably.

        When it fails, the items tell what is there already.
        """
        stored = [event for event in batch if isinstance(event, RecordStored)]
        items += [item for event in stored if (item := self._load(event)) is not None]
        objects = [item for item in items if item.is_object]
        headers = self._headers.read([self._items.encoded_header(item) for item in objects])
        for item, header in zip(objects, headers, strict=True):
            item.header = header
            self._items.copy(item)
        self._synchronise()
        for item in objects:
            if item.part is not None:
                self._spool.move(item.part, item.object_key)
                item.part = None

    def _load(self, event: RecordStored) -> JournalItem | None:
        """Return the record; `None` when it has settled before, was cut off, is damaged or cannot be read."""
        try:
            item = self._read(event)
        except OSError as error:
            self._move_aside(event, error)
            return None
        self._moved.pop(event.slot, None)
        return item

    def _move_aside(self, event: RecordStored, error: OSError) -> None:
        """Set aside and tell a slot that the disk cannot read. Raises the error where it may pass.

        It is not freed: the acceptor, which may have it open, must not write to it before another start.
        """
        slot = event.slot
        if slot not in self._moved:
            if error.errno not in LOST_BYTES:
                raise error
            self._moved[slot] = self._items.move_aside(slot)
        lost = self._moved[slot]
        if lost is not None:
            self._tell_lost(event, lost)
            self._moved[slot] = None

    def _read(self, event: RecordStored) -> JournalItem | None:
        if self._to_free.get(event.slot) == event.sequence:
            return None
        record = read_record(self._journal, event.slot)
        if record is None and self._is_unreadable(event):
            self._give_up(event, None)
            return None
        if record is None or record.sequence != event.sequence:
            self._tell(Freed(((event.slot, event.sequence),)))  # an acceptor that has just started may not know
            return None
        item = self._items.item(event, record)
        if item is None:
            self._give_up(event, record)
        return item

    def _is_unreadable(self, event: RecordStored) -> bool:
        """Tell whether the slot of an event holds a record that has not settled, and no head of it can be read.

        Of two events about one slot, which an acceptor that starts again may tell, the second may find another record
        there, half written at this moment.
        """
        if event.found and (event.sequence != UNREADABLE or event.slot in self._given_up):
            return False
        return not is_free(self._journal, event.slot)

    def _give_up(self, event: RecordStored, record: Record | None) -> None:
        """Free a slot that cannot be read or is not whole; what may have been acknowledged is set aside and told."""
        if record is not None and was_acknowledged(self._journal, event.slot, record) is Acknowledged.NO:
            _log.warning("a record was cut off while it was written and is dropped; it was never acknowledged",
                         extra={"slot": event.slot})  # fmt: skip
        else:
            self._tell_lost(event, self._items.set_aside(event.slot, record))
        self._to_free[event.slot] = event.sequence
        if record is None:
            self._given_up.add(event.slot)

    def _tell_lost(self, event: RecordStored, lost: LostRecord) -> None:
        study = lost.study_instance_uid or event.study_instance_uid
        _log.error("a damaged record of the journal was set aside", extra={
            "slot": event.slot, "kept_as": str(lost.path), "sop_instance": lost.sop_instance_uid, "study": study,
            "acknowledged": lost.acknowledged.value, "advice": "Look at the disk; send the object again."})  # fmt: skip
        found = DamagedObject(
            object_key=f"{self._receiver_id}/{lost.path.name}", kind=DamagedKind.RECORD, uid=lost.sop_instance_uid,
            study_instance_uid=study,
        )  # fmt: skip
        with self._database.write() as connection:
            note_damaged(connection, [found], datetime.now(UTC))

    def _synchronise(self) -> None:
        """Make the files just copied durable, and with them the names of those before, whose slots are free then."""
        self._spool.sync()
        settled, self._to_free = self._to_free, {}
        for slot in settled:
            free_slot(self._journal, slot)
        if settled:
            self._tell(Freed(tuple(settled.items())))

    def _enter(self, batch: Sequence[ReceiveEvent], items: Sequence[JournalItem]) -> None:
        if not batch:
            return

        def enter(connection: Connection, comparison: Comparison) -> None:
            enter_objects(connection, self._receiver_id, items, comparison)
            # The studies are held from here on, and nothing of them is deleted; what went before is seen now.
            if not all(self._spool.path(item.object_key).exists() for item in items if item.is_object):
                raise ObjectDeleted("An object was deleted, with its study, while the same came again.")
            for item in items:
                if not item.is_object:
                    self._keep_request(connection, item.record, self._items.request(item))
            for event in batch:
                note_end(connection, self._receiver_id, event)

        self._versions.enter(enter)

    def _set_unavailable(self, reason: str) -> None:
        if reason == self._unavailable_reason:
            return
        self._unavailable_reason = reason
        objects = self._events.backlog()
        if reason:
            _log.error("received objects wait in the journal", extra={"why": reason, "objects": objects})
        else:
            _log.info("received objects are filed again", extra={"objects": objects})
        self._tell(Unavailable(reason))


def _count(items: Sequence[JournalItem]) -> None:
    for record in (item.record for item in items if item.is_object):
        TALLY.count(OBJECTS_RECEIVED, peer=record.calling_ae_title, way="dicom")
        TALLY.count(BYTES_RECEIVED, record.payload_bytes, peer=record.calling_ae_title, way="dicom")


def _drop_parts(items: Sequence[JournalItem]) -> None:
    for item in items:
        if item.part is not None:
            item.part.unlink(missing_ok=True)


def _who(event: RecordStored) -> dict[str, object]:
    return {"slot": event.slot, "study": event.study_instance_uid}

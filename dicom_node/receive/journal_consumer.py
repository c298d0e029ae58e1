"""The thread that settles, in batches: headers are parsed in a process with limits, payloads copied, one
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
from collections import Counter
from collections.abc import Sequence

from dicom_node.core.errors import IndexUnavailable, SpoolUnavailable
from dicom_node.headers.reader import NICE, HeaderReader
from dicom_node.index.database import Database
from dicom_node.receive.events import ConsumerLinks, JournalPlace, ReceiveEvent, RecordStored
from dicom_node.receive.journal_items import JournalItem, JournalReader, enter_objects, note_end
from dicom_node.storage.journal import free_slot, read_record
from dicom_node.storage.spool import Spool

_BATCH = 128
#: A burst is filed when nothing came for the first, or at the latest after the second.
_QUIET_S, _GATHER_S = 0.1, 2.0
_RETRY_S, _DISK_RETRY_S = 1.0, 3.0
_log = logging.getLogger(__name__)


class JournalConsumer:
    """Files what the acceptor has answered. `put` never blocks."""

    def __init__(
        self, database: Database, spool: Spool, journal: JournalPlace, receiver_id: str, links: ConsumerLinks
    ) -> None:
        self._database = database
        self._spool = spool
        self._journal = journal.folder
        self._hurry_above = journal.slots // 2
        self._receiver_id = receiver_id
        self._links = links
        self._items = JournalReader(journal.folder, spool)
        self._headers = HeaderReader()
        self._news: queue.SimpleQueue[ReceiveEvent | None] = queue.SimpleQueue()
        self._unsettled: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        #: Settled, and free at the next synchronisation: slot and sequence.
        self._to_free: dict[int, int] = {}
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)

    def start(self) -> None:
        """Start the thread; leftovers of an earlier one are removed first."""
        self._spool.remove_parts("settle")
        self._headers.warm_up()
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way; what is left is found again at the next start."""
        self._stopping.set()
        self._news.put(None)
        if self._thread.is_alive():
            self._thread.join(10)
        self._headers.close()

    def put(self, news: ReceiveEvent) -> None:
        """Take what happened, in the order in which it did."""
        if isinstance(news, RecordStored):
            with self._lock:
                self._unsettled[news.study_instance_uid] += 1
        self._news.put(news)

    def backlog(self) -> int:
        """Return how many records are not settled."""
        return self._unsettled.total()

    def unsettled_studies(self) -> frozenset[str]:
        """Return the studies of which an acknowledged object has no row yet; they are not complete."""
        with self._lock:
            return frozenset(self._unsettled)

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
        """Wait for news; when there are none, use the time to free slots.

        While objects keep coming, senders have the machine to themselves: a burst is filed when it is over, when a
        batch has gathered and some time has passed, or when the journal fills up.
        """
        if self._news.empty() and self._to_free:
            return []
        batch = [self._news.get()]
        latest = time.monotonic() + _GATHER_S
        while None not in batch and self.backlog() < self._hurry_above:
            left_s = min(_QUIET_S, latest - time.monotonic())
            try:
                batch.append(self._news.get(timeout=max(left_s, 0)))
            except queue.Empty:
                break
        while len(batch) < _BATCH and not self._news.empty():
            batch.append(self._news.get())
        return [news for news in batch if news is not None]

    def _attempt(self, batch: list[ReceiveEvent]) -> list[ReceiveEvent]:
        """Settle a batch; return what must be tried again."""
        items: list[JournalItem] = []
        try:
            self._file(batch, items)
            self._enter(batch, items)
        except (IndexUnavailable, SpoolUnavailable, OSError) as error:  # the node's failures, which pass
            _drop_parts(items)
            self._tell_trouble(str(error))
            self._stopping.wait(_RETRY_S if isinstance(error, IndexUnavailable) else _DISK_RETRY_S)
            return batch
        except Exception:  # noqa: BLE001 - the worker's door: one bad study must not stop the others
            _drop_parts(items)
            return self._one_by_one(batch)
        self._tell_trouble("")
        self._to_free |= {item.news.slot: item.news.sequence for item in items}
        self._forget(batch)
        return []

    def _one_by_one(self, batch: Sequence[ReceiveEvent]) -> list[ReceiveEvent]:
        """Try each by itself. The one that fails keeps its slot, and is tried again at the next start."""
        if len(batch) > 1:
            return [left for news in batch for left in self._attempt([news])]
        _log.exception("a record cannot be filed; it stays in its slot until the next start", extra=_who(batch[0]))
        self._forget(batch)
        return []

    def _forget(self, batch: Sequence[ReceiveEvent]) -> None:
        with self._lock:
            for news in batch:
                if isinstance(news, RecordStored):
                    self._unsettled[news.study_instance_uid] -= 1
                    if not self._unsettled[news.study_instance_uid]:
                        del self._unsettled[news.study_instance_uid]

    # --- one batch -----------------------------------------------------------------------------------------------

    def _file(self, batch: Sequence[ReceiveEvent], items: list[JournalItem]) -> None:
        """Read records into `items`, parse headers, and bring payloads into the spool, durably.

        When it fails, the items tell what is there already.
        """
        items += [item for news in batch if isinstance(news, RecordStored) and (item := self._load(news)) is not None]
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

    def _load(self, news: RecordStored) -> JournalItem | None:
        """Return the record; `None` when it has settled before, or was cut off (and so never acknowledged)."""
        if self._to_free.get(news.slot) == news.sequence:
            return None
        record = read_record(self._journal, news.slot)
        if record is None or record.sequence != news.sequence:
            self._links.freed([(news.slot, news.sequence)])  # an acceptor that has just started may not know
            return None
        if news.found and not self._items.is_whole(news.slot, record):
            _log.warning("a record was cut off and is dropped; it was never acknowledged", extra={"slot": news.slot})
            self._to_free[news.slot] = news.sequence
            return None
        return self._items.item(news, record)

    def _synchronise(self) -> None:
        """Make the files just copied durable, and with them the names of those before, whose slots are free then."""
        self._spool.sync()
        settled, self._to_free = self._to_free, {}
        for slot in settled:
            free_slot(self._journal, slot)
        if settled:
            self._links.freed(list(settled.items()))

    def _enter(self, batch: Sequence[ReceiveEvent], items: Sequence[JournalItem]) -> None:
        if not batch:
            return
        with self._database.write() as connection:
            enter_objects(connection, self._receiver_id, items)
            for item in items:
                if not item.is_object:
                    self._links.commitment_requested(connection, item.record, self._items.request(item))
            for news in batch:
                note_end(connection, self._receiver_id, news)

    def _tell_trouble(self, why: str) -> None:
        if why == self._trouble:
            return
        self._trouble = why
        if why:
            _log.error("received objects wait in the journal", extra={"why": why, "objects": self.backlog()})
        else:
            _log.info("received objects are filed again", extra={"objects": self.backlog()})
        self._links.trouble(why)


def _drop_parts(items: Sequence[JournalItem]) -> None:
    for item in items:
        if item.part is not None:
            item.part.unlink(missing_ok=True)


def _who(news: ReceiveEvent) -> dict[str, object]:
    return {"slot": news.slot, "study": news.study_instance_uid} if isinstance(news, RecordStored) else {}

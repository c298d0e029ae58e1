"""Delivers what is owed, one thread per destination, so that one slow PACS blocks neither another nor the EHR.

A destination that cannot take an object is asked again, less and less often, for ever; one that will never take it
as it is gets the object parked with the reason. Objects of one result go in order: what the SR refers to goes first.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import ClassRefused, DeliveryDeferred, DeliveryRefused, IndexUnavailable
from dicom_node.deliver.outgoing import Outgoing, Sender, Sent
from dicom_node.deliver.peer_capabilities import CapabilityProbe
from dicom_node.end import VitalThread
from dicom_node.index import deliveries
from dicom_node.index.database import Database
from dicom_node.index.deliveries import DeliveryBatch, DeliveryItem, RefusedItem
from dicom_node.storage.spool import Spool

_POLL_S = 1.0
_LEASE_S = 600.0
#: After so many failures of a picture the report goes without it.
_REPORT_WAITS_FOR_ATTEMPTS = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait after the n-th failure in a row: doubling from `first_s` up to `longest_s`, a tenth shaken."""

    first_s: float
    longest_s: float

    def wait_s(self, failures: int) -> float:
        """Return the wait after `failures` (at least 1) failures in a row."""
        doubled = min(self.first_s * 2.0 ** min(failures - 1, 30), self.longest_s)
        return doubled * random.uniform(0.9, 1.1)  # noqa: S311 - spreads retries, guards nothing


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """Who claims what is owed, how failures are spaced, and what is known of the destination, if it can be known."""

    owner: str
    back_off: BackOff
    capability_probe: CapabilityProbe | None = None


@dataclass(frozen=True, slots=True)
class _SentItems:
    """What did not arrive: what must wait, the reason of the first, and what is refused for its class."""

    failed: tuple[DeliveryItem, ...] = ()
    why: DeliveryDeferred | None = None
    refused: tuple[RefusedItem, ...] = ()

    def and_then(self, later: _SentItems) -> _SentItems:
        return _SentItems(self.failed + later.failed, self.why or later.why, self.refused + later.refused)


class DestinationWorker:
    """Works off what is owed to one destination."""

    def __init__(
        self,
        destination: str,
        make_sender: Callable[[], Sender],
        database: Database,
        spool: Spool,
        policy: OutboxPolicy,
    ) -> None:
        self._destination = destination
        self._make_sender = make_sender
        self._database = database
        self._spool = spool
        self._owner, self._back_off, self._capability_probe = policy.owner, policy.back_off, policy.capability_probe
        self._failures = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = VitalThread(self._run, f"outbox-{destination}")

    def start(self) -> None:
        """Begin to deliver in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End after the object that is on its way; what is left stays owed."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def wake(self) -> None:
        """Something new is owed, or the operator wants it tried now."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._step():
                pause_s = self._back_off.wait_s(self._failures) if self._failures else _POLL_S
                self._wake.wait(pause_s)
            self._wake.clear()

    def _step(self) -> bool:
        """Deliver one batch; `False` when there is a reason to pause (nothing due, or the peer is away)."""
        try:
            if self._capability_probe is not None:
                self._capability_probe.ask_if_due(self._database)
            return self.deliver_once()
        except IndexUnavailable as error:
            _log.error("outbox waits for the database", extra={"destination": self._destination, "why": str(error)})
        except Exception:  # noqa: BLE001 - the delivery door: a fault in one batch must not end deliveries
            self._failures += 1
            _log.exception("delivery failed unexpectedly", extra={"destination": self._destination})
        return False

    def deliver_once(self) -> bool:
        """Deliver the oldest batch that is due; `False` when none is due or the destination takes nothing.

        One batch that was not taken may itself be the reason, so the next one is tried before the destination is
        given a rest; two in a row mean that the destination is away.
        """
        with self._database.write() as connection:
            batch = deliveries.claim_batch(connection, self._destination, self._owner, _now(), _LEASE_S)
        if batch is None:
            return False
        deferred = self._send(batch)
        if deferred is None:
            if self._failures > 1:
                with self._database.write() as connection:
                    deliveries.make_due(connection, self._destination, _now())
            self._failures = 0
            return True
        self._failures += 1
        return self._failures == 1

    def _send(self, batch: DeliveryBatch) -> DeliveryDeferred | None:
        """Send what the report refers to, then the report, then what withdraws earlier ones; return why one must wait.

        A report waits for its pictures, but not for ever: an object that keeps failing must not hide the findings.
        What the destination refuses for its class may queue the job again, and then the rest is not sent.
        """
        reports = [item for item in batch.items if item.artifact.kind is ArtifactKind.STRUCTURED_REPORT]
        notes = [item for item in batch.items if item.artifact.kind is ArtifactKind.REJECTION_NOTE]
        others = [item for item in batch.items if item not in reports and item not in notes]
        sent = self._send_items(batch, others)
        if self._is_requeued(batch, sent, [*reports, *notes]):
            return sent.why
        held = [item for item in sent.failed if item.attempts < _REPORT_WAITS_FOR_ATTEMPTS]
        if held and reports:
            self._defer(batch, reports, DeliveryDeferred("It waits for the objects it refers to."))
        else:
            sent = sent.and_then(self._send_items(batch, reports))
            if self._is_requeued(batch, sent, notes):
                return sent.why
        noted = self._send_notes(batch, notes)
        self._park(batch, noted.refused)
        return sent.and_then(noted).why

    def _is_requeued(self, batch: DeliveryBatch, sent: _SentItems, waiting: Sequence[DeliveryItem]) -> bool:
        """Park what is refused for its class, in one step with what follows from it: a power cut leaves both undone."""
        if not sent.refused:
            return False
        if self._capability_probe is not None:
            return self._capability_probe.refuses(self._database, batch, sent.refused, waiting)
        self._park(batch, sent.refused)
        return False

    def _park(self, batch: DeliveryBatch, refused: Sequence[RefusedItem]) -> None:
        for item, why in refused:
            self._note(batch, item, ClassRefused(why), "")

    def _send_notes(self, batch: DeliveryBatch, notes: Sequence[DeliveryItem]) -> _SentItems:
        """Withdraw earlier objects once everything that replaces them has arrived."""
        if not notes:
            return _SentItems()
        with self._database.read() as connection:
            is_early = deliveries.has_open_beside_notes(connection, batch)
        if is_early:
            self._defer(batch, notes, DeliveryDeferred("It waits until what replaces the earlier objects is there."))
            return _SentItems()
        return self._send_items(batch, notes)

    def _send_items(self, batch: DeliveryBatch, items: Sequence[DeliveryItem]) -> _SentItems:
        """Send object by object and note each answer at once."""
        items = [item for item in items if self._is_kept(batch, item)]
        open_items = {item.artifact.uid: item for item in items}
        outgoing = [Outgoing(item.artifact, self._spool.path(item.artifact.object_key)) for item in items]
        result = _SentItems()
        for sent in self._answers(outgoing):
            item = open_items.pop(sent.artifact_uid)
            if isinstance(sent.error, DeliveryDeferred):
                result = result.and_then(_SentItems((item,), sent.error))
                self._defer(batch, [item], sent.error)
            elif isinstance(sent.error, ClassRefused):
                result = result.and_then(_SentItems(refused=(RefusedItem(item, str(sent.error)),)))
            else:
                self._note(batch, item, sent.error, sent.note)
        for item in open_items.values():
            silence = DeliveryDeferred("The destination gave no answer for this object.")
            result = result.and_then(_SentItems((item,), silence))
            self._defer(batch, [item], silence)
        return result

    def _answers(self, outgoing: Sequence[Outgoing]) -> Iterator[Sent]:
        """Yield what the destination answers; after a fault of the node's own, that what is left must wait."""
        left = {one.artifact.uid: None for one in outgoing}
        try:
            for sent in self._make_sender().send(outgoing) if outgoing else ():
                left.pop(sent.artifact_uid, None)
                yield sent
        except Exception as error:  # noqa: BLE001 - what fails for one parcel is put off like any other, and told
            _log.exception("sending failed unexpectedly", extra={"destination": self._destination})
            why = f"The node failed at sending ({type(error).__name__}); its log says where. It is tried again."
            yield from (Sent(uid, DeliveryDeferred(why), "") for uid in left)

    def _is_kept(self, batch: DeliveryBatch, item: DeliveryItem) -> bool:
        """Tell whether the object's bytes are there; park it where the disk has lost them."""
        if self._spool.path(item.artifact.object_key).exists():
            return True
        lost = DeliveryRefused("Its file is gone from the spool; restore it from a backup, then retry.")
        self._note(batch, item, lost, "")
        return False

    def _note(self, batch: DeliveryBatch, item: DeliveryItem, error: Exception | None, note: str) -> None:
        with self._database.write() as connection:
            if isinstance(error, DeliveryRefused):
                deliveries.mark_parked(connection, batch, item, str(error), _now())
            else:
                deliveries.mark_sent(connection, batch, item, note, _now())
        what = {"destination": batch.destination, "study": batch.study_instance_uid, "uid": item.artifact.uid}
        _log.info("object parked" if error else "object sent", extra=what | {"why": str(error or note)})

    def _defer(self, batch: DeliveryBatch, items: Sequence[DeliveryItem], error: DeliveryDeferred) -> None:
        wait_s = max(self._back_off.wait_s(items[0].attempts + 1), error.retry_after_s or 0.0)
        now = _now()
        with self._database.write() as connection:
            for item in items:
                deliveries.mark_deferred(connection, batch, item, str(error), (now, now + timedelta(seconds=wait_s)))
        what = {"destination": batch.destination, "study": batch.study_instance_uid, "objects": len(items)}
        _log.warning("delivery put off", extra=what | {"wait_s": round(wait_s, 1), "why": str(error)})


def _now() -> datetime:
    return datetime.now(UTC)

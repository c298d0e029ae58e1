"""Delivers one batch: in the order that keeps its references whole, with each answer noted as it comes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from dicom_node.core.calls.limits import LONGEST_WAIT_S
from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import (
    ClassRefused,
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
    SignInRefused,
)
from dicom_node.core.metrics.spans import SPANS, job_key_of
from dicom_node.core.metrics.table import DELIVERIES, DELIVERY_SECONDS
from dicom_node.core.metrics.tally import TALLY
from dicom_node.deliver.dispatch.already_there import AlreadyThere
from dicom_node.deliver.dispatch.identity_check import IdentityCheck
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.outgoing import Outgoing, Sender, Sent
from dicom_node.deliver.peer_capabilities import CapabilityProbe
from dicom_node.index.damage import note_damaged, objects_at
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.outbox import deliveries
from dicom_node.index.outbox.deliveries import DeliveryBatch, DeliveryItem, RefusedItem
from dicom_node.index.studies import requests_of
from dicom_node.storage.digest import is_damaged
from dicom_node.storage.spool import Spool

#: After so many failures of a picture the report goes without it; that the destination was away is none.
_REPORT_WAITS_FOR_ATTEMPTS = 5
#: What the destination said of an object that it took: words, and the warning among them, if any.
_Said = tuple[str, int | None]
_NOTHING_SAID: _Said = ("", None)
_log = logging.getLogger(__name__)


class Tried(Protocol):
    """What was to be sent, and how often it had been tried before."""

    @property
    def attempts(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SentItems:
    """What did not arrive: what must wait, why, and what is refused for its class; and whether anything arrived."""

    failed: tuple[Tried, ...] = ()
    why: DeliveryDeferred | None = None
    refused: tuple[RefusedItem, ...] = ()
    has_arrived: bool = False

    @property
    def is_cut_off(self) -> bool:
        """Tell whether the destination would take nothing else either."""
        return isinstance(self.why, DestinationAway | CredentialsRefused)

    def and_then(self, later: SentItems) -> SentItems:
        """Return both together; the reason is the first, unless the later one holds for everything."""
        why = later.why if later.is_cut_off else self.why or later.why
        arrived = self.has_arrived or later.has_arrived
        return SentItems(self.failed + later.failed, why, self.refused + later.refused, arrived)


@dataclass(frozen=True, slots=True)
class PeerQuestions:
    """What a destination is asked, where it can be: which classes it takes, whose study it has; and, in a node that
    was put back from a backup, what it has already."""

    capability_probe: CapabilityProbe | None = None
    identity_check: IdentityCheck | None = None
    already_there: AlreadyThere | None = None


class BatchDelivery:
    """Delivers batches to one destination."""

    def __init__(
        self,
        make_sender: Callable[[], Sender],
        database: Database,
        spool: Spool,
        back_off: BackOff,
        questions: PeerQuestions,
    ) -> None:
        self._make_sender = make_sender
        self._database = database
        self._spool = spool
        self._back_off = back_off
        self._capability_probe = questions.capability_probe
        self._identity_check = questions.identity_check
        self._already_there = questions.already_there
        #: Job keys of batches that were refused for the credentials, although another has gone through since. When they
        #: are refused again, it is for themselves.
        self.suspects: set[str] = set()

    def send(self, batch: DeliveryBatch) -> SentItems:
        """Send a batch and return what came of it.

        What takes back goes to where the result is; a result only to where the study is still the same patient's.
        """
        with self._database.read() as connection:
            requests = requests_of(connection, batch.study_instance_uid)
        with (
            on_behalf_of(requests),
            SPANS.step(batch.study_instance_uid, "deliver", job_key_of(batch.job_key), destination=batch.destination,
                       objects=len(batch.items)) as told,
        ):  # fmt: skip
            sent = self._send(batch)
            told.update(put_off=len(sent.failed), refused=len(sent.refused))
            return sent

    def _send(self, batch: DeliveryBatch) -> SentItems:
        if any(item.is_withdrawal for item in batch.items):
            return self._send_withdrawals(batch)
        held = self._held(batch)
        if held is not None:
            return held
        try:
            batch = self._without_what_is_there(batch)
        except DeliveryDeferred as error:
            return self._unsettled(batch, error)
        if not batch.items:
            return SentItems(has_arrived=True)
        with self._database.write() as connection:
            deliveries.begin_attempt(connection, batch)
        return self._send_result(batch)

    def _without_what_is_there(self, batch: DeliveryBatch) -> DeliveryBatch:
        """Note what the destination has from before a backup was put back, and return the rest.

        Raises `DeliveryDeferred`.
        """
        if self._already_there is None:
            return batch
        there = self._already_there.found(self._database, self._spool, batch)
        found = [item for item in batch.items if item.artifact.uid in there]
        if found:
            with self._database.write() as connection:
                for item in found:
                    deliveries.mark_found(connection, batch, item, now_in(connection))
            what = {"destination": batch.destination, "study": batch.study_instance_uid, "objects": len(found)}
            _log.info("objects were there before the restore", extra=what)
        return replace(batch, items=tuple(item for item in batch.items if item not in found))

    def _held(self, batch: DeliveryBatch) -> SentItems | None:
        """Hold the batch where the destination has the study under another patient by now; `None`: it may go.

        A destination that does not answer that takes nothing either: it is tried again like any other attempt.
        """
        if self._identity_check is None:
            return None
        try:
            why = self._identity_check.why_held(self._database, self._spool, batch)
        except DeliveryDeferred as error:
            return self._unsettled(batch, error)
        if not why:
            return None
        with self._database.write() as connection:
            deliveries.mark_held(connection, batch, why, now_in(connection))
        what = {"destination": batch.destination, "study": batch.study_instance_uid, "objects": len(batch.items)}
        _count(batch.destination, "held", len(batch.items))
        _log.error("result held", extra=what | {"why": why})
        return SentItems()

    def _unsettled(self, batch: DeliveryBatch, error: DeliveryDeferred) -> SentItems:
        result = SentItems()
        for item in batch.items:
            result = result.and_then(self._settled(batch, item, self._judged(batch, item, error)))
        return result

    def _send_result(self, batch: DeliveryBatch) -> SentItems:
        """Send what the report refers to, then the report, then what withdraws earlier ones.

        A report waits for its pictures, but not for ever: an object that keeps failing must not hide the findings.
        What the destination refuses for its class may queue the job again, and then the rest is not sent.
        """
        reports = [item for item in batch.items if item.artifact.kind is ArtifactKind.STRUCTURED_REPORT]
        notes = [item for item in batch.items if item.artifact.kind is ArtifactKind.REJECTION_NOTE]
        others = [item for item in batch.items if item not in reports and item not in notes]
        sent = self._send_items(batch, others)
        if self._is_over(batch, sent, [*reports, *notes]):
            return sent
        held = [item for item in sent.failed if item.attempts < _REPORT_WAITS_FOR_ATTEMPTS]
        if held and reports:
            self._defer(batch, reports, DeliveryDeferred("It waits for the objects it refers to."))
        else:
            sent = sent.and_then(self._send_items(batch, reports))
            if self._is_over(batch, sent, notes):
                return sent
        noted = self._send_notes(batch, notes)
        self._park(batch, noted.refused)
        return sent.and_then(noted)

    def _send_withdrawals(self, batch: DeliveryBatch) -> SentItems:
        """Send what takes back, one independent of the other; what is refused for its class makes no job run again."""
        sent = self._send_items(batch, batch.items)
        self._park(batch, sent.refused)
        return sent

    def _is_over(self, batch: DeliveryBatch, sent: SentItems, waiting: Sequence[DeliveryItem]) -> bool:
        """Tell whether nothing more of the batch is to be sent now; what waits is then seen to."""
        if sent.is_cut_off:
            self._park(batch, sent.refused)
            self._give_back(batch, waiting, str(sent.why))
            return True
        return self._is_requeued(batch, sent, waiting)

    def _is_requeued(self, batch: DeliveryBatch, sent: SentItems, waiting: Sequence[DeliveryItem]) -> bool:
        """Park what is refused for its class, in one step with what follows from it: a power cut leaves both undone."""
        if not sent.refused:
            return False
        if self._capability_probe is not None:
            return self._capability_probe.refuses(self._database, batch, sent.refused, waiting)
        self._park(batch, sent.refused)
        return False

    def _park(self, batch: DeliveryBatch, refused: Sequence[RefusedItem]) -> None:
        for item, why in refused:
            self._note(batch, item, ClassRefused(why))

    def _send_notes(self, batch: DeliveryBatch, notes: Sequence[DeliveryItem]) -> SentItems:
        """Withdraw earlier objects once everything that replaces them has arrived."""
        if not notes:
            return SentItems()
        with self._database.read() as connection:
            is_early = deliveries.has_open_beside_notes(connection, batch)
        if is_early:
            self._defer(batch, notes, DeliveryDeferred("It waits until what replaces the earlier objects is there."))
            return SentItems()
        return self._send_items(batch, notes)

    def _send_items(self, batch: DeliveryBatch, items: Sequence[DeliveryItem]) -> SentItems:
        """Send object by object and note each answer at once."""
        items = [item for item in items if self._is_kept(batch, item)]
        open_items = {item.artifact.uid: item for item in items}
        outgoing = [
            Outgoing(one.artifact, self._spool.path(one.artifact.object_key), batch.about, one.is_withdrawal)
            for one in items
        ]
        result = SentItems()
        for sent in self._answers(batch.destination, outgoing):
            item = open_items.pop(sent.artifact_uid)
            said = (sent.note, sent.warning)
            result = result.and_then(self._settled(batch, item, self._judged(batch, item, sent.error), said))
        silence = DeliveryDeferred("The destination gave no answer for this object.")
        for item in open_items.values():
            result = result.and_then(self._settled(batch, item, silence))
        return result

    def _answers(self, destination: str, outgoing: Sequence[Outgoing]) -> Iterator[Sent]:
        """Yield what the destination answers; after a fault of the node's own, that what is left must wait."""
        left = {one.artifact.uid: None for one in outgoing}
        try:
            for sent in self._make_sender().send(outgoing) if outgoing else ():
                left.pop(sent.artifact_uid, None)
                yield sent
        except DeliveryError as error:  # it cannot even be called as the settings say
            yield from (Sent(uid, error, "") for uid in left)
        except Exception as error:  # noqa: BLE001 - what fails for one parcel is put off like any other, and told
            _log.exception("sending failed unexpectedly", extra={"destination": destination})
            why = f"The node failed at sending ({type(error).__name__}); its log says where. It is tried again."
            yield from (Sent(uid, DeliveryDeferred(why), "") for uid in left)

    def _judged(self, batch: DeliveryBatch, item: DeliveryItem, error: DeliveryError | None) -> DeliveryError | None:
        """Return what an error is for this object: where others are taken, or it was answered often, it is refused."""
        is_about_rights = isinstance(error, CredentialsRefused) and not isinstance(error, SignInRefused)
        if is_about_rights and batch.job_key in self.suspects:
            return DeliveryRefused(f"{error} Others are taken; retry it when it may be.")
        if not isinstance(error, DeliveryDeferred) or error.most_attempts is None:
            return error
        attempts = item.attempts + 1
        return error if attempts < error.most_attempts else DeliveryRefused(f"{error} It was tried {attempts} times.")

    def _settled(
        self, batch: DeliveryBatch, item: DeliveryItem, error: DeliveryError | None, said: _Said = _NOTHING_SAID
    ) -> SentItems:
        """Note what became of one object, unless it is refused for its class: that is decided with the others."""
        if isinstance(error, DestinationAway | CredentialsRefused) and not error.may_have_arrived:
            self._give_back(batch, [item], str(error))
            return SentItems((item,), error)
        if isinstance(error, DeliveryDeferred):
            self._defer(batch, [item], error)
            return SentItems((item,), error)
        if isinstance(error, ClassRefused):
            return SentItems(refused=(RefusedItem(item, str(error)),))
        self._note(batch, item, error, said)
        return SentItems(has_arrived=error is None)

    def _is_kept(self, batch: DeliveryBatch, item: DeliveryItem) -> bool:
        """Tell whether the object's bytes are those that were made; park it where the disk has lost or changed them."""
        artifact = item.artifact
        path = self._spool.path(artifact.object_key)
        if not is_damaged(path, artifact.sha256):
            return True
        what = "holds other bytes than were made (sha256 differs)" if path.exists() else "is gone from the spool"
        lost = DeliveryRefused(
            f"Its file {what}. Analyse the study again (dicom-node rerun STUDY), which makes the same bytes; or "
            "restore it from a backup, then: dicom-node retry STUDY"
        )
        with self._database.write() as connection:
            note_damaged(connection, objects_at(connection, [artifact.object_key]), now_in(connection))
        self._note(batch, item, lost)
        return False

    def _note(
        self, batch: DeliveryBatch, item: DeliveryItem, error: Exception | None, said: _Said = _NOTHING_SAID
    ) -> None:
        what = {"destination": batch.destination, "study": batch.study_instance_uid, "uid": item.artifact.uid}
        with self._database.write() as connection:
            now = now_in(connection)
            if error:
                deliveries.mark_parked(connection, batch, item, str(error), now)
            else:
                deliveries.mark_sent(connection, batch, item, said, now)
        count_end(batch.destination, None if error else item.owed_since, now, is_parked=error is not None)
        if error:
            told = "withdrawal parked" if item.is_withdrawal else "object parked"
            _log.error(told, extra=what | {"why": str(error)})
        else:
            _log.log(logging.INFO if said[1] is None else logging.WARNING, "object sent", extra=what | {"why": said[0]})

    def _defer(self, batch: DeliveryBatch, items: Sequence[DeliveryItem], error: DeliveryDeferred) -> None:
        wait_s = max(self._back_off.wait_s(items[0].attempts + 1), wished_s(error))
        with self._database.write() as connection:
            now = now_in(connection)
            for item in items:
                deliveries.mark_deferred(connection, batch, item, str(error), (now, now + timedelta(seconds=wait_s)))
        what = {"destination": batch.destination, "study": batch.study_instance_uid, "objects": len(items)}
        _count(batch.destination, "put_off", len(items))
        _log.warning("delivery put off", extra=what | {"wait_s": round(wait_s, 1), "why": str(error)})

    def _give_back(self, batch: DeliveryBatch, items: Sequence[DeliveryItem], why: str) -> None:
        """Let go of what is no worse for the attempt: it stays due, for when the destination is there."""
        with self._database.write() as connection:
            for item in items:
                deliveries.give_back(connection, batch, item, why, now_in(connection))
        _count(batch.destination, "away", len(items))


def _count(destination: str, outcome: str, number: int = 1) -> None:
    TALLY.count(DELIVERIES, number, destination=destination, outcome=outcome)


def count_end(destination: str, owed_since: datetime | None, now: datetime, *, is_parked: bool) -> None:
    """Count what arrived, and how long it was owed where it arrived for the first time; or what is parked."""
    _count(destination, "parked" if is_parked else "sent")
    if owed_since is not None and not is_parked:
        TALLY.observe(DELIVERY_SECONDS, (now - owed_since).total_seconds(), destination=destination)


def count_unsettled(destination: str, error: DeliveryDeferred) -> None:
    """Count what was not taken this time."""
    _count(destination, "away" if isinstance(error, DestinationAway | CredentialsRefused) else "put_off")


def wished_s(error: DeliveryDeferred) -> float:
    """Return how long a destination asks to be left in peace, as far as that is granted."""
    return min(error.retry_after_s or 0.0, LONGEST_WAIT_S)

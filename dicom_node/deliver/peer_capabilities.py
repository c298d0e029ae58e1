"""What one destination takes, kept true: it is asked now and then, and believed when it refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from dicom_node.config.settings import Settings
from dicom_node.core.errors import DeliveryError
from dicom_node.core.outputs.artifact_kinds import RESULT_CLASSES
from dicom_node.deliver.kinds.kind import DestinationKind, caller_of
from dicom_node.deliver.profiles import Profiles
from dicom_node.dimse.probe import AgreedContexts
from dicom_node.index.database import Database
from dicom_node.index.jobs import requeue
from dicom_node.index.outbox import destinations as peers
from dicom_node.index.outbox.deliveries import DeliveryBatch, DeliveryItem, RefusedItem, cancel_untried, mark_parked
from dicom_node.index.outbox.destinations import PeerMemory

#: A peer that was away is asked again after this long; meanwhile what it said last holds.
_ASK_ABSENT_AGAIN = timedelta(seconds=60)
_LOOK_EVERY_S = 5.0
_log = logging.getLogger(__name__)


class CapabilityProbe:
    """One destination: `ask` opens an association, or is `None` where there is nothing to ask (DICOMweb)."""

    def __init__(
        self, name: str, profiles: Profiles, probe_peer: Callable[[], AgreedContexts] | None, ask_again_s: float
    ) -> None:
        self.profiles = profiles
        self._peer = (name, profiles.by_name[name].address)
        self._ask = probe_peer
        self._ask_again = timedelta(seconds=ask_again_s)
        self._next_look = 0.0

    def ask_if_due(self, database: Database) -> bool:
        """Ask when nothing is known, the answer is old, or it was just proven wrong; tell whether it was asked."""
        if self._ask is None or time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        with database.read() as connection:
            known = peers.recall(connection, *self._peer)
        return self._is_due(known) and self._ask_now(database, self._ask)

    def refuses(
        self, database: Database, batch: DeliveryBatch, refused: Iterable[RefusedItem], waiting: Iterable[DeliveryItem]
    ) -> bool:
        """Believe a refusal of classes, and where it changes what the destination gets, queue the job again.

        Then `waiting`, the rest of the batch, is not owed until that has planned what is. `False`: send on, since
        nothing else would come. What else it takes is asked at once, so that one more run is enough.
        """
        name, now, given = self._peer[0], _now(), list(refused)
        items = [one.item for one in given]
        with database.write() as connection:
            for item in items:
                peers.note_refusal(connection, self._peer, item.artifact.sop_class_uid, now)
        if self._ask is not None:
            self._ask_now(database, self._ask)
        with database.write() as connection:
            for item, reason in given:
                mark_parked(connection, batch, item, reason, now)
            wanted = self.profiles.fitted(connection, name).outputs.key
            if all(not one.artifact.output_keys or wanted in one.artifact.output_keys for one in items):
                return False
            kinds = ", ".join(dict.fromkeys(_kind(one) for one in items))
            why = f"{name} does not take {kinds}: the job is queued again, for what it takes."
            if not requeue(connection, batch.job_key, why, now):
                return False
            cancel_untried(connection, batch, list(waiting))
        _log.warning(
            "result requeued", extra={"destination": name, "study": batch.study_instance_uid, "refused": kinds}
        )
        return True

    def _ask_now(self, database: Database, probe_peer: Callable[[], AgreedContexts]) -> bool:
        try:
            agreement = probe_peer()
        except DeliveryError as error:
            _log.info("destination not heard", extra={"destination": self._peer[0], "why": str(error)})
            with database.write() as connection:
                peers.note_silence(connection, self._peer, _now())
            return True
        with database.write() as connection:
            peers.remember(connection, self._peer, agreement.implementation, agreement.accepted, _now())
        takes = sorted(RESULT_CLASSES[uid] for uid in agreement.accepted)
        _log.info("destination asked", extra={"destination": self._peer[0], "takes": takes})
        return True

    def _is_due(self, known: PeerMemory | None) -> bool:
        if known is None or known.asked_at is None:
            return True
        now = _now()
        heard = known.heard_at is not None and _is_within(self._ask_again, known.heard_at, now)
        return not heard and not _is_within(min(_ASK_ABSENT_AGAIN, self._ask_again), known.asked_at, now)


def capability_probe(destination: DestinationKind, profiles: Profiles, settings: Settings) -> CapabilityProbe | None:
    """Return what knows a destination; `None` for one that takes whatever it gets."""
    if not destination.address:
        return None
    probe_peer = destination.probe(caller_of(settings))
    return CapabilityProbe(destination.name, profiles, probe_peer, settings.delivery.ask_again_s)


def _is_within(span: timedelta, since: datetime, now: datetime) -> bool:
    """Tell whether less time has passed; what lies ahead was written before the clock was set back, who knows when."""
    return timedelta(0) <= now - since < span


def _kind(item: DeliveryItem) -> str:
    return RESULT_CLASSES.get(item.artifact.sop_class_uid, item.artifact.kind)


def _now() -> datetime:
    return datetime.now(UTC)

"""Tells one destination of one event, and notes what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from dicom_node.core.calls.requests import on_behalf_of
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
)
from dicom_node.core.metrics.spans import SPANS
from dicom_node.deliver.dispatch.batch import SentItems, count_end, count_unsettled, wished_s
from dicom_node.deliver.dispatch.outage import BackOff
from dicom_node.deliver.outgoing import EventSender, OutgoingEvent, Sent
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.outbox import notifications
from dicom_node.index.outbox.notifications import Notification
from dicom_node.index.studies import requests_of

_log = logging.getLogger(__name__)


class EventDelivery:
    """Delivers events to one destination, as `BatchDelivery` does batches of objects."""

    def __init__(self, make_sender: Callable[[], EventSender], database: Database, back_off: BackOff) -> None:
        self._make_sender = make_sender
        self._database = database
        self._back_off = back_off
        #: Events that were refused for the login, although another has gone through since.
        self.suspects: set[str] = set()

    def send(self, event: Notification) -> SentItems:
        """Send an event and return what came of it."""
        with self._database.write() as connection:
            notifications.begin_attempt(connection, event)
            requests = requests_of(connection, event.study_instance_uid)
        step = SPANS.step(event.study_instance_uid, "tell", "", destination=event.destination, type=event.type)
        with on_behalf_of(requests), step as told:
            sent = self._sent(event)
            told.update(put_off=len(sent.failed))
            return sent

    def _sent(self, event: Notification) -> SentItems:
        silence = Sent(event.event_id, DeliveryDeferred("The destination gave no answer for this event."), "")
        *_, sent = (silence, *self._answers(event))
        return self._settled(event, self._judged(event, sent.error), sent.note)

    def _answers(self, event: Notification) -> Iterator[Sent]:
        try:
            yield from self._make_sender().send([OutgoingEvent(event.event_id, event.body)])
        except Exception as error:  # noqa: BLE001 - what fails for one event is put off like any other, and told
            _log.exception("sending failed unexpectedly", extra={"destination": event.destination})
            why = f"The node failed at sending ({type(error).__name__}); its log says where. It is tried again."
            yield Sent(event.event_id, DeliveryDeferred(why), "")

    def _judged(self, event: Notification, error: DeliveryError | None) -> DeliveryError | None:
        is_for_itself = isinstance(error, CredentialsRefused) and event.key in self.suspects
        return DeliveryRefused(f"{error} Others are taken; retry it when it may be.") if is_for_itself else error

    def _settled(self, event: Notification, error: DeliveryError | None, note: str) -> SentItems:
        what = {"destination": event.destination, "event_id": event.event_id, "type": event.type}
        with self._database.write() as connection:
            now = now_in(connection)
            if error is None:
                notifications.mark_sent(connection, event, note, now)
            elif isinstance(error, DestinationAway | CredentialsRefused):
                notifications.give_back(connection, event, str(error), now)
            elif isinstance(error, DeliveryDeferred):
                wait_s = max(self._back_off.wait_s(event.attempts + 1), wished_s(error))
                again = (now, now + timedelta(seconds=wait_s))
                notifications.mark_deferred(connection, event, str(error), again)
            else:
                notifications.mark_parked(connection, event, str(error), now)
        if isinstance(error, DeliveryDeferred):
            count_unsettled(event.destination, error)
        else:
            count_end(event.destination, event.owed_since, now, is_parked=error is not None)
        if error is None:
            _log.info("event told", extra=what | {"why": note})
            return SentItems(has_arrived=True)
        if isinstance(error, DeliveryDeferred):
            _log.warning("event put off", extra=what | {"why": str(error)})
            return SentItems((event,), error)
        _log.error("event parked", extra=what | {"why": str(error)})
        return SentItems()

"""Delivers what is owed, objects or events, one thread per destination, so that one slow PACS blocks neither another
nor the EHR.

A destination that is away is asked every few seconds whether it is back, and then gets everything at once, urgent
studies first; one that does not let the node in is suspended. An object that it cannot take is tried again, less and
less often, for ever; one that it will never take as it is gets parked with the reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from dicom_node.core.audit import Audit
from dicom_node.core.calls.limits import LONGEST_WAIT_S
from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DestinationAway,
    DestinationBusy,
    IndexUnavailable,
)
from dicom_node.core.metrics.table import DESTINATION_UP
from dicom_node.core.metrics.tally import TALLY
from dicom_node.deliver.dispatch.already_there import AlreadyThere
from dicom_node.deliver.dispatch.batch import BatchDelivery, PeerQuestions, SentItems, wished_s
from dicom_node.deliver.dispatch.events import EventDelivery
from dicom_node.deliver.dispatch.identity_check import IdentityCheck
from dicom_node.deliver.dispatch.outage import BackOff, Outage
from dicom_node.deliver.outgoing import EventSender, Sender
from dicom_node.deliver.peer_capabilities import CapabilityProbe
from dicom_node.deliver.withdrawals import WithdrawalPlanner
from dicom_node.end import VitalThread
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.outbox import deliveries, destinations, notifications
from dicom_node.index.outbox.deliveries import Claimant
from dicom_node.index.outbox.destinations import Suspension
from dicom_node.people.audit.care import note_sent
from dicom_node.storage.spool import Spool

_POLL_S = 1.0
_LEASE_S = 600.0
#: So often a suspended destination is asked whether it lets the node in again.
_ASK_SUSPENDED_S = 180.0
#: So many batches in a row, none of them tried before, are taken for a sign that it is not they who are at fault.
_FAILURES_OF_DESTINATION = 3
#: So many batches that were not taken are remembered: they go into one statement, and SQLite takes 32,766 values there.
_MOST_REMEMBERED = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """Who claims what is owed, how failures are spaced, and what is known of the destination, if it can be known.

    `reach` asks at little cost whether the destination is there and lets the node in; it raises `DeliveryError` if not.
    `withdrawal_planner` owes it what takes back withdrawn results; `identity_check` asks before a result goes whose
    study it has, `already_there` in a restored node whether the result is there.
    """

    owner: str
    back_off: BackOff
    capability_probe: CapabilityProbe | None = None
    reach: Callable[[], None] | None = None
    withdrawal_planner: WithdrawalPlanner = field(default_factory=WithdrawalPlanner)
    identity_check: IdentityCheck | None = None
    already_there: AlreadyThere | None = None
    #: The destination is told of events, and owed no objects.
    tells_events: bool = False
    audit: Audit | None = None


class Claimed(Protocol):
    """What goes to a destination at once: the objects of one result, or one event."""

    @property
    def key(self) -> str: ...
    @property
    def study_instance_uid(self) -> str: ...


class Rows(Protocol):
    """What is owed to a destination, in the index: `index.outbox.deliveries` or `index.outbox.notifications`."""

    def next_due(self, connection: Connection, destination: str, claimant: Claimant, now: datetime) -> str | None: ...

    def claim_batch(
        self, connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str]
    ) -> Any: ...

    def make_due(self, connection: Connection, destination: str, now: datetime) -> int: ...


class Delivery(Protocol):
    """What sends what was claimed of these rows, and notes what became of it."""

    suspects: set[str]

    def send(self, claimed: Any, /) -> SentItems: ...


class DestinationWorker:
    """Works off what is owed to one destination."""

    def __init__(
        self,
        destination: str,
        make_sender: Callable[[], Sender | EventSender],
        database: Database,
        spool: Spool,
        policy: OutboxPolicy,
    ) -> None:
        self._destination = destination
        self._database = database
        self._spool = spool
        self._use(make_sender, policy)
        #: What takes the place of sender and policy before the next batch; whether the destination is another one then.
        self._renewal: tuple[Callable[[], Sender | EventSender], OutboxPolicy, bool] | None = None
        self._database_away = OutageLog(_log, "outbox waits for the database", "outbox has the database again")
        self._outage: Outage | None = None
        self._failures = 0
        self._ask_suspended_at = 0.0
        #: Job keys of the batches that were not taken in this outage, and of those refused for the credentials.
        self._tried: set[str] = set()
        self._refused: set[str] = set()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._after: Sequence[DestinationWorker] = ()
        self._thread = VitalThread(self._run, f"outbox-{destination}")

    def _use(self, make_sender: Callable[[], Sender | EventSender], policy: OutboxPolicy) -> None:
        self._policy = policy
        longest_s = max(policy.back_off.longest_s, LONGEST_WAIT_S)
        self._claimant = Claimant(policy.owner, _LEASE_S, longest_s)
        questions = PeerQuestions(policy.capability_probe, policy.identity_check, policy.already_there)
        make: Callable[[], Any] = make_sender
        self._rows: Rows = notifications if policy.tells_events else deliveries
        self._delivery: Delivery = (
            EventDelivery(make, self._database, policy.back_off)
            if policy.tells_events
            else BatchDelivery(make, self._database, self._spool, policy.back_off, questions)
        )

    def start(self, after: Sequence[DestinationWorker] = ()) -> None:
        """Begin to deliver in a thread of its own; `after`: when those, of the same destination, have ended."""
        self._note_up(is_up=True)  # nothing says otherwise yet
        self._after = after
        self._thread.start()

    def renew(self, make_sender: Callable[[], Sender | EventSender], policy: OutboxPolicy, *, is_another: bool) -> None:
        """Deliver by other settings from the next batch on; what is on its way ends as it began. `is_another`: the
        destination itself is configured otherwise, so that what is known of it says nothing of that one."""
        waiting = self._renewal
        self._renewal = (make_sender, policy, is_another or (waiting is not None and waiting[2]))
        self._wake.set()

    def stop(self) -> None:
        """End after the object that is on its way; what is left stays owed."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout_s: float | None) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def wake(self) -> None:
        """Something new is owed, or the operator wants it tried now."""
        self._wake.set()

    @property
    def is_working(self) -> bool:
        """Tell whether its thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        for one in self._after:
            one.join(None)
        while not self._stop.is_set():
            if not self._step():
                self._wake.wait(_POLL_S)
            self._wake.clear()

    def _step(self) -> bool:
        """Deliver one batch; `False` when there is a reason to pause (nothing due, or the peer is away)."""
        try:
            self._take_renewal()
            self.plan_withdrawals()
            is_due, suspension = self._look()
            self._database_away.worked(destination=self._destination)
            if self._policy.capability_probe is not None and self._outage is None and suspension is None:
                self._policy.capability_probe.ask_if_due(self._database)
            return is_due and self._may_send(suspension) and self.deliver_once()
        except IndexUnavailable as error:
            self._database_away.failed(str(error), {"destination": self._destination})
        except Exception as error:  # noqa: BLE001 - the delivery door: a fault in one batch must not end deliveries
            _log.exception("delivery failed unexpectedly", extra={"destination": self._destination})
            self._is_out(DeliveryDeferred(f"Unexpected {type(error).__name__}."))
        return False

    def _take_renewal(self) -> None:
        """Begin to deliver by other settings, if they came; another destination is tried at once."""
        renewal = self._renewal
        if renewal is None:
            return
        make_sender, policy, is_another = renewal
        suspects = self._delivery.suspects
        self._use(make_sender, policy)
        if is_another:
            with self._database.write() as connection:
                self._rows.make_due(connection, self._destination, now_in(connection))
            self._outage, self._failures, self._ask_suspended_at = None, 0, 0.0
            self._tried.clear()
            self._refused.clear()
            self._note_up(is_up=True)
        else:
            self._delivery.suspects = suspects
        if self._renewal is renewal:  # else there is a newer one, which is taken next
            self._renewal = None

    # --- whether to send ---

    def plan_withdrawals(self) -> None:
        """Owe the destination what takes back what it shows of withdrawn results."""
        self._policy.withdrawal_planner.plan(self._database, self._spool, self._destination)

    def _look(self) -> tuple[bool, Suspension | None]:
        """Tell whether anything is due, and why the destination is suspended, if it is."""
        with self._database.read() as connection:
            now = now_in(connection)
            is_due = self._rows.next_due(connection, self._destination, self._claimant, now) is not None
            return is_due, destinations.suspension_of(connection, self._destination)

    def _may_send(self, suspension: Suspension | None) -> bool:
        """Tell whether the destination is believed to take something; asks it where that is doubtful.

        One that a person has suspended is not even asked.
        """
        now = time.monotonic()
        if suspension is not None:
            if suspension.by or now < self._ask_suspended_at:
                return False
            self._ask_suspended_at = now + _ASK_SUSPENDED_S
            return self._policy.reach is None or self._answers()
        outage = self._outage
        if outage is None or outage.is_attempt_due(now):
            return True
        if self._policy.reach is not None and outage.is_to_be_asked(now):
            answered = self._answers()
            outage.asked(time.monotonic(), answered=answered)
        return outage.is_attempt_due(time.monotonic())

    def _answers(self) -> bool:
        assert self._policy.reach is not None
        try:
            self._policy.reach()
        except DeliveryError as error:
            _log.debug("destination does not answer", extra={"destination": self._destination, "why": str(error)})
            return False
        return True

    # --- sending ---

    def deliver_once(self) -> bool:
        """Deliver the batch whose turn it is; `False` when none is due or the destination takes nothing.

        Another batch than those that were not taken lately goes first: one of them may have been the reason.
        """
        batch = self._claim(self._tried | self._refused) or self._claim()
        if batch is None:
            return False
        sent = self._delivery.send(batch)
        if sent.has_arrived and self._policy.audit is not None:
            note_sent(self._policy.audit, self._destination, batch, len(sent.failed) + len(sent.refused))
        return self._is_taken(batch, sent)

    def _claim(self, passing_over: Collection[str] = ()) -> Claimed | None:
        with self._database.write() as connection:
            now = now_in(connection)
            claimed: Claimed | None = self._rows.claim_batch(
                connection, self._destination, self._claimant, now, passing_over
            )
            return claimed

    def _is_taken(self, batch: Claimed, sent: SentItems) -> bool:
        """Draw from one batch what it says of the destination; `False` when that takes nothing now.

        One batch that was not taken may itself be the reason, so the next one is tried; what was tried before and
        fails again says nothing new.
        """
        if isinstance(sent.why, CredentialsRefused):
            return self._is_shut_out(batch, sent.why)
        if isinstance(sent.why, DestinationAway):
            return self._is_out(sent.why)
        if sent.has_arrived:
            return self._is_back(batch)
        if sent.why is None:
            return True
        remember(self._tried, batch.key)
        if isinstance(sent.why, DestinationBusy):
            return self._is_out(sent.why)
        self._failures += self._outage is not None or any(item.attempts == 0 for item in sent.failed)
        return self._failures < _FAILURES_OF_DESTINATION or self._is_out(sent.why)

    # --- what is believed of the destination ---

    def _is_out(self, why: DeliveryDeferred) -> bool:
        """Leave the destination in peace for as long as it has been away already; always `False`."""
        now = time.monotonic()
        self._note_up(is_up=False)
        if self._outage is None:
            self._outage = Outage(self._policy.back_off, now)
            _log.warning("destination takes nothing", extra={"destination": self._destination, "why": str(why)})
        self._failures = 0
        self._outage.attempt_failed(now, answered=not isinstance(why, DestinationAway), at_least_s=wished_s(why))
        return False

    def _is_shut_out(self, batch: Claimed, why: CredentialsRefused) -> bool:
        """Suspend the destination and say so once; always `False`."""
        remember(self._refused, batch.key)
        self._note_up(is_up=False)
        self._ask_suspended_at = time.monotonic() + _ASK_SUSPENDED_S
        with self._database.write() as connection:
            is_new = destinations.suspend(connection, self._destination, str(why), now_in(connection))
        if is_new:
            advice = f"Put it right, then: dicom-node retry --destination {self._destination}"
            _log.error("destination suspended", extra={
                "destination": self._destination, "why": str(why), "advice": advice})  # fmt: skip
        return False

    def _is_back(self, batch: Claimed) -> bool:
        """Note that the destination takes objects; what was put off while it did not is due at once. Always `True`."""
        self._failures = 0
        self._note_up(is_up=True)
        for key in self._refused:
            remember(self._delivery.suspects, key)
        self._delivery.suspects.discard(batch.key)
        self._refused.clear()
        self._tried.clear()
        outage, self._outage = self._outage, None
        with self._database.write() as connection:
            was_suspended = destinations.resume(connection, self._destination, now_in(connection))
            if outage is not None:
                self._rows.make_due(connection, self._destination, now_in(connection))
        if outage is not None or was_suspended:
            away_s = round(time.monotonic() - outage.began_at, 1) if outage else None
            _log.info("destination takes objects again", extra={"destination": self._destination, "away_s": away_s})
        return True

    def _note_up(self, *, is_up: bool) -> None:
        if not self._stop.is_set():  # one that is gone is neither
            TALLY.set(DESTINATION_UP, is_up, destination=self._destination)


def remember(keys: set[str], key: str) -> None:
    """Add the key of a batch; where there are too many, all others are forgotten first, and have their turn again.

    An outage may last for weeks, and every batch that waits may be tried in it.
    """
    if len(keys) >= _MOST_REMEMBERED:
        keys.clear()
    keys.add(key)

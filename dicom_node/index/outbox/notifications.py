"""What is owed to destinations that are told of events: the same outbox as that of objects, one event at a time.

An event waits for the earlier ones of its study, so that nobody hears of a withdrawal before the result; one that is
parked holds up nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update

from dicom_node.core.entities import DeliveryState
from dicom_node.index.database import insert_of
from dicom_node.index.due import count_leases_anew, is_due
from dicom_node.index.notices import Subscriber
from dicom_node.index.outbox.deliveries import Claimant
from dicom_node.index.tables import notifications, subscribers
from dicom_node.index.transitions import NO_LEASE, Change, make_notifications_due, move_notification


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One event that is owed to one destination, as its claimant sends it."""

    number: int
    destination: str
    event_id: str
    type: str
    study_instance_uid: str
    body: str
    attempts: int
    note: str
    owner: str
    #: Since when it is owed.
    owed_since: datetime

    @property
    def key(self) -> str:
        """What the outbox knows it by."""
        return self.event_id


def subscribe(connection: Connection, listening: Sequence[Subscriber]) -> None:
    """Tell these destinations of what happens from now on, and no others. Several roles may say so at once."""
    connection.execute(delete(subscribers).where(subscribers.c.name.not_in([one.name for one in listening])))
    for one in sorted(listening, key=lambda one: one.name):
        values = {"routes": list(one.routes), "include": list(one.include)}
        fresh = insert_of(connection)(subscribers).values(name=one.name, **values)
        connection.execute(fresh.on_conflict_do_update(index_elements=[subscribers.c.name], set_=values))


def next_due(
    connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str] = ()
) -> str | None:
    """Return the id of the event that is next for this destination, as `deliveries.next_due` does of batches."""
    put_off_until = is_due(notifications.c.next_attempt_at, now, claimant.longest_wait_s)
    query = select(notifications.c.event_id).where(
        _is_free(destination, claimant, now),
        or_(notifications.c.attempts == 0, put_off_until),
        notifications.c.event_id.not_in(passing_over),
        ~_is_behind_another(),
    )
    return connection.execute(query.order_by(notifications.c.urgency, notifications.c.id).limit(1)).scalar()


def _is_behind_another() -> ColumnElement[bool]:
    earlier = notifications.alias("earlier")
    return and_(
        notifications.c.study_instance_uid != "",
        exists().where(
            earlier.c.study_instance_uid == notifications.c.study_instance_uid,
            earlier.c.destination == notifications.c.destination,
            earlier.c.state == DeliveryState.PENDING,
            earlier.c.id < notifications.c.id,
        ),
    )


def claim_batch(
    connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str] = ()
) -> Notification | None:
    """Take the event that is next for this destination; `None` when nothing is due, or another worker was first."""
    count_leases_anew(connection, notifications, _is_owed_to(destination), now, claimant.lease_s)
    event_id = next_due(connection, destination, claimant, now, passing_over)
    if event_id is None:
        return None
    mine = and_(_is_free(destination, claimant, now), notifications.c.event_id == event_id)
    row = connection.execute(select(notifications).where(mine).with_for_update()).one_or_none()
    if row is None:
        return None
    lease = {"lease_owner": claimant.owner, "lease_until": now + timedelta(seconds=claimant.lease_s)}
    connection.execute(update(notifications).where(notifications.c.id == row.id).values(**lease))
    return Notification(
        number=row.id, destination=destination, event_id=row.event_id, type=row.type,
        study_instance_uid=row.study_instance_uid, body=row.body, attempts=row.attempts, note=row.note,
        owner=claimant.owner, owed_since=row.created_at,
    )  # fmt: skip


def _is_free(destination: str, claimant: Claimant, now: datetime) -> ColumnElement[bool]:
    free = or_(notifications.c.lease_until.is_(None), is_due(notifications.c.lease_until, now, claimant.lease_s))
    return and_(_is_owed_to(destination), free)


def _is_owed_to(destination: str) -> ColumnElement[bool]:
    return and_(notifications.c.destination == destination, notifications.c.state == DeliveryState.PENDING)


# --- what became of one ------------------------------------------------------------------------------------------


def begin_attempt(connection: Connection, event: Notification) -> None:
    """Count the attempt before the first byte leaves: what happens then may have arrived."""
    connection.execute(update(notifications).where(_is_held(event)).values(attempts=event.attempts + 1))


def mark_sent(connection: Connection, event: Notification, note: str, now: datetime) -> None:
    """Note that the destination has taken the event."""
    sent = _change(event, now, ("told", f"{event.destination} was told: {event.type}."))
    _move(connection, event, DeliveryState.SENT, sent, sent_at=now, note=note)


def mark_parked(connection: Connection, event: Notification, why: str, now: datetime) -> None:
    """Note that the destination will not take the event as it is; a human must look."""
    parked = _change(event, now, ("parked", f"Event {event.type} parked for {event.destination}: {why}"))
    _move(connection, event, DeliveryState.PARKED, parked, note=why)


def mark_deferred(connection: Connection, event: Notification, why: str, again: tuple[datetime, datetime]) -> None:
    """Put an event off; `again` is (now, when to try again)."""
    waits = _change(event, again[0], _deferred_line(event, why))
    _move(connection, event, DeliveryState.PENDING, waits, note=why, next_attempt_at=again[1], **NO_LEASE)


def give_back(connection: Connection, event: Notification, why: str, now: datetime) -> None:
    """Let go of an event that the destination was not there for: it stays due, and no attempt is counted."""
    waits = _change(event, now, _deferred_line(event, why))
    columns = {"note": why, "attempts": event.attempts, **NO_LEASE}
    move_notification(connection, _is_held(event), DeliveryState.PENDING, waits, **columns)


def _deferred_line(event: Notification, why: str) -> tuple[str, str] | None:
    """Only the first failure stands in the timeline."""
    if event.attempts or event.note:
        return None
    return "deferred", f"Event {event.type} not yet taken by {event.destination}: {why}"


def _change(event: Notification, now: datetime, line: tuple[str, str] | None) -> Change:
    return Change(now, line, {"event": event.event_id, "destination": event.destination})


def _move(connection: Connection, event: Notification, to: DeliveryState, change: Change, **columns: object) -> None:
    move_notification(connection, _is_held(event), to, change, attempts=event.attempts + 1, **columns)


def _is_held(event: Notification) -> ColumnElement[bool]:
    held = and_(notifications.c.lease_owner == event.owner, notifications.c.state == DeliveryState.PENDING)
    return and_(notifications.c.id == event.number, held)


# --- all of a destination ----------------------------------------------------------------------------------------


def make_due(connection: Connection, destination: str, now: datetime) -> int:
    """Make everything that waits for a destination due now: it has just taken something again."""
    return make_notifications_due(connection, _is_owed_to(destination), now)


def events_owed_to_others(connection: Connection, names: Collection[str]) -> Mapping[str, int]:
    """Return how many events wait for destinations that are not among `names`, by destination."""
    pending = and_(notifications.c.state == DeliveryState.PENDING, notifications.c.destination.not_in(names))
    query = select(notifications.c.destination, func.count()).where(pending).group_by(notifications.c.destination)
    return {row[0]: row[1] for row in connection.execute(query)}


def open_per_destination(connection: Connection) -> Mapping[str, Mapping[str, int]]:
    """Return how many events wait for each destination, and how many are parked for it, by state."""
    still_open = notifications.c.state.in_([DeliveryState.PENDING, DeliveryState.PARKED])
    query = select(notifications.c.destination, notifications.c.state, func.count()).where(still_open)
    found: dict[str, dict[str, Any]] = {}
    for destination, state, number in connection.execute(
        query.group_by(notifications.c.destination, notifications.c.state)
    ):
        found.setdefault(destination, {})[state] = number
    return found

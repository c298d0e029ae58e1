"""What receivers are owed of alarms: entered with the change it tells of, sent as often as it takes.

What is held back in quiet hours becomes one message when they end. A batch, once made, stays the same, so that a
receiver knows a repetition by its id.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from dicom_node.core.alarms.standing import Alarm, AlarmStep
from dicom_node.core.alarms.telling import as_told
from dicom_node.index.alarms.receivers import AlarmReceivers
from dicom_node.index.database import is_among
from dicom_node.index.tables import alarm_messages

_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=15), timedelta(minutes=10)
_LEASE = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class OwedMessage:
    """What goes out at once: the rows of one batch, with what each tells, in their order."""

    batch: str
    alarms: Sequence[Mapping[str, object]]
    attempts: int


def tell(connection: Connection, alarm: Alarm, step: AlarmStep, receivers: AlarmReceivers, now: datetime) -> None:
    """Owe every receiver that wants it a message on what became of an alarm."""
    for one in receivers.receivers:
        if one.wants(alarm):
            until = one.held_until(alarm, now, receivers.zone)
            connection.execute(insert(alarm_messages).values(
                receiver=one.name, alarm_id=alarm.number, body=dict(as_told(alarm, step, now)),
                batch=f"alm_{uuid.uuid4().hex}", is_held=until is not None, created_at=now, due_at=until or now,
                attempts=0, fault="",
            ))  # fmt: skip


def claim_message(connection: Connection, receiver: str, now: datetime) -> OwedMessage | None:
    """Return what is to be sent next, and let nobody else send it for a while; `None`: nothing is due."""
    _join_held(connection, receiver, now)
    free = or_(alarm_messages.c.lease_until.is_(None), alarm_messages.c.lease_until <= now)
    due = and_(_is_owed(receiver), alarm_messages.c.is_held.is_(False), alarm_messages.c.due_at <= now, free)
    first = select(alarm_messages).where(due).order_by(alarm_messages.c.id).limit(1).with_for_update()
    row = connection.execute(first).one_or_none()
    if row is None:
        return None
    mine = and_(_is_owed(receiver), alarm_messages.c.batch == row.batch)
    connection.execute(update(alarm_messages).where(mine).values(lease_until=now + _LEASE))
    rows = connection.execute(select(alarm_messages.c.body).where(mine).order_by(alarm_messages.c.id))
    return OwedMessage(row.batch, list(rows.scalars()), row.attempts)


def _join_held(connection: Connection, receiver: str, now: datetime) -> None:
    """Make one batch of what was held back until now."""
    held = and_(_is_owed(receiver), alarm_messages.c.is_held.is_(True), alarm_messages.c.due_at <= now)
    query = select(alarm_messages.c.id, alarm_messages.c.batch).where(held).order_by(alarm_messages.c.id)
    rows = connection.execute(query.with_for_update()).all()
    if rows:
        ids = [row.id for row in rows]
        joined = {"batch": rows[0].batch, "is_held": False}
        connection.execute(update(alarm_messages).where(is_among(alarm_messages.c.id, ids)).values(joined))


def note_sent(connection: Connection, message: OwedMessage, now: datetime) -> None:
    """Note that a receiver has it."""
    mine = alarm_messages.c.batch == message.batch
    connection.execute(update(alarm_messages).where(mine).values(sent_at=now, lease_until=None, fault=""))


def note_failed(connection: Connection, message: OwedMessage, why: str, now: datetime) -> None:
    """Let it be tried again, later each time; there is no last attempt."""
    wait = min(_FIRST_WAIT * 2 ** min(message.attempts, 10), _LONGEST_WAIT)
    again: dict[str, Any] = {"attempts": message.attempts + 1, "due_at": now + wait, "lease_until": None, "fault": why}
    connection.execute(update(alarm_messages).where(alarm_messages.c.batch == message.batch).values(again))


def oldest_unsent(connection: Connection) -> Mapping[str, tuple[datetime, str]]:
    """Return for each receiver since when the first message is tried that it did not take, and why it did not."""
    tried = and_(alarm_messages.c.sent_at.is_(None), alarm_messages.c.attempts > 0)
    query = select(alarm_messages.c.receiver, func.min(alarm_messages.c.id)).where(tried)
    firsts = [row[1] for row in connection.execute(query.group_by(alarm_messages.c.receiver))]
    rows = connection.execute(select(alarm_messages).where(is_among(alarm_messages.c.id, firsts)))
    return {row.receiver: (row.created_at, row.fault) for row in rows}


def forget_receivers(connection: Connection, known: Collection[str]) -> int:
    """Drop what is owed to receivers that the settings have no more; return how much that was."""
    gone = and_(alarm_messages.c.sent_at.is_(None), ~is_among(alarm_messages.c.receiver, list(known)))
    return connection.execute(delete(alarm_messages).where(gone)).rowcount


def _is_owed(receiver: str) -> Any:
    return and_(alarm_messages.c.receiver == receiver, alarm_messages.c.sent_at.is_(None))

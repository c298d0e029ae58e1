"""How notifications change their state, and how a change of anything else is owed to those who hear of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, insert, update

from dicom_node.core.entities import DeliveryState
from dicom_node.core.lifecycle import OPEN, check_delivery
from dicom_node.index import notices
from dicom_node.index.notices import Notice
from dicom_node.index.tables import notifications, self_tests
from dicom_node.index.transitions.steps import Change, StateRows, is_self_test

_NOTIFICATIONS = StateRows(notifications, DeliveryState, check_delivery, leased=DeliveryState.PENDING)


def notify(connection: Connection, told: Iterable[Notice], at: datetime) -> None:
    """Owe an event to everybody who hears of it. Nothing is composed where nobody does.

    Of one study events are told in the order in which they happened: what precedes an urgent one is as urgent.
    """
    listening = notices.subscribers_in(connection)
    for notice in told if listening else ():
        for one in listening:
            if one.hears(notice):
                body = notices.body_of(connection, notice, one, at)
                _insert_notification(connection, notice, one.name, at, body)


def _insert_notification(connection: Connection, notice: Notice, destination: str, at: datetime, body: str) -> None:
    study, urgency = notice.study_instance_uid, notice.urgency
    if study and is_self_test(connection, self_tests.c.study_instance_uid == study):
        return
    if study:
        before = and_(notifications.c.destination == destination, notifications.c.study_instance_uid == study)
        waiting = and_(before, notifications.c.state == DeliveryState.PENDING, notifications.c.urgency > urgency)
        connection.execute(update(notifications).where(waiting).values(urgency=urgency))
    connection.execute(
        insert(notifications).values(
            event_id=f"evt_{uuid.uuid4().hex}", destination=destination, type=notice.type, study_instance_uid=study,
            urgency=urgency, body=body, state=DeliveryState.PENDING, next_attempt_at=at, created_at=at,
        )
    )  # fmt: skip


def move_notification(
    connection: Connection, which: ColumnElement[bool], to: DeliveryState, change: Change, **columns: object
) -> bool:
    """Move one notification to `to`, as `move_delivery` does; what is about no study has no timeline."""
    return _NOTIFICATIONS.move(connection, _NOTIFICATIONS.held(which), to, change, columns) is not None


def make_notifications_due(connection: Connection, which: ColumnElement[bool], now: datetime) -> int:
    """Make notifications due now that wait or were parked; return how many."""
    again = {"state": DeliveryState.PENDING, "next_attempt_at": now}
    still_open = notifications.c.state.in_(OPEN)
    return connection.execute(update(notifications).where(which, still_open).values(**again)).rowcount

"""How deliveries change their state: owed, moved, made due again, owed no more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, insert, or_, select, update

from dicom_node.core.entities import DeliveryState
from dicom_node.core.lifecycle import OPEN, SENDABLE, TAKEN_BACK, check_delivery
from dicom_node.index import notices
from dicom_node.index.tables import deliveries, results, self_tests
from dicom_node.index.transitions.notifications import notify
from dicom_node.index.transitions.steps import Change, StateRows, is_self_test, tell

_DELIVERIES = StateRows(deliveries, DeliveryState, check_delivery, leased=DeliveryState.PENDING)


def insert_delivery(
    connection: Connection, artifact_uid: str, job_key: str, destination: str, at: datetime, **columns: object
) -> None:
    """Owe an object to a destination, from now; nothing of a self-test."""
    of_result = select(results.c.study_instance_uid).where(results.c.job_key == job_key)
    if is_self_test(connection, self_tests.c.study_instance_uid.in_(of_result)):
        return
    connection.execute(
        insert(deliveries).values(
            artifact_uid=artifact_uid, job_key=job_key, destination=destination, state=DeliveryState.PENDING,
            next_attempt_at=at, created_at=at, **columns,
        )
    )  # fmt: skip


def move_delivery(
    connection: Connection, which: ColumnElement[bool], to: DeliveryState, change: Change, **columns: object
) -> bool:
    """Move one delivery to `to`; `False` where `which` finds none. Raises `IllegalTransition`.

    To PENDING its lease stays as it is: whoever is sending at this moment finishes first.
    """
    row = _DELIVERIES.move(connection, _held_deliveries(which), to, change, columns)
    if row is None:
        return False
    if to is DeliveryState.PARKED:
        notify(connection, notices.of_delivery(connection, row.id), change.at)
    return True


def make_deliveries_due(
    connection: Connection, study_instance_uid: str, which: ColumnElement[bool], change: Change
) -> list[int]:
    """Make deliveries of a study due now, all but what is proved to have arrived or was given up; return their ids.

    Nothing of a withdrawn result but what takes it back.
    """
    may_go = or_(deliveries.c.is_withdrawal, results.c.standing.not_in(TAKEN_BACK))
    of_study = and_(results.c.study_instance_uid == study_instance_uid, which, may_go)
    rows = connection.execute(_held_deliveries(of_study).order_by(deliveries.c.id)).all()
    ids = [row.id for row in rows if row.state in SENDABLE]
    if ids:
        again = {"state": DeliveryState.PENDING, "next_attempt_at": change.at}
        connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(**again))
        detail = {**change.detail, "delivery_ids": ids}
        tell(connection, study_instance_uid, Change(change.at, change.line, detail, change.actor))
    return ids


def cancel_deliveries(connection: Connection, which: ColumnElement[bool]) -> int:
    """Owe no more what has not arrived, as if it had never been planned; return how many deliveries that were."""
    open_ones = deliveries.c.state.in_(OPEN)
    return connection.execute(delete(deliveries).where(which, open_ones)).rowcount


def _held_deliveries(which: ColumnElement[bool]) -> Select[Any]:
    return (
        select(deliveries.c.id, deliveries.c.state, results.c.study_instance_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(which)
        .with_for_update(of=deliveries)
    )

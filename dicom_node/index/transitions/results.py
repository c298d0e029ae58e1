"""How results change their standing, and how what people decide on them does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from dicom_node.core.entities import DecisionState, JobState, ResultState, ReviewState
from dicom_node.core.lifecycle import RESULT_TRANSITIONS, UNTOLD_DECISION, check_decision, check_result, check_review
from dicom_node.index import notices
from dicom_node.index.tables import results, reviews
from dicom_node.index.transitions.notifications import notify
from dicom_node.index.transitions.steps import Change, StateRows, tell

_REVIEWS = StateRows(reviews, DecisionState, check_decision)


def insert_result(
    connection: Connection, job_key: str, state: JobState, created_at: datetime, **columns: object
) -> None:
    """Enter a result, which holds; its state is the one in which its job ended."""
    columns = {"state": state, "standing": ResultState.CURRENT, "created_at": created_at, **columns}
    connection.execute(insert(results).values(job_key=job_key, **columns))
    if state in notices.OF_RESULT:
        notify(connection, notices.of_result(connection, notices.OF_RESULT[state], job_key), created_at)


def move_result(
    connection: Connection, which: ColumnElement[bool], to: ResultState, reason: str, change: Change
) -> list[str]:
    """Say of results that hold no longer that they are `to` now, and why; return their job keys.

    What can become no more than it is stays so: the first reason is the one that counts. The timeline tells of those
    that held until now.
    """
    before = [one for one in ResultState if to in RESULT_TRANSITIONS[one]]
    query = select(results.c.job_key, results.c.study_instance_uid, results.c.route, results.c.standing)
    held = and_(which, results.c.standing.in_(before))
    rows = connection.execute(query.where(held).order_by(results.c.job_key).with_for_update()).all()
    for row in rows:
        check_result(ResultState(row.standing), to)
        columns = {"standing": to, "standing_reason": reason, "standing_at": change.at}
        connection.execute(update(results).where(results.c.job_key == row.job_key).values(**columns))
        if row.standing == ResultState.CURRENT:
            tell(connection, row.study_instance_uid, replace(change, detail={"route": row.route, **change.detail}))
        if to in notices.OF_STANDING:
            notify(connection, notices.of_result(connection, notices.OF_STANDING[to], row.job_key), change.at)
    return [row.job_key for row in rows]


def insert_review(connection: Connection, job_key: str, state: DecisionState, change: Change, **columns: Any) -> int:
    """Enter a decision on a result and return its number. One that is decided says of the result what it is."""
    values = {"job_key": job_key, "state": state, "decided_at": change.at, "not_before": change.at, **columns}
    number = connection.execute(insert(reviews).values(**values).returning(reviews.c.id)).scalar_one()
    tell(connection, columns["study_instance_uid"], change)
    if state is DecisionState.DECIDED:
        _decided(connection, number, change.at)
    return int(number)


def move_review(
    connection: Connection, which: ColumnElement[bool], to: DecisionState, change: Change, **columns: object
) -> bool:
    """Move one decision to `to`; `False` where `which` finds none. Raises `IllegalTransition`."""
    row = _REVIEWS.move(connection, _REVIEWS.held(which), to, change, columns)
    if row is None:
        return False
    if to is DecisionState.DECIDED:
        _decided(connection, row.id, change.at)
    elif to in UNTOLD_DECISION and row.state == DecisionState.DECIDED:
        _untold(connection, row.id, to, change.at)
    return True


def _decided(connection: Connection, number: int, at: datetime) -> None:
    """Say of the result what was decided, and tell others so: nobody else need confirm it."""
    decided = connection.execute(select(reviews.c.job_key, reviews.c.review_state).where(reviews.c.id == number)).one()
    _say_of_result(connection, decided.job_key, ReviewState(decided.review_state))
    notify(connection, notices.of_review(connection, notices.OF_REVIEW[DecisionState.DECIDED], number), at)


def _untold(connection: Connection, number: int, to: DecisionState, at: datetime) -> None:
    """Say of the result that nobody has reviewed it after all, and tell that whoever heard of the decision."""
    job_key = connection.execute(select(reviews.c.job_key).where(reviews.c.id == number)).scalar_one()
    _say_of_result(connection, job_key, ReviewState.UNREVIEWED)
    notify(connection, notices.of_review(connection, notices.OF_REVIEW[to], number), at)


def _say_of_result(connection: Connection, job_key: str, now: ReviewState) -> None:
    mine = results.c.job_key == job_key
    old = connection.execute(select(results.c.review_state).where(mine).with_for_update()).scalar_one()
    check_review(ReviewState(old), now)
    connection.execute(update(results).where(mine).values(review_state=now))

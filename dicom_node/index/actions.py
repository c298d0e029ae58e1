"""What an operator may do: send again, analyse again. The API and the command line call the same functions.

Each takes a connection that may write, asks `lifecycle`, leaves a line in the study's timeline, and runs inside the
caller's transaction: all of it happens, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.core.lifecycle import check_delivery, check_job, check_study
from dicom_node.core.priority import Priority, turn_at
from dicom_node.index.events import record
from dicom_node.index.tables import artifacts, deliveries, jobs, results, studies

#: Kind of the timeline's line about something a human asked for.
OPERATOR = "operator"

_FINISHED = frozenset({JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE, JobState.FAILED})


def retry_delivery(connection: Connection, delivery_id: int, now: datetime) -> None:
    """Make one delivery due now: parked or sent ones are sent again, waiting ones wait no longer.

    Raises `NotFound`, or `IllegalTransition` when the destination has already committed to keep the object.
    """
    query = (
        select(deliveries, artifacts.c.kind, results.c.study_instance_uid)
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(deliveries.c.id == delivery_id)
        .with_for_update(of=deliveries)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id}. List deliveries to find its number.")
    _make_due(connection, [row], now)
    text = f"The operator asked to send {row.kind} to {row.destination} again."
    record(connection, row.study_instance_uid, now, (OPERATOR, text), delivery_ids=[delivery_id], was=row.state)


def retry_study(connection: Connection, study_instance_uid: str, now: datetime) -> list[int]:
    """Make every parked or waiting delivery of a study due now; return their ids. Raises `NotFound`."""
    study = _study(connection, study_instance_uid)
    query = (
        select(deliveries.c.id, deliveries.c.state)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(
            results.c.study_instance_uid == study.study_instance_uid,
            deliveries.c.state.in_([DeliveryState.PARKED, DeliveryState.PENDING]),
        )
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )
    rows = connection.execute(query).all()
    if not rows:
        return []
    _make_due(connection, rows, now)
    ids = [row.id for row in rows]
    text = f"The operator asked to send again what waits: {len(ids)} deliveries."
    record(connection, study_instance_uid, now, (OPERATOR, text), delivery_ids=ids)
    return ids


def rerun_study(connection: Connection, study_instance_uid: str, route: str | None, now: datetime) -> list[int]:
    """Queue the finished analyses of the current revision again, of one route or of all; return their job ids.

    The first start of each job stays, so that equal inputs give equal bytes and nothing is reported twice. Raises
    `NotFound` (no such study, or no analysis of that route) and `IllegalTransition` (not finished yet).
    """
    study = _study(connection, study_instance_uid)
    query = select(jobs).where(
        jobs.c.study_instance_uid == study_instance_uid,
        jobs.c.revision == study.revision,
        jobs.c.state != JobState.SUPERSEDED,
    )
    if route is not None:
        query = query.where(jobs.c.route == route)
    rows = connection.execute(query.order_by(jobs.c.id).with_for_update()).all()
    finished = [row for row in rows if JobState(row.state) in _FINISHED]
    _require_something_to_rerun(study_instance_uid, route, len(rows), len(finished))

    check_study(StudyState(study.state), StudyState.ANALYSING)
    for row in finished:
        check_job(JobState(row.state), JobState.QUEUED)
    ids = [row.id for row in finished]
    connection.execute(
        update(jobs)
        .where(jobs.c.id.in_(ids))
        .values(
            state=JobState.QUEUED.value,
            attempts=0,
            not_before=now,
            lease_owner="",
            lease_until=None,
            reason="",
            message="",
            finished_at=None,
        )
    )
    for row in finished:
        turn = turn_at(Priority(row.priority), now)
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(turn_at=turn))
    _touch(connection, study_instance_uid, now, state=StudyState.ANALYSING.value, reason="")
    routes = ", ".join(row.route for row in finished)
    record(
        connection, study_instance_uid, now, (OPERATOR, f"The operator asked to analyse again: {routes}."), job_ids=ids
    )
    return ids


def _require_something_to_rerun(study_instance_uid: str, route: str | None, known: int, finished: int) -> None:
    which = "" if route is None else f" by route {route!r}"
    if not known:
        raise NotFound(
            f"The current revision of study {study_instance_uid} was never analysed{which}. Its timeline says why; "
            "change the routes and send the study again."
        )
    if not finished:
        raise IllegalTransition(
            f"The analysis of study {study_instance_uid}{which} is not finished. Wait for it, then run it again."
        )


def _study(connection: Connection, study_instance_uid: str) -> Row[Any]:
    query = select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"No study {study_instance_uid} has been received. Check the UID.")
    return row


def _make_due(connection: Connection, rows: Iterable[Any], now: datetime) -> None:
    """A lease is left alone: whoever is sending at this moment finishes first."""
    rows = list(rows)
    for row in rows:
        check_delivery(DeliveryState(row.state), DeliveryState.PENDING)
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_([row.id for row in rows]))
        .values(state=DeliveryState.PENDING.value, next_attempt_at=now)
    )


def _touch(connection: Connection, study_instance_uid: str, now: datetime, **values: str) -> None:
    connection.execute(
        update(studies).where(studies.c.study_instance_uid == study_instance_uid).values(updated_at=now, **values)
    )

"""How jobs change their state: queued, moved, and set aside where a late image has overtaken them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select

from dicom_node.core.entities import JobState
from dicom_node.core.lifecycle import check_job
from dicom_node.index import notices
from dicom_node.index.tables import jobs
from dicom_node.index.transitions.notifications import notify
from dicom_node.index.transitions.steps import Change, StateRows, tell

_JOBS = StateRows(jobs, JobState, check_job, leased=JobState.RUNNING)


def insert_job(connection: Connection, study_instance_uid: str, change: Change, **columns: object) -> None:
    """Queue an analysis that is due."""
    connection.execute(
        insert(jobs).values(
            study_instance_uid=study_instance_uid, state=JobState.QUEUED, created_at=change.at, not_before=change.at,
            **columns,
        )
    )  # fmt: skip
    tell(connection, study_instance_uid, change)


def move_job(
    connection: Connection, which: ColumnElement[bool], to: JobState, change: Change, **columns: object
) -> bool:
    """Move one job to `to`; `False` where `which` finds none. Raises `IllegalTransition`."""
    row = _JOBS.move(connection, _JOBS.held(which), to, change, columns)
    if row is None:
        return False
    if to is JobState.FAILED:
        notify(connection, notices.of_job(connection, row.id), change.at)
    return True


def supersede_job(connection: Connection, job: Row[Any], at: datetime, why: str = "A late image came.") -> None:
    """Set a job aside that a late image has overtaken; a worker that should still be at it has lost its fence.

    Raises `IllegalTransition`.
    """
    line = ("superseded", f"The analysis by route {job.route} was set aside: {why[:1].lower()}{why[1:]}")
    move_job(
        connection, jobs.c.id == job.id, JobState.SUPERSEDED, Change(at, line, {"route": job.route}),
        fence=job.fence + 1, reason="SUPERSEDED", message=why, finished_at=at,
    )  # fmt: skip


def supersede_waiting_jobs(
    connection: Connection, study_instance_uid: str, at: datetime, why: str = "A late image came."
) -> None:
    """Set aside what waits for a worker. A job that one is taking at this moment is left to `jobs.claim`, which sees
    the late image too: to wait for that worker here, while it waits for the study, would be a deadlock."""
    waiting = and_(jobs.c.study_instance_uid == study_instance_uid, jobs.c.state == JobState.QUEUED)
    query = select(jobs).where(waiting).order_by(jobs.c.id).with_for_update(skip_locked=True)
    for job in connection.execute(query).all():
        supersede_job(connection, job, at, why)

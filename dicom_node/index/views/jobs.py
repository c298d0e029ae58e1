"""Read-only queries about analyses on their way: where each stands, and how much of its result has arrived."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, select

from dicom_node.core.entities import DeliveryState, JobStage, JobState
from dicom_node.core.errors import NotFound
from dicom_node.index.tables import deliveries, jobs
from dicom_node.index.views.types import JobLine, JobProgress

_STAGES = list(JobStage)
#: Nothing more happens to the object by itself.
_SETTLED = (DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.DISCARDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list: of a state, of a study, those that were made before the job `older_than`."""

    state: JobState | None = None
    study_instance_uid: str = ""
    older_than: int | None = None


def job_lines(connection: Connection, limit: int, wanted: JobFilter) -> list[JobLine]:
    """List jobs, the newest first, at most `limit`."""
    query = select(jobs).where(*_conditions(wanted)).order_by(jobs.c.id.desc()).limit(limit)
    return _lines(connection, connection.execute(query).all())


def job_line(connection: Connection, number: int) -> JobLine:
    """Return one job. Raises `NotFound`."""
    row = connection.execute(select(jobs).where(jobs.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {number}. List jobs to find its number.")
    return _lines(connection, [row])[0]


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    found = []
    if wanted.state is not None:
        found.append(jobs.c.state == wanted.state)
    if wanted.study_instance_uid:
        found.append(jobs.c.study_instance_uid == wanted.study_instance_uid)
    if wanted.older_than is not None:
        found.append(jobs.c.id < wanted.older_than)
    return found


def _lines(connection: Connection, rows: Sequence[Row[Any]]) -> list[JobLine]:
    owed = _owed(connection, {row.job_key for row in rows} - {""})
    return [_line(row, *owed.get(row.job_key, (0, 0))) for row in rows]


def _owed(connection: Connection, job_keys: Collection[str]) -> Mapping[str, tuple[int, int]]:
    """Return how many deliveries each result has, and how many of them are settled."""
    settled = func.sum(case((deliveries.c.state.in_(_SETTLED), 1), else_=0))
    query = select(deliveries.c.job_key, settled, func.count()).where(deliveries.c.job_key.in_(job_keys))
    return {key: (int(done), int(all_)) for key, done, all_ in connection.execute(query.group_by(deliveries.c.job_key))}


def _line(row: Row[Any], settled: int, owed: int) -> JobLine:
    stage = _stage(row, is_owed=settled < owed)
    progress = JobProgress(step=_STAGES.index(stage), steps=len(_STAGES) - 1, settled=settled, deliveries=owed)
    return JobLine(
        id=row.id, study_instance_uid=row.study_instance_uid, revision=row.revision, route=row.route, model=row.model,
        state=JobState(row.state), stage=stage, progress=progress, attempts=row.attempts, priority=row.priority,
        shadow_of=row.shadow_of, job_key=row.job_key, reason=row.reason, message=row.message,
        created_at=row.created_at, started_at=row.started_at, finished_at=row.finished_at,
    )  # fmt: skip


def _stage(row: Row[Any], *, is_owed: bool) -> JobStage:
    if row.state == JobState.QUEUED:
        return JobStage.QUEUED
    if row.state == JobState.RUNNING:
        return JobStage(row.stage or JobStage.PLANNING)  # one that began before stages were told
    return JobStage.DELIVERING if is_owed else JobStage.FINISHED

"""Jobs as leased rows: claim, renew, finish. Whoever holds the newest fence may write; everyone else is too late.

A worker that dies leaves its lease to run out, and another takes the job over; attempts are counted before the start,
so that a study that kills its worker is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, func, or_, select, update

from dicom_node.core import lifecycle
from dicom_node.core.entities import JobState, StudyState
from dicom_node.index.events import record
from dicom_node.index.studies import set_state
from dicom_node.index.tables import deliveries, jobs, studies


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job that is ours until the lease runs out. `started_at` is when it was *first* started."""

    id: int
    study_instance_uid: str
    revision: int
    route: str
    model: str
    series_instance_uid: str
    study_partial: bool
    decision: Mapping[str, Any]
    attempt: int
    fence: int
    started_at: datetime
    #: The route it shadows; empty for one that delivers.
    shadow_of: str = ""
    #: Under which key the same job was answered before (an operator's rerun); empty the first time.
    earlier_job_key: str


def claim(connection: Connection, owner: str, now: datetime, lease_s: float) -> ClaimedJob | None:
    """Take the job whose turn it is of those that wait or whose lease ran out; `None` when there is none.

    A job that a late image has overtaken is set aside: it would analyse half of the next revision as if it were all.
    """
    row = _next(connection, now)
    while row is not None and _is_overtaken(connection, row):
        _supersede(connection, row, now)
        row = _next(connection, now)
    if row is None:
        return None
    lifecycle.check_job(JobState(row.state), JobState.RUNNING)
    started_at = row.started_at or now
    connection.execute(
        update(jobs).where(jobs.c.id == row.id).values(
            state=JobState.RUNNING, lease_owner=owner, lease_until=now + timedelta(seconds=lease_s),
            fence=row.fence + 1, attempts=row.attempts + 1, started_at=started_at, finished_at=None,
        )
    )  # fmt: skip
    _tell_start(connection, row, now)
    return _claimed(row, started_at)


def _next(connection: Connection, now: datetime) -> Row[Any] | None:
    waiting = and_(jobs.c.state == JobState.QUEUED, jobs.c.not_before <= now)
    abandoned = and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)
    query = select(jobs).where(or_(waiting, abandoned)).order_by(jobs.c.turn_at, jobs.c.id).limit(1)
    return connection.execute(query.with_for_update(skip_locked=True)).first()


def _is_overtaken(connection: Connection, row: Row[Any]) -> bool:
    """Hold the study, so that no late image comes between this look and the start."""
    query = select(studies.c.revision).where(studies.c.study_instance_uid == row.study_instance_uid)
    return bool(connection.execute(query.with_for_update()).scalar_one() != row.revision)


def _supersede(connection: Connection, row: Row[Any], now: datetime) -> None:
    lifecycle.check_job(JobState.QUEUED, JobState.SUPERSEDED)
    connection.execute(
        update(jobs).where(jobs.c.id == row.id).values(
            state=JobState.SUPERSEDED, finished_at=now, reason="SUPERSEDED", message="A late image came.",
            fence=row.fence + 1, lease_owner="", lease_until=None,
        )
    )  # fmt: skip


def _tell_start(connection: Connection, row: Row[Any], now: datetime) -> None:
    text = f"Analysis by {row.model} started (attempt {row.attempts + 1})."
    record(connection, row.study_instance_uid, now, ("started", text), route=row.route, attempt=row.attempts + 1)
    study = connection.execute(select(studies).where(studies.c.study_instance_uid == row.study_instance_uid)).one()
    if study.revision == row.revision and study.state == StudyState.COMPLETE:
        set_state(connection, row.study_instance_uid, StudyState.ANALYSING, "", now)


def _claimed(row: Row[Any], started_at: datetime) -> ClaimedJob:
    return ClaimedJob(
        id=row.id, study_instance_uid=row.study_instance_uid, revision=row.revision, route=row.route, model=row.model,
        series_instance_uid=row.series_instance_uid, study_partial=row.study_partial, decision=row.decision,
        attempt=row.attempts + 1, fence=row.fence + 1, started_at=started_at,
        earlier_job_key=row.job_key, shadow_of=row.shadow_of,
    )  # fmt: skip


def renew(connection: Connection, job: ClaimedJob, now: datetime, lease_s: float) -> bool:
    """Keep a claim for another while; `False` means somebody else has taken the job over."""
    until = now + timedelta(seconds=lease_s)
    return connection.execute(update(jobs).where(_is_mine(job)).values(lease_until=until)).rowcount == 1


def release(connection: Connection, job: ClaimedJob, message: str, not_before: datetime, now: datetime) -> bool:
    """Give a job whose attempt failed back to the queue; `False` when it is not ours any more."""
    lifecycle.check_job(JobState.RUNNING, JobState.QUEUED)
    values = {
        "state": JobState.QUEUED,
        "message": message,
        "not_before": not_before,
        "lease_owner": "",
        "lease_until": None,
    }
    if connection.execute(update(jobs).where(_is_mine(job)).values(**values)).rowcount != 1:
        return False
    text = f"Attempt {job.attempt} failed: {message}"
    record(connection, job.study_instance_uid, now, ("attempt-failed", text), route=job.route)
    return True


def give_back(connection: Connection, job: ClaimedJob, now: datetime) -> bool:
    """Put a job back that was interrupted through no fault of its own; the attempt does not count."""
    lifecycle.check_job(JobState.RUNNING, JobState.QUEUED)
    values = {"state": JobState.QUEUED, "attempts": job.attempt - 1, "not_before": now, "lease_owner": "",
              "lease_until": None}  # fmt: skip
    return connection.execute(update(jobs).where(_is_mine(job)).values(**values)).rowcount == 1


def finish(connection: Connection, job: ClaimedJob, state: JobState, told: tuple[str, str, str], now: datetime) -> bool:
    """End a job and bring its study's state up to date; `told` is (job key, reason, message).

    `False` means somebody else has taken the job over: the caller must write nothing.
    """
    lifecycle.check_job(JobState.RUNNING, state)
    job_key, reason, message = told
    values = {"state": state, "job_key": job_key, "reason": reason, "message": message, "finished_at": now,
              "lease_owner": "", "lease_until": None}  # fmt: skip
    if connection.execute(update(jobs).where(_is_mine(job)).values(**values)).rowcount != 1:
        return False
    sentence = f"Analysis by {job.model} ended: {state}." + (f" {message}" if message else "")
    record(connection, job.study_instance_uid, now, ("analysed", sentence), route=job.route, reason=reason)
    settle_study(connection, job.study_instance_uid, now)
    return True


def settle_study(connection: Connection, study_instance_uid: str, now: datetime) -> None:
    """Give a study whose jobs have all been cut the state its jobs amount to."""
    study = connection.execute(
        select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    ).one()
    if study.state == StudyState.RECEIVING:
        return  # other routes still wait for this revision, or a late image has opened the next
    of_revision = and_(jobs.c.study_instance_uid == study_instance_uid, jobs.c.revision == study.revision)
    all_rows = connection.execute(select(jobs.c.state, jobs.c.message, jobs.c.shadow_of).where(of_revision)).all()
    # What only runs in the shadow says nothing about the study, unless there is nothing else.
    rows = [row for row in all_rows if not row.shadow_of] or all_rows
    state = lifecycle.study_state_after([JobState(row.state) for row in rows])
    if state is StudyState.ANALYSING and study.state == StudyState.COMPLETE:
        return  # nothing has been started yet
    reason = "" if state in (StudyState.REPORTED, StudyState.ANALYSING) else " ".join(r.message for r in rows)
    if study.state == StudyState.COMPLETE and state is not StudyState.NOT_ANALYSED:
        set_state(connection, study_instance_uid, StudyState.ANALYSING, "", now)
    set_state(connection, study_instance_uid, state, reason, now)


def waiting(connection: Connection) -> int:
    """Return how many jobs wait for a worker."""
    return connection.execute(select(func.count()).where(jobs.c.state == JobState.QUEUED)).scalar_one()


def _is_mine(job: ClaimedJob) -> Any:
    return and_(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.state == JobState.RUNNING)


# --- Leases whose owner is known to be dead: a node that was killed and starts again need not wait for them to run ou


def free_dead_leases(connection: Connection, me: str, is_alive: Callable[[int], bool], now: datetime) -> int:
    """End the leases of processes of this host that are gone, and those of `me`, who has only just started."""
    return sum(_free(connection, table, me, is_alive, now) for table in (jobs, deliveries))


def _free(connection: Connection, table: Table, me: str, is_alive: Callable[[int], bool], now: datetime) -> int:
    owners = connection.execute(select(table.c.lease_owner).where(table.c.lease_owner != "").distinct()).scalars()
    dead = [owner for owner in owners if owner == me or _is_dead(owner, me, is_alive)]
    held: Any = table.c.lease_owner.in_(dead)
    return connection.execute(update(table).where(held, table.c.lease_until > now).values(lease_until=now)).rowcount


def _is_dead(owner: str, me: str, is_alive: Callable[[int], bool]) -> bool:
    host, _, pid = owner.rpartition(":")
    return host == me.rpartition(":")[0] and pid.isdigit() and not is_alive(int(pid))

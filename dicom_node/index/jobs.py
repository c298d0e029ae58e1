"""Jobs as leased rows: claim, renew, finish, queue again. Whoever has the newest fence may write; others are too late.

A worker that dies leaves its lease to run out, and another takes the job over; attempts are counted before the start,
so that a study that kills its worker is noticed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, func, or_, select, update

from dicom_node.core.entities import JobStage, JobState, ResultState, StudyState
from dicom_node.core.lifecycle import FINISHED_JOB
from dicom_node.index.due import count_leases_anew, is_due
from dicom_node.index.studies import conclude_study
from dicom_node.index.tables import deliveries, jobs, notifications, results, reviews, studies, suspended_routes
from dicom_node.index.transitions import Change, move_job, move_study, supersede_job

#: No attempt is put off for longer (`jobs.runner` waits seconds after each): a time further ahead is of another clock.
LONGEST_WAIT_S = 60.0
#: Kind of the timeline's line about an attempt that begins.
STARTED = "started"
#: Kind of the timeline's line about a job that is queued again, since a destination does not take what was made.
REQUEUED = "requeued"


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
    #: Why the attempt before this one failed; empty when none has.
    last_failure: str = ""
    #: For how long it had been due; `None` for one that was taken over.
    waited_s: float | None = None


def claim(connection: Connection, owner: str, now: datetime, lease_s: float) -> ClaimedJob | None:
    """Take the job whose turn it is of those that wait or whose lease ran out; `None` when there is none.

    Those of a route that a person has suspended wait until it goes on.

    A job that a late image has overtaken is set aside: it would analyse half of the next revision as if it were all.
    """
    count_leases_anew(connection, jobs, jobs.c.state == JobState.RUNNING, now, lease_s)
    row = _next(connection, now)
    while row is not None and _is_overtaken(connection, row):
        supersede_job(connection, row, now)
        row = _next(connection, now)
    if row is None:
        return None
    started_at = row.started_at or now
    before = f"; tried {_times(row.attempts)} before" if row.attempts else ""
    line = (STARTED, f"Analysis by {row.model} started{before}.")
    move_job(
        connection, jobs.c.id == row.id, JobState.RUNNING,
        Change(now, line, {"route": row.route, "attempt": row.attempts + 1, "job": row.id}),
        lease_owner=owner, lease_until=now + timedelta(seconds=lease_s), fence=row.fence + 1,
        attempts=row.attempts + 1, started_at=started_at, finished_at=None, stage=JobStage.PLANNING,
    )  # fmt: skip
    _begin_study(connection, row, now)
    waited_s = (now - row.not_before).total_seconds() if row.state == JobState.QUEUED else None
    return _claimed(row, started_at, waited_s)


def _next(connection: Connection, now: datetime) -> Row[Any] | None:
    put_off_until = is_due(jobs.c.not_before, now, LONGEST_WAIT_S)
    may_start = jobs.c.route.not_in(select(suspended_routes.c.name))  # what has begun is ended all the same
    waiting = and_(jobs.c.state == JobState.QUEUED, or_(jobs.c.attempts == 0, put_off_until), may_start)
    abandoned = and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_until < now)
    query = select(jobs).where(or_(waiting, abandoned)).order_by(jobs.c.turn_at, jobs.c.id).limit(1)
    return connection.execute(query.with_for_update(skip_locked=True)).first()


def _is_overtaken(connection: Connection, row: Row[Any]) -> bool:
    """Hold the study, so that no late image comes between this look and the start."""
    query = select(studies.c.revision).where(studies.c.study_instance_uid == row.study_instance_uid)
    return bool(connection.execute(query.with_for_update()).scalar_one() != row.revision)


def _begin_study(connection: Connection, row: Row[Any], now: datetime) -> None:
    study = connection.execute(select(studies).where(studies.c.study_instance_uid == row.study_instance_uid)).one()
    if study.revision == row.revision and study.state == StudyState.COMPLETE:
        move_study(connection, row.study_instance_uid, StudyState.ANALYSING, Change(now))


def _claimed(row: Row[Any], started_at: datetime, waited_s: float | None) -> ClaimedJob:
    return ClaimedJob(
        id=row.id, study_instance_uid=row.study_instance_uid, revision=row.revision, route=row.route, model=row.model,
        series_instance_uid=row.series_instance_uid, study_partial=row.study_partial, decision=row.decision,
        attempt=row.attempts + 1, fence=row.fence + 1, started_at=started_at,
        earlier_job_key=row.job_key, shadow_of=row.shadow_of, last_failure=row.message,
        waited_s=waited_s,
    )  # fmt: skip


def renew(connection: Connection, job: ClaimedJob, now: datetime, lease_s: float) -> bool:
    """Keep a claim for another while; `False` means somebody else has taken the job over."""
    until = now + timedelta(seconds=lease_s)
    return connection.execute(update(jobs).where(_is_mine(job)).values(lease_until=until)).rowcount == 1


def note_stage(connection: Connection, job: ClaimedJob, stage: JobStage) -> None:
    """Note how far a job of ours has come; one that was taken over is another's to tell of."""
    connection.execute(update(jobs).where(_is_mine(job)).values(stage=stage))


def release(connection: Connection, job: ClaimedJob, message: str, not_before: datetime, now: datetime) -> bool:
    """Give a job whose attempt failed back to the queue; `False` when it is not ours any more."""
    told = ("attempt-failed", f"The analysis failed, tried {_times(job.attempt)}: {message}")
    failed = Change(now, told, {"route": job.route})
    return move_job(connection, _is_mine(job), JobState.QUEUED, failed, message=message, not_before=not_before)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def give_back(connection: Connection, job: ClaimedJob, now: datetime) -> bool:
    """Put a job back that was interrupted through no fault of its own; the attempt does not count."""
    text = f"Analysis by {job.model} was interrupted and waits again; the attempt does not count."
    interrupted = Change(now, ("interrupted", text), {"route": job.route})
    uncounted = job.attempt - 1
    return move_job(connection, _is_mine(job), JobState.QUEUED, interrupted, attempts=uncounted, not_before=now)


def finish(connection: Connection, job: ClaimedJob, state: JobState, told: tuple[str, str, str], now: datetime) -> bool:
    """End a job and bring its study's state up to date; `told` is (job key, reason, message).

    `False` means somebody else has taken the job over: the caller must write nothing.
    """
    job_key, reason, message = told
    sentence = f"Analysis by {job.model} ended: {state}." + (f" {message}" if message else "")
    ended = Change(now, ("analysed", sentence), {"route": job.route, "reason": reason})
    columns = {"job_key": job_key, "reason": reason, "message": message, "finished_at": now}
    if not move_job(connection, _is_mine(job), state, ended, **columns):
        return False
    conclude_study(connection, job.study_instance_uid, now)
    return True


def hand_back_to_routes(connection: Connection, job: ClaimedJob, told: tuple[str, str], now: datetime) -> bool:
    """End a job whose route or model is configured no more, and have the present routes decide on its study anew.

    `told` is (reason, message). `False` means somebody else has taken the job over.
    """
    if not finish(connection, job, JobState.NOT_ANALYSABLE, ("", *told), now):
        return False
    uid = job.study_instance_uid
    study = connection.execute(select(studies).where(studies.c.study_instance_uid == uid).with_for_update()).one()
    if study.revision == job.revision and study.state != StudyState.RECEIVING:
        anew = ("decided-anew", "The routes that are configured now decide on the study anew.")
        move_study(connection, uid, StudyState.RECEIVING, Change(now, anew, {"route": job.route}))
    return True


def choose_series(
    connection: Connection, job: ClaimedJob, series_instance_uid: str, decision: Mapping[str, Any]
) -> None:
    """Note which series a job is about, and why, where that was not decided yet or is decided anew."""
    values = {"series_instance_uid": series_instance_uid, "decision": dict(decision)}
    connection.execute(update(jobs).where(_is_mine(job)).values(values))


def _is_mine(job: ClaimedJob) -> ColumnElement[bool]:
    return and_(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.state == JobState.RUNNING)


def queue_again(connection: Connection, job: Row[Any], turn_at: datetime, change: Change, **columns: object) -> None:
    """Queue a finished job once more, with all its attempts.

    Its first start stays, so that equal inputs give equal bytes and nothing is reported twice. Raises
    `IllegalTransition`.
    """
    move_job(
        connection, jobs.c.id == job.id, JobState.QUEUED, change, attempts=0, not_before=change.at, turn_at=turn_at,
        reason="", message="", finished_at=None, **columns,
    )  # fmt: skip


def requeue(connection: Connection, job_key: str, why: str, now: datetime) -> bool:
    """Queue the job of a result again, for the output sets that destinations take now.

    `False` where a newer revision, or a run that is under way, will tell the study anyway, and where the result holds
    no longer: what was taken back comes again only when somebody asks for it.
    """
    same = and_(
        studies.c.study_instance_uid == jobs.c.study_instance_uid,
        studies.c.revision == jobs.c.revision,
        studies.c.state != StudyState.RECEIVING,
    )
    mine = and_(jobs.c.job_key == job_key, jobs.c.state.in_(FINISHED_JOB))
    job = connection.execute(select(jobs).join(studies, same).where(mine).with_for_update()).first()
    if job is None or not _holds(connection, job_key):
        return False
    # Without its earlier key it is no operator's rerun: what has arrived is not sent again.
    queue_again(connection, job, now, Change(now), job_key="")
    told = Change(now, (REQUEUED, why), {"route": job.route})
    move_study(connection, job.study_instance_uid, StudyState.ANALYSING, told)
    return True


def _holds(connection: Connection, job_key: str) -> bool:
    standing = connection.execute(select(results.c.standing).where(results.c.job_key == job_key)).scalar()
    return standing == ResultState.CURRENT


def waiting(connection: Connection) -> int:
    """Return how many jobs wait for a worker."""
    return connection.execute(select(func.count()).where(jobs.c.state == JobState.QUEUED)).scalar_one()


def free_leases_of(connection: Connection, dead: Collection[str], now: datetime) -> int:
    """End the leases, of jobs, reviews, deliveries and notifications, of processes that are proved to be gone: nobody
    need wait for them to run out. Whether somebody is gone, a name cannot tell: see `storage.owners`."""
    return sum(_free(connection, table, dead, now) for table in (jobs, reviews, deliveries, notifications))


def _free(connection: Connection, table: Table, dead: Collection[str], now: datetime) -> int:
    held = and_(table.c.lease_owner.in_(dead), table.c.lease_until > now)
    return connection.execute(update(table).where(held).values(lease_until=now)).rowcount

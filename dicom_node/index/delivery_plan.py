"""Which object goes to which destination: planned when a result is told, and again when it is told otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from dicom_node.core.entities import ArtifactKind, DeliveryState, Destination, JobState, StudyState
from dicom_node.core.lifecycle import check_job, check_study
from dicom_node.index.events import record
from dicom_node.index.tables import artifacts, deliveries, jobs, studies


def plan_deliveries(connection: Connection, job_key: str, destinations: Sequence[Destination], now: datetime) -> None:
    """Owe every destination the objects of its set; what waits or is parked and is of its set no more is not owed."""
    made = connection.execute(select(artifacts).where(artifacts.c.job_key == job_key)).all()
    owed = _owed(made, destinations)
    _forget_others(connection, job_key, {to.name for to in destinations}, owed, now)
    planned = select(deliveries.c.artifact_uid, deliveries.c.destination).where(deliveries.c.job_key == job_key)
    known = {(row.artifact_uid, row.destination) for row in connection.execute(planned)}
    order = {row.uid: row.send_order for row in made}
    for uid, name in sorted(owed - known, key=lambda one: (one[1], order[one[0]], one[0])):
        connection.execute(
            insert(deliveries).values(
                artifact_uid=uid, job_key=job_key, destination=name, state=DeliveryState.PENDING, next_attempt_at=now,
                created_at=now,
            )
        )  # fmt: skip


def resend(connection: Connection, job_key: str, destinations: Sequence[Destination], now: datetime) -> int:
    """Make what destinations get of a result due again (operator's rerun with an unchanged answer).

    Not what they got in an earlier set and no longer want, and nothing for a destination that is gone.
    """
    made = connection.execute(select(artifacts).where(artifacts.c.job_key == job_key)).all()
    owed = _owed(made, destinations)
    mine = and_(deliveries.c.job_key == job_key, deliveries.c.state != DeliveryState.PENDING)
    rows = connection.execute(select(deliveries.c.id, deliveries.c.artifact_uid, deliveries.c.destination).where(mine))
    again = [row.id for row in rows if (row.artifact_uid, row.destination) in owed]
    values = {"state": DeliveryState.PENDING, "next_attempt_at": now, "lease_owner": "", "lease_until": None}
    return connection.execute(update(deliveries).where(deliveries.c.id.in_(again)).values(**values)).rowcount


def _owed(made: Iterable[Row[Any]], destinations: Sequence[Destination]) -> set[tuple[str, str]]:
    return {(row.uid, to.name) for row in made for to in destinations if _is_for(row, to)}


def _is_for(row: Row[Any], destination: Destination) -> bool:
    key = destination.bundle_key if row.kind == ArtifactKind.FHIR_BUNDLE else destination.output_key
    return destination.accepts(row.media_type) and (not row.output_keys or not key or key in row.output_keys)


def _forget_others(
    connection: Connection, job_key: str, names: set[str], owed: set[tuple[str, str]], now: datetime
) -> None:
    """Strike what was planned for an earlier set and has not gone. What is on its way this moment is let go."""
    idle = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
    open_states = deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.PARKED])
    mine = and_(deliveries.c.job_key == job_key, deliveries.c.destination.in_(names), open_states, idle)
    rows = connection.execute(select(deliveries.c.id, deliveries.c.artifact_uid, deliveries.c.destination).where(mine))
    stale = [row.id for row in rows if (row.artifact_uid, row.destination) not in owed]
    if stale:
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(stale)))


# --- A result told again because a destination does not take what it was told in -------------------------------------

#: Kind of the timeline's line about it.
REQUEUED = "told-again"
_FINISHED = (JobState.DONE, JobState.PARTIAL, JobState.NOT_ANALYSABLE, JobState.FAILED)


def requeue(connection: Connection, job_key: str, why: str, now: datetime) -> bool:
    """Queue the job of a result again, to be told in the sets that destinations take now.

    `False` where a newer revision, or a run that is under way, will tell the study anyway. The first start stays, so
    that objects which are wanted again come out equal.
    """
    same = and_(
        studies.c.study_instance_uid == jobs.c.study_instance_uid,
        studies.c.revision == jobs.c.revision,
        studies.c.state != StudyState.RECEIVING,
    )
    query = select(jobs, studies.c.state.label("study_state")).join(studies, same)
    row = connection.execute(
        query.where(jobs.c.job_key == job_key, jobs.c.state.in_(_FINISHED)).with_for_update()
    ).first()
    if row is None:
        return False
    check_job(JobState(row.state), JobState.QUEUED)
    check_study(StudyState(row.study_state), StudyState.ANALYSING)
    # Without its earlier key it is no operator's rerun: what has arrived is not sent again.
    connection.execute(
        update(jobs).where(jobs.c.id == row.id).values(
            state=JobState.QUEUED, attempts=0, not_before=now, turn_at=now, lease_owner="", lease_until=None, reason="",
            message="", finished_at=None, job_key="",
        )
    )  # fmt: skip
    mine = studies.c.study_instance_uid == row.study_instance_uid
    connection.execute(update(studies).where(mine).values(state=StudyState.ANALYSING, reason="", updated_at=now))
    record(connection, row.study_instance_uid, now, (REQUEUED, why), route=row.route)
    return True

"""Which object goes to which destination: planned when a result is saved, and again when its job was queued again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select

from dicom_node.core.entities import ArtifactKind, DeliveryState, Destination, ResultState
from dicom_node.core.priority import Priority
from dicom_node.index.tables import artifacts, deliveries, jobs, results
from dicom_node.index.transitions import Change, cancel_deliveries, insert_delivery, make_deliveries_due
from dicom_node.index.withdrawals import is_withdrawn

#: Most urgent first.
_PRIORITIES = tuple(Priority)


def plan_deliveries(connection: Connection, job_key: str, destinations: Sequence[Destination], now: datetime) -> None:
    """Owe every destination the objects of its set; what waits or is parked and is of its set no more is not owed.

    Of a result that was withdrawn meanwhile nothing is owed.
    """
    if is_withdrawn(connection, job_key):
        return
    made = connection.execute(select(artifacts).where(artifacts.c.job_key == job_key)).all()
    owed = _owed(made, destinations)
    _forget_others(connection, job_key, {to.name for to in destinations}, owed, now)
    planned = select(deliveries.c.artifact_uid, deliveries.c.destination).where(deliveries.c.job_key == job_key)
    known = {(row.artifact_uid, row.destination) for row in connection.execute(planned)}
    order = {row.uid: row.send_order for row in made}
    urgency = _urgency(connection, job_key)
    for uid, name in sorted(owed - known, key=lambda one: (one[1], order[one[0]], one[0])):
        insert_delivery(connection, uid, job_key, name, now, urgency=urgency)


def _urgency(connection: Connection, job_key: str) -> int:
    """Return the place of the job's priority: when a destination is back, what is urgent leaves first."""
    same_study = results.c.study_instance_uid == jobs.c.study_instance_uid
    query = select(jobs.c.priority).join(results, and_(same_study, results.c.job_key == jobs.c.job_key))
    query = query.where(results.c.job_key == job_key)
    stated = [_PRIORITIES.index(Priority(one)) for one in connection.execute(query).scalars()]
    return min(stated, default=_PRIORITIES.index(Priority.ROUTINE))


def resend(connection: Connection, job_key: str, destinations: Sequence[Destination], now: datetime) -> int:
    """Make what destinations get of a result due again (operator's rerun with an unchanged answer); return how much.

    Not what they got in an earlier set and no longer want, nothing for a destination that is gone, nothing that is
    proved to have arrived or that a person has discarded, and nothing of a result that holds no longer.
    """
    result = connection.execute(select(results).where(results.c.job_key == job_key)).one()
    if result.standing != ResultState.CURRENT:
        return 0
    made = connection.execute(select(artifacts).where(artifacts.c.job_key == job_key)).all()
    owed = _owed(made, destinations)
    mine = and_(deliveries.c.job_key == job_key, deliveries.c.state != DeliveryState.PENDING)
    rows = connection.execute(select(deliveries.c.id, deliveries.c.artifact_uid, deliveries.c.destination).where(mine))
    again = [row.id for row in rows if (row.artifact_uid, row.destination) in owed]
    line = ("resent", "The answer is the same, so its objects are sent again.")
    change = Change(now, line, {"route": result.route})
    return len(make_deliveries_due(connection, result.study_instance_uid, deliveries.c.id.in_(again), change))


def _owed(made: Iterable[Row[Any]], destinations: Sequence[Destination]) -> set[tuple[str, str]]:
    return {(row.uid, to.name) for row in made for to in destinations if _is_for(row, to)}


def _is_for(row: Row[Any], destination: Destination) -> bool:
    key = destination.bundle_key if row.kind == ArtifactKind.FHIR_BUNDLE else destination.output_key
    return destination.accepts(row.media_type) and (not row.output_keys or not key or key in row.output_keys)


def _forget_others(
    connection: Connection, job_key: str, names: set[str], owed: set[tuple[str, str]], now: datetime
) -> None:
    """Cancel what was planned for an earlier set and has not gone. What is on its way this moment is let go."""
    idle = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
    mine = and_(deliveries.c.job_key == job_key, deliveries.c.destination.in_(names), idle)
    rows = connection.execute(select(deliveries.c.id, deliveries.c.artifact_uid, deliveries.c.destination).where(mine))
    stale = [row.id for row in rows if (row.artifact_uid, row.destination) not in owed]
    if stale:
        cancel_deliveries(connection, and_(deliveries.c.id.in_(stale), idle))

"""How much of everything there is, and whether anything changed: for health checks and the live page."""

from __future__ import annotations

from collections import defaultdict
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import Column, Connection, Table, func, select

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.index.tables import deliveries, events, jobs, studies
from dicom_node.index.views.types import ChangeToken, Counts, DestinationCounts

State = TypeVar("State", bound=StrEnum)


def counts(connection: Connection) -> Counts:
    """Count studies, jobs and deliveries by state."""
    pending = deliveries.c.state == DeliveryState.PENDING
    return Counts(
        studies=_per_state(connection, studies, StudyState),
        jobs=_per_state(connection, jobs, JobState),
        deliveries=_per_state(connection, deliveries, DeliveryState),
        destinations=_per_destination(connection),
        oldest_pending_at=connection.scalar(select(func.min(deliveries.c.created_at)).where(pending)),
    )


def last_change(connection: Connection) -> ChangeToken:
    """Return a token that differs after any change; two index look-ups."""
    return ChangeToken(
        updated_at=connection.scalar(select(func.max(studies.c.updated_at))),
        event_id=connection.scalar(select(func.max(events.c.id))) or 0,
    )


def changed_studies(connection: Connection, since: ChangeToken, limit: int = 100) -> list[str]:
    """Return the UIDs of studies changed after `since`; with `limit` UIDs there may be more."""
    told = select(events.c.study_instance_uid).where(events.c.id > since.event_id)
    touched = select(studies.c.study_instance_uid)
    if since.updated_at is not None:
        touched = touched.where(studies.c.updated_at > since.updated_at)
    return list(connection.scalars(told.union(touched).limit(limit)))


def _per_state(connection: Connection, table: Table, states: type[State]) -> dict[State, int]:
    state: Column[str] = table.c.state
    found = {row[0]: row[1] for row in connection.execute(select(state, func.count()).group_by(state))}
    return {each: found.get(each.value, 0) for each in states}


def _per_destination(connection: Connection) -> list[DestinationCounts]:
    query = (
        select(deliveries.c.destination, deliveries.c.state, func.count())
        .where(deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.PARKED]))
        .group_by(deliveries.c.destination, deliveries.c.state)
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for destination, state, number in connection.execute(query):
        found[destination][state.lower()] = number
    return [
        DestinationCounts(destination=name, pending=numbers.get("pending", 0), parked=numbers.get("parked", 0))
        for name, numbers in sorted(found.items())
    ]

"""Destinations and routes that a person suspends and resumes: nothing is lost meanwhile, and all who wait are told.

What is due to a suspended destination waits. A suspended route starts no analysis: what it had queued waits, and
studies that it wants from then on are held (`held_studies`) until it goes on; then all routes decide on them anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.errors import IllegalTransition
from dicom_node.core.outputs.event_types import EventType
from dicom_node.core.principal import Principal
from dicom_node.index.database import insert_of
from dicom_node.index.decided import actions
from dicom_node.index.decided.versions_looked_at import take_turn_to_change
from dicom_node.index.outbox import deliveries as owed_objects
from dicom_node.index.outbox import destinations, notifications
from dicom_node.index.outbox.destinations import SUSPENDED, Suspension, suspension_of
from dicom_node.index.tables import deliveries, held_studies, jobs, results, studies, suspended_routes
from dicom_node.index.transitions import Change, move_study, record, tell_of_route

_NAME_LENGTH = 128


# --- destinations ------------------------------------------------------------------------------------------------


def suspend_destination(connection: Connection, name: str, reason: str, actor: Principal, now: datetime) -> None:
    """Send nothing to the destination until a person resumes it; studies that it is owed something of are told.

    Raises `IllegalTransition` without a reason, and where a person has suspended it already.
    """
    actions.require_reason(reason)
    take_turn_to_change(connection)
    if not destinations.suspend(connection, name, reason.strip(), now, actor):
        found = suspension_of(connection, name)
        raise IllegalTransition(found.in_words(name) if found else f"Destination {name} is not suspended.")
    line = (SUSPENDED, f"{actor.name} suspended destination {name}; what is owed to it waits. {reason.strip()}")
    _tell_owed(connection, name, Change(now, line, {"destination": name}, actor))


def resume_destination(connection: Connection, name: str, actor: Principal, now: datetime) -> None:
    """Send to the destination again, the most urgent first; what waits for it is due at once.

    Raises `IllegalTransition` where it is not suspended.
    """
    take_turn_to_change(connection)
    if not destinations.resume(connection, name, now, actor):
        raise IllegalTransition(f"Destination {name} is not suspended.")
    owed_objects.make_due(connection, name, now)
    notifications.make_due(connection, name, now)
    line = (SUSPENDED, f"{actor.name} resumed destination {name}; what is owed to it goes out.")
    _tell_owed(connection, name, Change(now, line, {"destination": name}, actor))


def _tell_owed(connection: Connection, name: str, change: Change) -> None:
    mine = and_(deliveries.c.destination == name, deliveries.c.state == DeliveryState.PENDING)
    query = select(results.c.study_instance_uid).join(deliveries, deliveries.c.job_key == results.c.job_key)
    for uid in connection.execute(query.where(mine).distinct()).scalars().all():
        _tell(connection, uid, change)


# --- routes ------------------------------------------------------------------------------------------------------


def route_suspensions(connection: Connection) -> Mapping[str, Suspension]:
    """Return the suspended routes by name."""
    rows = connection.execute(select(suspended_routes).order_by(suspended_routes.c.name))
    return {row.name: Suspension(row.reason, row.since, row.suspended_by) for row in rows}


def suspend_route(connection: Connection, name: str, reason: str, actor: Principal, now: datetime) -> None:
    """Start no analysis by this route until a person resumes it; what runs ends, and what is queued waits.

    Raises `IllegalTransition` without a reason, and where it is suspended already.
    """
    actions.require_reason(reason)
    take_turn_to_change(connection)
    values = {"name": name, "suspended_by": actor.name[:_NAME_LENGTH], "reason": reason.strip(), "since": now}
    row = insert_of(connection)(suspended_routes).values(values).on_conflict_do_nothing()
    if connection.execute(row).rowcount == 0:
        raise IllegalTransition(in_words(name, route_suspensions(connection)[name]))
    tell_of_route(connection, EventType.ROUTE_SUSPENDED, name, now)
    line = (SUSPENDED, f"{actor.name} suspended route {name}; its analysis waits. {reason.strip()}")
    _tell_queued(connection, name, Change(now, line, {"route": name}, actor))


def resume_route(connection: Connection, name: str, actor: Principal, now: datetime) -> None:
    """Let a route go on: what it had queued is run, and `decide_anew` lets the studies go that were held for it.

    Raises `IllegalTransition` where it is not suspended.
    """
    take_turn_to_change(connection)
    if connection.execute(delete(suspended_routes).where(suspended_routes.c.name == name)).rowcount == 0:
        raise IllegalTransition(f"Route {name} is not suspended.")
    tell_of_route(connection, EventType.ROUTE_RESUMED, name, now)
    line = (SUSPENDED, f"{actor.name} resumed route {name}; its analysis goes on.")
    _tell_queued(connection, name, Change(now, line, {"route": name}, actor))


def in_words(route: str, suspension: Suspension) -> str:
    """Say who suspended a route, since when and why."""
    since = f"{suspension.since.astimezone():%Y-%m-%d %H:%M %Z}"
    return f"Route {route} is suspended by {suspension.by} since {since}: {suspension.reason.rstrip('.')}."


def _tell_queued(connection: Connection, route: str, change: Change) -> None:
    waiting = and_(jobs.c.route == route, jobs.c.state == JobState.QUEUED)
    for uid in connection.execute(select(jobs.c.study_instance_uid).where(waiting).distinct()).scalars().all():
        _tell(connection, uid, change)


def _tell(connection: Connection, study_instance_uid: str, change: Change) -> None:
    assert change.line is not None
    record(connection, study_instance_uid, change.at, change.line, change.actor, **change.detail)


# --- studies that wait for a route -------------------------------------------------------------------------------


def hold_study(
    connection: Connection, study_instance_uid: str, waits_for: Mapping[str, Suspension], now: datetime
) -> None:
    """Remember that suspended routes want a study, and say so in its timeline. Said again it changes nothing."""
    for route, suspension in waits_for.items():
        row = {"study_instance_uid": study_instance_uid, "route": route, "held_at": now}
        fresh = insert_of(connection)(held_studies).values(row).on_conflict_do_nothing()
        if connection.execute(fresh).rowcount:
            text = f"{in_words(route, suspension)} The study waits for it."
            record(connection, study_instance_uid, now, (SUSPENDED, text), route=route)


def held_counts(connection: Connection) -> Mapping[str, int]:
    """Return how many studies wait for each suspended route."""
    query = select(held_studies.c.route, func.count()).group_by(held_studies.c.route)
    return {row[0]: row[1] for row in connection.execute(query)}


def ready_again(connection: Connection, routes: Collection[str], limit: int) -> list[str]:
    """Return studies, the longest held first and at most `limit`, that wait for a route which is suspended no more, or
    is none of `routes` any more."""
    query = select(held_studies.c.study_instance_uid).where(_goes_on(routes))
    rows = connection.execute(query.order_by(held_studies.c.held_at, held_studies.c.study_instance_uid).limit(limit))
    return list(dict.fromkeys(rows.scalars()))


def decide_anew(connection: Connection, study_instance_uid: str, routes: Collection[str], now: datetime) -> None:
    """Let all routes decide again on a study whose route goes on; what has been analysed is not analysed again."""
    mine = studies.c.study_instance_uid == study_instance_uid
    state = connection.execute(select(studies.c.state).where(mine).with_for_update()).scalar_one()
    of_study = held_studies.c.study_instance_uid == study_instance_uid
    gone = delete(held_studies).where(of_study, _goes_on(routes)).returning(held_studies.c.route)
    let_go = sorted(connection.execute(gone).scalars())
    if let_go and state != StudyState.RECEIVING:
        line = ("decided-anew", f"Suspended no more: {', '.join(let_go)}. All routes decide on the study anew.")
        move_study(connection, study_instance_uid, StudyState.RECEIVING, Change(now, line, {"routes": let_go}))


def _goes_on(routes: Collection[str]) -> ColumnElement[bool]:
    is_suspended = held_studies.c.route.in_(select(suspended_routes.c.name))
    return or_(~is_suspended, held_studies.c.route.not_in(list(routes)))

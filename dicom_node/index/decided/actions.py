"""What an operator may do: send again, analyse again, take back, give up.

The API and the command line call the same functions. Each takes a connection that may write, and who asks; that name
stands in the study's timeline. It runs inside the caller's transaction: all of it happens, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from dicom_node.core.entities import DeliveryState, JobState, ObjectState, StatedRequest, StudyState
from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.core.lifecycle import FINISHED_JOB, OPEN
from dicom_node.core.principal import Principal
from dicom_node.core.priority import Priority, turn_at
from dicom_node.index.jobs import queue_again
from dicom_node.index.outbox.destinations import resume, suspension_of
from dicom_node.index.outbox.withdrawals import WITHDRAWN, is_withdrawn, may_have_arrived, withdraw_results
from dicom_node.index.received.stated_requests import state_request
from dicom_node.index.tables import artifacts, deliveries, jobs, notifications, results, studies
from dicom_node.index.transitions import (
    Change,
    make_deliveries_due,
    make_notifications_due,
    move_delivery,
    move_notification,
    move_study,
    record,
)

#: Control characters, and halves of characters, which a terminal of another encoding leaves: databases fail at some.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
#: Kind of the timeline's line about something a human asked for.
OPERATOR = "operator"


def retry_delivery(connection: Connection, delivery_id: int, actor: Principal, now: datetime) -> None:
    """Make one delivery due now: parked or sent ones are sent again, waiting ones wait no longer.

    Raises `NotFound`, or `IllegalTransition` when the destination is proved to have the object.
    """
    row = _held_delivery(connection, delivery_id)
    if not row.is_withdrawal and is_withdrawn(connection, row.job_key):
        raise IllegalTransition(
            f"Delivery {delivery_id} is of a result that was withdrawn, and is not sent any more. To have the study "
            "analysed anew: dicom-node rerun STUDY"
        )
    if row.state == DeliveryState.COMMITTED:
        raise IllegalTransition(
            f"Delivery {delivery_id} is COMMITTED: it is proved to be at {row.destination}, and is not sent again."
        )
    if row.object_state == ObjectState.PURGED:
        raise IllegalTransition(
            f"The object of delivery {delivery_id} was deleted here, so it cannot be sent again. Why: "
            "dicom-node status STUDY"
        )
    line = (OPERATOR, f"The operator asked to send {row.kind} to {row.destination} again.")
    asked = Change(now, line, {"delivery_ids": [delivery_id], "was": row.state}, actor)
    move_delivery(connection, deliveries.c.id == delivery_id, DeliveryState.PENDING, asked, next_attempt_at=now)


def retry_study(connection: Connection, study_instance_uid: str, actor: Principal, now: datetime) -> list[int]:
    """Make every parked or waiting delivery of a study due now; return their ids. Raises `NotFound`."""
    _require_study(connection, study_instance_uid)
    make_notifications_due(connection, notifications.c.study_instance_uid == study_instance_uid, now)
    asked = Change(now, (OPERATOR, "The operator asked to send again what waits."), actor=actor)
    return make_deliveries_due(connection, study_instance_uid, deliveries.c.state.in_(OPEN), asked)


def retry_destination(connection: Connection, name: str, actor: Principal, now: datetime) -> list[int]:
    """Make every parked or waiting delivery to a destination due now, and every event that it is to be told of, and end
    its suspension, unless that is a person's; return the ids of the deliveries. Raises `IllegalTransition`."""
    found = suspension_of(connection, name)
    if found is not None and found.by:
        raise IllegalTransition(f"{found.in_words(name)} Let it go on: dicom-node destinations resume {name}")
    resume(connection, name, now)
    mine = and_(deliveries.c.destination == name, deliveries.c.state.in_(OPEN))
    of_result = results.c.job_key == deliveries.c.job_key
    query = select(results.c.study_instance_uid).join(deliveries, of_result).where(mine).distinct()
    make_notifications_due(connection, notifications.c.destination == name, now)
    asked = Change(now, (OPERATOR, f"The operator asked to send again what waits for {name}."), actor=actor)
    studies_owed = connection.execute(query.order_by(results.c.study_instance_uid)).scalars().all()
    return [one for uid in studies_owed for one in make_deliveries_due(connection, uid, mine, asked)]


def withdraw_study(
    connection: Connection, study_instance_uid: str, asked: tuple[str, str | None], actor: Principal, now: datetime
) -> list[str]:
    """Withdraw the results of a study; `asked` is the reason and the route, `None` for all. Return their job keys.

    What destinations show of them is taken back there, and what is being analysed at this moment is kept and not sent.
    Asked again it changes nothing else and returns none. Raises `NotFound` (no such study, nothing of that route) and
    `IllegalTransition` (no reason given).
    """
    reason, route = asked[0].strip(), asked[1]
    _require_study(connection, study_instance_uid)
    require_reason(reason)
    is_running = _is_being_analysed(connection, study_instance_uid, route)
    if not is_running:
        _require_results(connection, study_instance_uid, route)
    detail = {"reason": reason, "whole_study": route is None}
    asked_for = Change(now, (WITHDRAWN, f"The result was withdrawn: {reason}"), detail, actor)
    keys = withdraw_results(connection, study_instance_uid, reason, asked_for, route)
    if is_running and not keys:
        line = (WITHDRAWN, f"What is being analysed is withdrawn: {reason}")
        record(connection, study_instance_uid, now, line, actor, route=route, **detail)
    return keys


def discard_delivery(connection: Connection, delivery_id: int, reason: str, actor: Principal, now: datetime) -> None:
    """Owe an object to a destination no more, by a named person's word; asked again it changes nothing.

    What an earlier attempt may have brought there is remembered: a withdrawal takes it back, too.

    Raises `NotFound`, and `IllegalTransition` without a reason, for what has arrived and for what is on its way.
    """
    require_reason(reason)
    row = _held_delivery(connection, delivery_id)
    if row.state == DeliveryState.DISCARDED:
        return
    if row.lease_until is not None and row.lease_until > now:
        raise IllegalTransition(f"Delivery {delivery_id} is being sent at this moment. Look at it again, then discard.")
    if row.state not in OPEN:
        raise IllegalTransition(
            f"Delivery {delivery_id} has arrived at {row.destination}, so it cannot be discarded. To take back there "
            "what the result shows: dicom-node withdraw STUDY --reason TEXT"
        )
    line = (OPERATOR, f"The operator discarded {row.kind} for {row.destination}: {reason.strip()}")
    given_up = Change(now, line, {"delivery_ids": [delivery_id], "was": row.state}, actor)
    mine, note = deliveries.c.id == delivery_id, f"Discarded: {reason.strip()}"
    arrived = may_have_arrived(row)
    move_delivery(connection, mine, DeliveryState.DISCARDED, given_up, note=note, may_have_arrived=arrived)


def discard_event(connection: Connection, event_id: str, reason: str, actor: Principal, now: datetime) -> None:
    """Owe an event to a destination no more, as `discard_delivery` does an object. Events of its study that waited for
    it wait no longer.

    Raises `NotFound`, and `IllegalTransition` without a reason, for what was told and for what is being told.
    """
    require_reason(reason)
    mine = notifications.c.event_id == event_id
    row = connection.execute(select(notifications).where(mine).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"There is no event {event_id}. `dicom-node status STUDY` lists those that wait.")
    if row.state == DeliveryState.DISCARDED:
        return
    if row.lease_until is not None and row.lease_until > now:
        raise IllegalTransition(f"Event {event_id} is being told at this moment. Look at it again, then discard.")
    if row.state not in OPEN:
        raise IllegalTransition(f"Event {event_id} was told to {row.destination}, so it cannot be discarded.")
    line = (OPERATOR, f"The operator discarded event {row.type} for {row.destination}: {reason.strip()}")
    given_up = Change(now, line, {"event": event_id, "was": row.state}, actor)
    note = f"Discarded by {actor.name}: {reason.strip()}"
    move_notification(connection, mine, DeliveryState.DISCARDED, given_up, note=note)


def discard_for_destination(
    connection: Connection, name: str, reason: str, actor: Principal, now: datetime
) -> tuple[list[int], list[str]]:
    """Owe a destination nothing of what waits or is parked for it; return the ids of the deliveries and of the events.

    Raises `IllegalTransition` without a reason, and for what is on its way.
    """
    require_reason(reason)
    owed = and_(deliveries.c.destination == name, deliveries.c.state.in_(OPEN))
    ids = list(connection.execute(select(deliveries.c.id).where(owed).order_by(deliveries.c.id)).scalars())
    told = and_(notifications.c.destination == name, notifications.c.state.in_(OPEN))
    named = select(notifications.c.event_id).where(told).order_by(notifications.c.id)
    event_ids = list(connection.execute(named).scalars())
    for delivery_id in ids:
        discard_delivery(connection, delivery_id, reason, actor, now)
    for event_id in event_ids:
        discard_event(connection, event_id, reason, actor, now)
    return ids, event_ids


def rerun_with(
    connection: Connection, study_instance_uid: str, asked: tuple[str | None, StatedRequest], actor: Principal,
    now: datetime,
) -> list[int]:  # fmt: skip
    """Rerun a study, or one route of it, as `rerun_study` does, for the reason and purpose that are stated; the
    timeline and the log do not repeat them."""
    route, stated = asked
    ids = rerun_study(connection, study_instance_uid, route, actor, now)
    state_request(connection, study_instance_uid, route, stated, now)
    return ids


def rerun_study(
    connection: Connection, study_instance_uid: str, route: str | None, actor: Principal, now: datetime
) -> list[int]:
    """Queue the finished analyses of the current revision again, of one route or of all; return their job ids.

    What was not analysed is decided on anew by the present routes: which series the model gets, and, where nothing of
    the study was analysed, which routes want it. A study that no route wanted has no analyses. Raises `NotFound` (no
    such study, or no analysis of that route) and `IllegalTransition` (not finished yet).
    """
    known = _current_jobs(connection, study_instance_uid, route)
    require_images(connection, study_instance_uid)
    if not known and route is None and _is_unwanted(connection, study_instance_uid):
        line = (OPERATOR, "The operator asked to let the present routes decide again.")
        move_study(connection, study_instance_uid, StudyState.RECEIVING, Change(now, line, actor=actor))
        return []
    finished = [row for row in known if JobState(row.state) in FINISHED_JOB]
    _require_something_to_rerun(study_instance_uid, route, len(known), len(finished))

    ids = [row.id for row in finished]
    routes = ", ".join(row.route for row in finished)
    line = (OPERATOR, f"The operator asked to analyse again: {routes}.")
    asked = Change(now, line, {"job_ids": ids}, actor)
    undecided = [row for row in finished if JobState(row.state) is JobState.NOT_ANALYSABLE]
    is_open = route is None and len(undecided) == len(known)
    move_study(connection, study_instance_uid, StudyState.RECEIVING if is_open else StudyState.ANALYSING, asked)
    for row in finished:
        anew = {"series_instance_uid": ""} if row in undecided else {}
        queue_again(connection, row, turn_at(Priority(row.priority), now), Change(now, actor=actor), **anew)
    return ids


def _current_jobs(connection: Connection, study_instance_uid: str, route: str | None) -> Sequence[Row[Any]]:
    """Return the jobs of the study's current revision and hold them, then the study: in the order in which workers do,
    for two that held one each and waited for the other would be a deadlock."""
    _require_study(connection, study_instance_uid)
    mine = and_(jobs.c.study_instance_uid == study_instance_uid, jobs.c.state != JobState.SUPERSEDED)
    query = select(jobs).where(mine if route is None else and_(mine, jobs.c.route == route))
    rows = connection.execute(query.order_by(jobs.c.id).with_for_update()).all()
    revision = connection.execute(
        select(studies.c.revision).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    ).scalar_one()
    return [row for row in rows if row.revision == revision]


def _is_unwanted(connection: Connection, study_instance_uid: str) -> bool:
    query = select(studies.c.state).where(studies.c.study_instance_uid == study_instance_uid)
    return StudyState(connection.execute(query).scalar_one()) is StudyState.NOT_ANALYSED


def _require_something_to_rerun(study_instance_uid: str, route: str | None, known: int, finished: int) -> None:
    which = "" if route is None else f" by route {route!r}"
    if not known:
        raise NotFound(
            f"The current revision of study {study_instance_uid} was never analysed{which}. Its timeline says why; "
            "which routes want it: dicom-node rules explain STUDY"
        )
    if not finished:
        raise IllegalTransition(
            f"The analysis of study {study_instance_uid}{which} is not finished. Wait for it, then run it again."
        )


def _held_delivery(connection: Connection, delivery_id: int) -> Row[Any]:
    query = (
        select(deliveries, artifacts.c.kind, artifacts.c.state.label("object_state"))
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .where(deliveries.c.id == delivery_id)
        .with_for_update(of=deliveries)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id}. List deliveries to find its number.")
    return row


def require_images(connection: Connection, study_instance_uid: str) -> None:
    """Hold the study, and raise `IllegalTransition` where its images were deleted, or are at this moment."""
    mine = studies.c.study_instance_uid == study_instance_uid
    columns = (studies.c.deleting, studies.c.images_deleted_at)
    row = connection.execute(select(*columns).where(mine).with_for_update()).one()
    if row.deleting or row.images_deleted_at is not None:
        when = "at this moment" if row.images_deleted_at is None else f"on {row.images_deleted_at:%Y-%m-%d %H:%M} UTC"
        raise IllegalTransition(
            f"The images of study {study_instance_uid} were deleted here {when} (why: dicom-node status STUDY). "
            "Send the study again to have it analysed."
        )


def require_reason(reason: str) -> None:
    """Raise `IllegalTransition` for a reason that says nothing, or that nobody can read."""
    if not reason.strip():
        raise IllegalTransition("A reason is needed: those who read the result are told it. Give it by --reason TEXT.")
    if _UNWRITABLE.search(reason):
        raise IllegalTransition("The reason holds characters that nobody can read. Write it as plain text.")


def _is_being_analysed(connection: Connection, study_instance_uid: str, route: str | None) -> bool:
    mine = and_(jobs.c.study_instance_uid == study_instance_uid, jobs.c.state == JobState.RUNNING)
    query = select(jobs.c.id).where(mine if route is None else and_(mine, jobs.c.route == route))
    return connection.execute(query.limit(1)).first() is not None


def _require_results(connection: Connection, study_instance_uid: str, route: str | None) -> None:
    mine = results.c.study_instance_uid == study_instance_uid
    query = select(results.c.job_key).where(mine if route is None else and_(mine, results.c.route == route))
    if connection.execute(query.limit(1)).first() is None:
        which = "" if route is None else f" by route {route!r}"
        raise NotFound(f"Study {study_instance_uid} has no result{which}: there is nothing to withdraw.")


def _require_study(connection: Connection, study_instance_uid: str) -> None:
    query = select(studies.c.revision).where(studies.c.study_instance_uid == study_instance_uid)
    if connection.execute(query).one_or_none() is None:
        raise NotFound(f"No study {study_instance_uid} has been received. Check the UID.")

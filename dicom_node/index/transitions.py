"""The only place that writes a state: of studies, jobs, results, reviews, deliveries, destinations and requests for
storage commitment, of made objects and of deletions; and of the timeline, which tells each change and by whom.

Each change reads the present state and holds its row (on SQLite the whole database is held), asks `lifecycle`, writes
the state with the columns that go with it, and leaves a line in the study's timeline that names who did it, all in the
caller's transaction. What others are told of (`core.event_types`) is owed to them in it, too: exactly once, whatever is
killed. `which` chooses one row and may name the lease or fence that the caller must still have: where
another has it by now, nothing is written and the answer is `False`. A unit test fails on any other module that writes
a state.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, delete, insert, or_, select, update

from dicom_node.core.entities import (
    CommitmentState,
    DecisionState,
    DeletionState,
    DeliveryState,
    DestinationState,
    JobState,
    KeptKind,
    ObjectState,
    ResultState,
    ReviewState,
    StudyState,
)
from dicom_node.core.lifecycle import (
    OPEN,
    RESULT_TRANSITIONS,
    SENDABLE,
    TAKEN_BACK,
    UNTOLD_DECISION,
    check_commitment,
    check_decision,
    check_deletion,
    check_delivery,
    check_destination,
    check_job,
    check_object,
    check_result,
    check_review,
    check_study,
)
from dicom_node.core.outputs.event_types import EventType
from dicom_node.core.principal import NODE, Principal
from dicom_node.core.requests import requests_in_work
from dicom_node.index import notices
from dicom_node.index.database import insert_of
from dicom_node.index.notices import Notice
from dicom_node.index.tables import (
    artifacts,
    commitments,
    deletions,
    deliveries,
    destinations,
    events,
    jobs,
    notifications,
    results,
    reviews,
    self_tests,
    studies,
)

#: What a row has when nobody works on it. Only a running job and a waiting delivery may have more.
NO_LEASE: Mapping[str, Any] = {"lease_owner": "", "lease_until": None}


@dataclass(frozen=True, slots=True)
class Change:
    """When a state changes, at whose wish, and what the timeline says of it: (kind, sentence) and detail.

    Without a line nothing is said: another line of the same transaction tells it.
    """

    at: datetime
    line: tuple[str, str] | None = None
    detail: Mapping[str, object] = field(default_factory=dict)
    actor: Principal = NODE


State = TypeVar("State", JobState, DecisionState, DeliveryState)


@dataclass(frozen=True, slots=True)
class _Rows(Generic[State]):
    """A table of which one row moves at a time: its states, what allows a step, and in which one of them a row keeps
    the lease that it has."""

    table: Table
    states: type[State]
    check: Callable[[State, State], None]
    leased: State | None = None

    def move(
        self, connection: Connection, which: Select[Any], to: State, change: Change, columns: Mapping[str, object]
    ) -> Row[Any] | None:
        """Move the row that `which` chooses, and return its id, state and study of before; `None` where it finds none.

        Raises `IllegalTransition`. What is about no study has no timeline.
        """
        row = connection.execute(which).one_or_none()
        if row is None:
            return None
        self.check(self.states(row.state), to)
        lease = {} if to is self.leased else NO_LEASE
        mine = self.table.c.id == row.id
        connection.execute(update(self.table).where(mine).values(state=to, **{**lease, **columns}))
        if row.study_instance_uid:
            _tell(connection, row.study_instance_uid, change)
        return row

    def held(self, which: ColumnElement[bool]) -> Select[Any]:
        """Return the query for the row, which nobody else may change meanwhile; for rows that name their study."""
        columns = self.table.c
        return select(columns.id, columns.state, columns.study_instance_uid).where(which).with_for_update()


_JOBS = _Rows(jobs, JobState, check_job, leased=JobState.RUNNING)
_REVIEWS = _Rows(reviews, DecisionState, check_decision)
_DELIVERIES = _Rows(deliveries, DeliveryState, check_delivery, leased=DeliveryState.PENDING)
_NOTIFICATIONS = _Rows(notifications, DeliveryState, check_delivery, leased=DeliveryState.PENDING)


# --- studies -----------------------------------------------------------------------------------------------------


def insert_studies(connection: Connection, first_received_at: Mapping[str, datetime]) -> None:
    """Open the studies that are not there yet, by UID; in the order of their UIDs, so that two receivers queue."""
    rows = [
        {
            "study_instance_uid": uid, "revision": 1, "state": StudyState.RECEIVING, "reason": "",
            "first_received_at": at, "last_received_at": at, "updated_at": at,
        }
        for uid, at in sorted(first_received_at.items())
    ]  # fmt: skip
    connection.execute(insert_of(connection)(studies).on_conflict_do_nothing(), rows)


def move_study(
    connection: Connection, study_instance_uid: str, to: StudyState, change: Change, **columns: object
) -> None:
    """Move a study to `to`; where the change has no line of its own, the timeline says the state and the `reason`.

    Raises `IllegalTransition`.
    """
    mine = studies.c.study_instance_uid == study_instance_uid
    old = connection.execute(select(studies.c.state).where(mine).with_for_update()).scalar_one()
    check_study(StudyState(old), to)
    columns = {"reason": "", "updated_at": change.at, **columns}
    connection.execute(update(studies).where(mine).values(state=to, **columns))
    if change.line is None:
        line = ("state", f"The study is {to}. {columns['reason']}".rstrip())
        change = Change(change.at, line, {"state": to.value, **change.detail}, change.actor)
    _tell(connection, study_instance_uid, change)
    if to in notices.OF_STUDY:
        _notify(connection, notices.of_study(connection, notices.OF_STUDY[to], study_instance_uid), change.at)


# --- jobs --------------------------------------------------------------------------------------------------------


def insert_job(connection: Connection, study_instance_uid: str, change: Change, **columns: object) -> None:
    """Queue an analysis that is due."""
    connection.execute(
        insert(jobs).values(
            study_instance_uid=study_instance_uid, state=JobState.QUEUED, created_at=change.at, not_before=change.at,
            **columns,
        )
    )  # fmt: skip
    _tell(connection, study_instance_uid, change)


def move_job(
    connection: Connection, which: ColumnElement[bool], to: JobState, change: Change, **columns: object
) -> bool:
    """Move one job to `to`; `False` where `which` finds none. Raises `IllegalTransition`."""
    row = _JOBS.move(connection, _JOBS.held(which), to, change, columns)
    if row is None:
        return False
    if to is JobState.FAILED:
        _notify(connection, notices.of_job(connection, row.id), change.at)
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


# --- results -----------------------------------------------------------------------------------------------------


def insert_result(
    connection: Connection, job_key: str, state: JobState, created_at: datetime, **columns: object
) -> None:
    """Enter a result, which holds; its state is the one in which its job ended."""
    columns = {"state": state, "standing": ResultState.CURRENT, "created_at": created_at, **columns}
    connection.execute(insert(results).values(job_key=job_key, **columns))
    if state in notices.OF_RESULT:
        _notify(connection, notices.of_result(connection, notices.OF_RESULT[state], job_key), created_at)


def move_result(
    connection: Connection, which: ColumnElement[bool], to: ResultState, reason: str, change: Change
) -> list[str]:
    """Say of results that hold no longer that they are `to` now, and why; return their job keys.

    What can become no more than it is stays so: the first reason is the one that counts. The timeline tells of those
    that held until now.
    """
    before = [one for one in ResultState if to in RESULT_TRANSITIONS[one]]
    query = select(results.c.job_key, results.c.study_instance_uid, results.c.route, results.c.standing)
    held = and_(which, results.c.standing.in_(before))
    rows = connection.execute(query.where(held).order_by(results.c.job_key).with_for_update()).all()
    for row in rows:
        check_result(ResultState(row.standing), to)
        columns = {"standing": to, "standing_reason": reason, "standing_at": change.at}
        connection.execute(update(results).where(results.c.job_key == row.job_key).values(**columns))
        if row.standing == ResultState.CURRENT:
            _tell(connection, row.study_instance_uid, replace(change, detail={"route": row.route, **change.detail}))
        if to in notices.OF_STANDING:
            _notify(connection, notices.of_result(connection, notices.OF_STANDING[to], row.job_key), change.at)
    return [row.job_key for row in rows]


# --- reviews -----------------------------------------------------------------------------------------------------


def insert_review(connection: Connection, job_key: str, state: DecisionState, change: Change, **columns: Any) -> int:
    """Enter a decision on a result and return its number. One that is decided says of the result what it is."""
    values = {"job_key": job_key, "state": state, "decided_at": change.at, "not_before": change.at, **columns}
    number = connection.execute(insert(reviews).values(**values).returning(reviews.c.id)).scalar_one()
    _tell(connection, columns["study_instance_uid"], change)
    if state is DecisionState.DECIDED:
        _decided(connection, number, change.at)
    return int(number)


def move_review(
    connection: Connection, which: ColumnElement[bool], to: DecisionState, change: Change, **columns: object
) -> bool:
    """Move one decision to `to`; `False` where `which` finds none. Raises `IllegalTransition`."""
    row = _REVIEWS.move(connection, _REVIEWS.held(which), to, change, columns)
    if row is None:
        return False
    if to is DecisionState.DECIDED:
        _decided(connection, row.id, change.at)
    elif to in UNTOLD_DECISION and row.state == DecisionState.DECIDED:
        _untold(connection, row.id, to, change.at)
    return True


def _decided(connection: Connection, number: int, at: datetime) -> None:
    """Say of the result what was decided, and tell others so: nobody else need confirm it."""
    decided = connection.execute(select(reviews.c.job_key, reviews.c.review_state).where(reviews.c.id == number)).one()
    _say_of_result(connection, decided.job_key, ReviewState(decided.review_state))
    _notify(connection, notices.of_review(connection, notices.OF_REVIEW[DecisionState.DECIDED], number), at)


def _untold(connection: Connection, number: int, to: DecisionState, at: datetime) -> None:
    """Say of the result that nobody has reviewed it after all, and tell that whoever heard of the decision."""
    job_key = connection.execute(select(reviews.c.job_key).where(reviews.c.id == number)).scalar_one()
    _say_of_result(connection, job_key, ReviewState.UNREVIEWED)
    _notify(connection, notices.of_review(connection, notices.OF_REVIEW[to], number), at)


def _say_of_result(connection: Connection, job_key: str, now: ReviewState) -> None:
    mine = results.c.job_key == job_key
    old = connection.execute(select(results.c.review_state).where(mine).with_for_update()).scalar_one()
    check_review(ReviewState(old), now)
    connection.execute(update(results).where(mine).values(review_state=now))


# --- deliveries --------------------------------------------------------------------------------------------------


def insert_delivery(
    connection: Connection, artifact_uid: str, job_key: str, destination: str, at: datetime, **columns: object
) -> None:
    """Owe an object to a destination, from now; of a self-test study nothing is owed, whatever routes say."""
    of_result = select(results.c.study_instance_uid).where(results.c.job_key == job_key)
    if _is_self_test(connection, self_tests.c.study_instance_uid.in_(of_result)):
        return
    connection.execute(
        insert(deliveries).values(
            artifact_uid=artifact_uid, job_key=job_key, destination=destination, state=DeliveryState.PENDING,
            next_attempt_at=at, created_at=at, **columns,
        )
    )  # fmt: skip


def move_delivery(
    connection: Connection, which: ColumnElement[bool], to: DeliveryState, change: Change, **columns: object
) -> bool:
    """Move one delivery to `to`; `False` where `which` finds none. Raises `IllegalTransition`.

    To PENDING its lease stays as it is: whoever is sending at this moment finishes first.
    """
    row = _DELIVERIES.move(connection, _held_deliveries(which), to, change, columns)
    if row is None:
        return False
    if to is DeliveryState.PARKED:
        _notify(connection, notices.of_delivery(connection, row.id), change.at)
    return True


def make_deliveries_due(
    connection: Connection, study_instance_uid: str, which: ColumnElement[bool], change: Change
) -> list[int]:
    """Make deliveries of a study due now, all but what is proved to have arrived or was given up; return their ids.

    Nothing of a withdrawn result but what takes it back.
    """
    may_go = or_(deliveries.c.is_withdrawal, results.c.standing.not_in(TAKEN_BACK))
    of_study = and_(results.c.study_instance_uid == study_instance_uid, which, may_go)
    rows = connection.execute(_held_deliveries(of_study).order_by(deliveries.c.id)).all()
    ids = [row.id for row in rows if row.state in SENDABLE]
    if ids:
        again = {"state": DeliveryState.PENDING, "next_attempt_at": change.at}
        connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(**again))
        detail = {**change.detail, "delivery_ids": ids}
        _tell(connection, study_instance_uid, Change(change.at, change.line, detail, change.actor))
    return ids


def cancel_deliveries(connection: Connection, which: ColumnElement[bool]) -> int:
    """Owe no more what has not arrived, as if it had never been planned; return how many deliveries that were."""
    open_ones = deliveries.c.state.in_(OPEN)
    return connection.execute(delete(deliveries).where(which, open_ones)).rowcount


def _held_deliveries(which: ColumnElement[bool]) -> Select[Any]:
    return (
        select(deliveries.c.id, deliveries.c.state, results.c.study_instance_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(which)
        .with_for_update(of=deliveries)
    )


# --- notifications -----------------------------------------------------------------------------------------------


def _notify(connection: Connection, told: Iterable[Notice], at: datetime) -> None:
    """Owe an event to everybody who hears of it. Nothing is composed where nobody does.

    Of one study events are told in the order in which they happened: what precedes an urgent one is as urgent.
    """
    listening = notices.subscribers_in(connection)
    for notice in told if listening else ():
        for one in listening:
            if one.hears(notice):
                body = notices.body_of(connection, notice, one, at)
                _insert_notification(connection, notice, one.name, at, body)


def _is_self_test(connection: Connection, which: ColumnElement[bool]) -> bool:
    return connection.execute(select(self_tests.c.day).where(which).limit(1)).scalar() is not None


def _insert_notification(connection: Connection, notice: Notice, destination: str, at: datetime, body: str) -> None:
    study, urgency = notice.study_instance_uid, notice.urgency
    if study and _is_self_test(connection, self_tests.c.study_instance_uid == study):
        return
    if study:
        before = and_(notifications.c.destination == destination, notifications.c.study_instance_uid == study)
        waiting = and_(before, notifications.c.state == DeliveryState.PENDING, notifications.c.urgency > urgency)
        connection.execute(update(notifications).where(waiting).values(urgency=urgency))
    connection.execute(
        insert(notifications).values(
            event_id=f"evt_{uuid.uuid4().hex}", destination=destination, type=notice.type, study_instance_uid=study,
            urgency=urgency, body=body, state=DeliveryState.PENDING, next_attempt_at=at, created_at=at,
        )
    )  # fmt: skip


def move_notification(
    connection: Connection, which: ColumnElement[bool], to: DeliveryState, change: Change, **columns: object
) -> bool:
    """Move one notification to `to`, as `move_delivery` does; what is about no study has no timeline."""
    return _NOTIFICATIONS.move(connection, _NOTIFICATIONS.held(which), to, change, columns) is not None


def make_notifications_due(connection: Connection, which: ColumnElement[bool], now: datetime) -> int:
    """Make notifications due now that wait or were parked; return how many."""
    again = {"state": DeliveryState.PENDING, "next_attempt_at": now}
    still_open = notifications.c.state.in_(OPEN)
    return connection.execute(update(notifications).where(which, still_open).values(**again)).rowcount


# --- destinations ------------------------------------------------------------------------------------------------


def move_destination(connection: Connection, name: str, to: DestinationState, reason: str, change: Change) -> bool:
    """Move a destination to `to`, where it stands with this reason from then on; `False` where it stands there already.

    One that was never moved is active. What a person has suspended is theirs: the node neither suspends it for a reason
    of its own nor lets it go on. A person's suspension takes the place of the node's.
    """
    mine, is_suspended = destinations.c.name == name, to is DestinationState.SUSPENDED
    fresh = {"name": name, "state": DestinationState.ACTIVE, "reason": "", "since": change.at, "suspended_by": ""}
    connection.execute(insert_of(connection)(destinations).values(fresh).on_conflict_do_nothing())
    old = connection.execute(select(destinations).where(mine).with_for_update()).one()
    is_node, is_persons = change.actor == NODE, old.suspended_by != ""
    takes_over = is_suspended and old.state == to and not is_node and not is_persons
    if (old.state == to and not takes_over) or (is_persons and is_node):
        return False
    if not takes_over:
        check_destination(DestinationState(old.state), to)
    by = change.actor.name[:_LONGEST_NAME] if is_suspended and not is_node else ""
    columns = {"reason": reason, "since": change.at, "suspended_by": by}
    connection.execute(update(destinations).where(mine).values(state=to, **columns))
    kind = EventType.DESTINATION_SUSPENDED if is_suspended else EventType.DESTINATION_RESUMED
    _notify(connection, notices.of_destination(kind, name), change.at)
    return True


def tell_of_route(connection: Connection, kind: EventType, name: str, at: datetime) -> None:
    """Owe those who hear of the route that a person has suspended or resumed it."""
    _notify(connection, notices.of_route(kind, name), at)


# --- requests for storage commitment -----------------------------------------------------------------------------


def keep_commitment(connection: Connection, which: ColumnElement[bool], columns: Mapping[str, Any]) -> None:
    """Enter a request that is to be reported; the same one asked again is reported again, from the beginning."""
    fresh = insert_of(connection)(commitments).values(state=CommitmentState.PENDING, **columns)
    if connection.execute(fresh.on_conflict_do_nothing().returning(commitments.c.id)).first() is not None:
        return
    row = connection.execute(select(commitments.c.id, commitments.c.state).where(which).with_for_update()).one()
    check_commitment(CommitmentState(row.state), CommitmentState.PENDING)
    mine = commitments.c.id == row.id
    connection.execute(update(commitments).where(mine).values(state=CommitmentState.PENDING, **columns))


def move_commitment(connection: Connection, number: int, to: CommitmentState, **columns: object) -> bool:
    """Note where a request stands now; `False` when it has ended: what comes late is not what the peer has heard."""
    mine = and_(commitments.c.id == number, commitments.c.state == CommitmentState.PENDING)
    row = connection.execute(select(commitments.c.state).where(mine).with_for_update()).one_or_none()
    if row is None:
        return False
    check_commitment(CommitmentState(row.state), to)
    connection.execute(update(commitments).where(mine).values(state=to, **columns))
    return True


# --- what is deleted ---------------------------------------------------------------------------------------------


def mark_deletion(connection: Connection, study_instance_uid: str, kind: KeptKind, at: datetime, **columns: Any) -> int:
    """Note, before the first file goes, that a study's images or results are being deleted; return the number of that.

    The caller holds the study.
    """
    values = {"kind": kind, "state": DeletionState.MARKED, "place": "", "marked_at": at, **columns}
    row = insert(deletions).values(study_instance_uid=study_instance_uid, **values).returning(deletions.c.id)
    number = connection.execute(row).scalar_one()
    connection.execute(update(studies).where(studies.c.study_instance_uid == study_instance_uid).values(deleting=kind))
    return int(number)


def end_deletion(connection: Connection, number: int, to: DeletionState, change: Change) -> bool:
    """Note that a deletion is done, or was stopped; `False` where it had ended. The caller holds the study."""
    mine = deletions.c.id == number
    row = connection.execute(select(deletions).where(mine).with_for_update()).one()
    if row.state != DeletionState.MARKED:
        return False
    check_deletion(DeletionState(row.state), to)
    connection.execute(update(deletions).where(mine).values(state=to, ended_at=change.at))
    gone = {f"{row.kind.lower()}_deleted_at": change.at} if to is DeletionState.DELETED else {}
    study = studies.c.study_instance_uid == row.study_instance_uid
    connection.execute(update(studies).where(study).values(deleting="", **gone))
    _tell(connection, row.study_instance_uid, change)
    if gone:
        _notify(connection, notices.of_deletion(connection, number), change.at)
    return True


def move_objects(connection: Connection, which: ColumnElement[bool], to: ObjectState) -> list[str]:
    """Say of made objects whether their bytes are kept; return the UIDs of those of which that is new."""
    query = select(artifacts.c.uid, artifacts.c.state).where(which, artifacts.c.state != to).order_by(artifacts.c.uid)
    rows = connection.execute(query.with_for_update()).all()
    for row in rows:
        check_object(ObjectState(row.state), to)
    uids = [row.uid for row in rows]
    if uids:
        connection.execute(update(artifacts).where(artifacts.c.uid.in_(uids)).values(state=to))
    return uids


def _tell(connection: Connection, study_instance_uid: str, change: Change) -> None:
    if change.line is not None:
        record(connection, study_instance_uid, change.at, change.line, change.actor, **change.detail)


_LONGEST_NAME = 128


def record(
    connection: Connection,
    study_instance_uid: str,
    at: datetime,
    text: tuple[str, str],
    actor: Principal = NODE,
    **detail: object,
) -> None:
    """Add a line to a study's timeline. `text` is (kind, sentence); neither ever names the patient."""
    kind, sentence = text
    if requests := requests_in_work():
        detail["requests"] = list(requests)
    connection.execute(
        insert(events).values(
            study_instance_uid=study_instance_uid, at=at, kind=kind, text=sentence, actor=actor.name[:_LONGEST_NAME],
            detail=detail,
        )
    )  # fmt: skip

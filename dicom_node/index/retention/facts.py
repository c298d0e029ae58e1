"""What decides on whether a study may go: facts from the rows, of many studies in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from dicom_node.core.entities import DecisionState, DeliveryState, JobState, KeptKind, ObjectState, StudyState
from dicom_node.core.lifecycle import ARRIVED, OPEN, TAKEN_BACK
from dicom_node.core.retention.rules import StudyFacts
from dicom_node.index.database import is_among
from dicom_node.index.due import now_in
from dicom_node.index.tables import (
    artifacts,
    associations,
    deliveries,
    events,
    held_studies,
    instances,
    jobs,
    notifications,
    results,
    retrievals,
    review_locks,
    reviews,
    studies,
    study_holds,
)

#: Kinds of the timeline's lines about deletions and holds. They are no sign of life: what is held for a year, or of
#: which the images went, is as old as it was.
DELETED, HOLD = "deleted", "hold"
_NO_LIFE = (DELETED, HOLD)
#: For so long after it was sent a destination may say that it does not have an object (`outbox.proofs`).
_ASKED_FOR = timedelta(days=8)
_AT_ONCE = 200

Counted = Mapping[str, Any]


class RetentionPlace(NamedTuple):
    """Where a search from the oldest on stands."""

    updated_at: datetime
    study_instance_uid: str


def oldest(
    connection: Connection, kind: KeptKind, before: datetime, behind: RetentionPlace | None = None
) -> tuple[list[StudyFacts], RetentionPlace | None]:
    """Return the next studies of which images, or results without images, are kept, to which nothing has happened since
    `before`, the oldest first; and where to go on, `None` at the end. What happens meanwhile may move a study."""
    at, uid = studies.c.updated_at, studies.c.study_instance_uid
    query = select(at, uid).where(at < before, studies.c.deleting == "", *_with(kind)).order_by(at, uid).limit(_AT_ONCE)
    if behind is not None:
        later = and_(at == behind.updated_at, uid > behind.study_instance_uid)
        query = query.where(or_(at > behind.updated_at, later))
    rows = connection.execute(query).all()
    found = facts_of(connection, [row.study_instance_uid for row in rows])
    facts = [found[row.study_instance_uid] for row in rows if row.study_instance_uid in found]
    return facts, RetentionPlace(*rows[-1]) if len(rows) == _AT_ONCE else None


def _with(kind: KeptKind) -> list[ColumnElement[bool]]:
    if kind is KeptKind.IMAGES:
        return [studies.c.images_deleted_at.is_(None)]
    return [studies.c.images_deleted_at.is_not(None), studies.c.results_deleted_at.is_(None)]


def facts_of(connection: Connection, uids: Sequence[str]) -> dict[str, StudyFacts]:
    """Return what decides on each of these studies; without those that are not known, or are being deleted from."""
    if not uids:
        return {}
    row_of = {row.study_instance_uid: row for row in connection.execute(_studies(uids))}
    images, made = _by_study(connection, _images(uids)), _by_study(connection, _made(uids))
    lively = _by_study(connection, _latest_events(uids))
    held = {
        row.study_instance_uid: row for row in connection.execute(select(study_holds).where(_of(study_holds, uids)))
    }
    counted = {name: _by_study(connection, query) for name, query in _counts(uids, now_in(connection)).items()}
    return {
        uid: StudyFacts(
            study_instance_uid=uid,
            state=StudyState(row.state),
            last_active_at=max([row.updated_at, *(found[uid].at for found in (images, lively) if uid in found)]),
            images=images[uid].number if uid in images else 0,
            image_bytes=int(images[uid].size) if uid in images else 0,
            results=made[uid].number if uid in made else 0,
            result_bytes=int(made[uid].size) if uid in made else 0,
            held_by=held[uid].held_by if uid in held else "",
            held_because=held[uid].reason if uid in held else "",
            being_reviewed=uid in counted["locks"],
            **{name: found[uid].number if uid in found else 0 for name, found in counted.items() if name != "locks"},
        )
        for uid, row in row_of.items()
    }


def _counts(uids: Sequence[str], now: datetime) -> dict[str, Select[Any]]:
    """Return, by the name of the fact, what counts the rows that keep a study."""
    of_result = results.c.job_key == deliveries.c.job_key
    by_delivery = _number(results, uids).join(deliveries, of_result)
    asked_lately = and_(deliveries.c.prove_at.is_not(None), deliveries.c.sent_at > now - _ASKED_FOR)
    still_asked = and_(deliveries.c.state == DeliveryState.SENT, asked_lately)
    unfinished = jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING))
    decided = reviews.c.state.in_((DecisionState.AWAITS_SECOND, DecisionState.DECIDED))
    locked = and_(review_locks.c.job_key == results.c.job_key, review_locks.c.until > now)
    shown = and_(
        results.c.standing.in_(TAKEN_BACK), deliveries.c.is_withdrawal.is_(False),
        deliveries.c.is_taken_back.is_(False), or_(deliveries.c.state.in_(ARRIVED), deliveries.c.may_have_arrived),
    )  # fmt: skip
    return {
        "open_associations": _number(associations, uids).where(associations.c.closed_at.is_(None)),
        "retrievals": _number(retrievals, uids),
        "waiting_jobs": _number(jobs, uids).where(unfinished),
        "suspended_routes": _number(held_studies, uids),
        "owed": _owed(uids),
        "to_take_back": by_delivery.where(shown),
        "unproved": by_delivery.where(still_asked),
        "reviews_under_way": _number(reviews, uids).where(decided),
        "locks": _number(results, uids).join(review_locks, locked),
    }


def _owed(uids: Sequence[str]) -> Select[Any]:
    """Select how many objects and events are still owed of each study."""
    objects = select(results.c.study_instance_uid, deliveries.c.id).join(
        deliveries, deliveries.c.job_key == results.c.job_key
    )
    objects = objects.where(_of(results, uids), deliveries.c.state.in_(OPEN))
    told = select(notifications.c.study_instance_uid, notifications.c.id)
    told = told.where(_of(notifications, uids), notifications.c.state.in_(OPEN))
    both = objects.union_all(told).subquery()
    return select(both.c.study_instance_uid, func.count().label("number")).group_by(both.c.study_instance_uid)


def _studies(uids: Sequence[str]) -> Select[Any]:
    columns = (studies.c.study_instance_uid, studies.c.state, studies.c.updated_at)
    return select(*columns).where(_of(studies, uids), studies.c.deleting == "")


def _images(uids: Sequence[str]) -> Select[Any]:
    return _number(instances, uids).add_columns(
        func.sum(instances.c.size_bytes).label("size"), func.max(instances.c.received_at).label("at")
    )


def _made(uids: Sequence[str]) -> Select[Any]:
    query = _number(results, uids).join(artifacts, artifacts.c.job_key == results.c.job_key)
    query = query.where(artifacts.c.state == ObjectState.STORED)
    return query.add_columns(func.sum(artifacts.c.size_bytes).label("size"))


def _latest_events(uids: Sequence[str]) -> Select[Any]:
    mine = and_(_of(events, uids), events.c.kind.not_in(_NO_LIFE))
    uid = events.c.study_instance_uid
    return select(uid, func.max(events.c.at).label("at")).where(mine).group_by(uid)


def _number(table: Any, uids: Sequence[str]) -> Select[Any]:
    uid = table.c.study_instance_uid
    return select(uid, func.count().label("number")).where(_of(table, uids)).group_by(uid)


def _of(table: Any, uids: Sequence[str]) -> ColumnElement[bool]:
    return is_among(table.c.study_instance_uid, uids)


def _by_study(connection: Connection, query: Select[Any]) -> Counted:
    return {row.study_instance_uid: row for row in connection.execute(query)}

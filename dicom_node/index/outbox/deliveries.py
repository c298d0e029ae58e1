"""The outbox rows, one per object and destination: planned when a result is saved, and again when its job was queued
again. A batch is what one result still owes to one destination."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, func, not_, or_, select, update

from dicom_node.core.calls.limits import LONGEST_WAIT_S
from dicom_node.core.entities import (
    AboutResult,
    Artifact,
    ArtifactKind,
    DeliveryState,
    Destination,
    ObjectState,
    ResultState,
)
from dicom_node.core.lifecycle import OPEN
from dicom_node.core.priority import Priority
from dicom_node.index.due import count_leases_anew, is_due
from dicom_node.index.outbox.about import about_result
from dicom_node.index.outbox.withdrawals import is_withdrawn, may_leave
from dicom_node.index.tables import artifacts, deliveries, jobs, results
from dicom_node.index.transitions import (
    NO_LEASE,
    Change,
    cancel_deliveries,
    insert_delivery,
    make_deliveries_due,
    move_delivery,
)


@dataclass(frozen=True, slots=True)
class DeliveryItem:
    """One object of a batch, how often it was tried for itself, and what was noted of it last."""

    delivery_id: int
    artifact: Artifact
    attempts: int
    note: str = ""
    #: It takes back others, which hold no longer.
    is_withdrawal: bool = False
    #: Since when it is owed; `None` where it has arrived once.
    owed_since: datetime | None = None

    @property
    def name(self) -> str:
        """What the timeline calls it."""
        return f"Withdrawal ({self.artifact.kind})" if self.is_withdrawal else str(self.artifact.kind)


class RefusedItem(NamedTuple):
    """An object of a class that the destination does not take, and what it said; not yet parked."""

    item: DeliveryItem
    why: str


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, how long a claim holds, and the longest wait that this node ever gives a delivery."""

    owner: str
    lease_s: float
    longest_wait_s: float = LONGEST_WAIT_S


@dataclass(frozen=True, slots=True)
class DeliveryBatch:
    """Everything one result still owes to one destination, in the order in which it must be sent."""

    destination: str
    study_instance_uid: str
    job_key: str
    owner: str
    items: tuple[DeliveryItem, ...]
    about: AboutResult

    @property
    def key(self) -> str:
        """What the outbox knows it by."""
        return self.job_key


def next_due(
    connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str] = ()
) -> str | None:
    """Return the job key of the batch that is next for this destination: the most urgent, then the oldest that is due.

    `passing_over` are job keys of batches that are not wanted now. `None`: nothing is due. What was never tried was
    never put off: it is due, whatever the clock was when it was planned.
    """
    put_off_until = is_due(deliveries.c.next_attempt_at, now, claimant.longest_wait_s)
    query = select(deliveries.c.job_key).where(
        _is_free(destination, claimant, now),
        or_(deliveries.c.attempts == 0, put_off_until),
        deliveries.c.job_key.not_in(passing_over),
    )
    return connection.execute(query.order_by(deliveries.c.urgency, deliveries.c.id).limit(1)).scalar()


def claim_batch(
    connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str] = ()
) -> DeliveryBatch | None:
    """Take the batch that is next for this destination; `None` when nothing is due, or another worker was first.

    All of a batch's rows are locked in one order, so that two workers queue: the later one finds nothing free. A row
    that was tried and has the lease of another was being sent when that one died: the object may be there already.
    """
    count_leases_anew(connection, deliveries, _is_owed_to(destination), now, claimant.lease_s)
    job_key = next_due(connection, destination, claimant, now, passing_over)
    if job_key is None:
        return None
    rows = connection.execute(
        select(deliveries, artifacts)
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .where(_is_free(destination, claimant, now), deliveries.c.job_key == job_key)
        .order_by(artifacts.c.send_order, deliveries.c.id)
        .with_for_update(of=deliveries)
    ).all()
    if not rows:
        return None
    mine = deliveries.c.id.in_([row.id for row in rows])
    broken_off = and_(mine, deliveries.c.lease_until.is_not(None), deliveries.c.attempts > 0)
    connection.execute(update(deliveries).where(broken_off).values(may_have_arrived=True))
    connection.execute(
        update(deliveries)
        .where(mine)
        .values(lease_owner=claimant.owner, lease_until=now + timedelta(seconds=claimant.lease_s))
    )
    items = tuple(map(_item, rows))
    about = about_result(connection, job_key, destination)
    return DeliveryBatch(destination, about.study_instance_uid, job_key, claimant.owner, items, about)


def _is_free(destination: str, claimant: Claimant, now: datetime) -> ColumnElement[bool]:
    free = or_(deliveries.c.lease_until.is_(None), is_due(deliveries.c.lease_until, now, claimant.lease_s))
    return and_(_is_owed_to(destination), free, may_leave(destination))


def _is_owed_to(destination: str) -> ColumnElement[bool]:
    return and_(deliveries.c.destination == destination, deliveries.c.state == DeliveryState.PENDING)


def _item(row: Row[Any]) -> DeliveryItem:
    return DeliveryItem(
        row.id,
        Artifact(
            uid=row.artifact_uid, kind=ArtifactKind(row.kind), media_type=row.media_type, object_key=row.object_key,
            sha256=row.sha256, size_bytes=row.size_bytes, order=row.send_order, description=row.description,
            sop_class_uid=row.sop_class_uid, series_instance_uid=row.series_instance_uid, preview_key=row.preview_key,
            output_keys=tuple(row.output_keys),
        ),
        row.attempts,
        row.note,
        row.is_withdrawal,
        row.created_at if row.sent_at is None else None,
    )  # fmt: skip


def mark_sent(
    connection: Connection, batch: DeliveryBatch, item: DeliveryItem, answer: tuple[str, int | None], now: datetime
) -> None:
    """Note that the destination has taken the object; `answer` is what it said, and the warning among that, if any.

    Whether it has kept it is asked from now on, where it can be.
    """
    note, warning = answer
    line = ("sent", f"{item.name} sent to {batch.destination}.")
    sent = Change(now, line, {"uid": item.artifact.uid, "note": note})
    unproved = {"prove_at": now, "proof_tries": 0, "transaction_uid": "", "warning": warning}
    _move(connection, (batch, item), DeliveryState.SENT, sent, sent_at=now, note=note, **unproved)


def mark_found(connection: Connection, batch: DeliveryBatch, item: DeliveryItem, now: datetime) -> None:
    """Note that the destination had the object before the node was put back from a backup; it is not sent again."""
    line = ("found", f"{item.name} is at {batch.destination} already: it was sent before the node was restored.")
    found = Change(now, line, {"uid": item.artifact.uid})
    unproved = {"prove_at": now, "proof_tries": 0, "transaction_uid": "", "warning": None}
    _move(connection, (batch, item), DeliveryState.SENT, found, sent_at=now, note=line[1], **unproved)


def mark_parked(connection: Connection, batch: DeliveryBatch, item: DeliveryItem, why: str, now: datetime) -> None:
    """Note that the destination will not take the object as it is; a human must look."""
    line = ("parked", f"{item.name} parked for {batch.destination}: {why}")
    _move(connection, (batch, item), DeliveryState.PARKED, Change(now, line, {"uid": item.artifact.uid}), note=why)


def begin_attempt(connection: Connection, batch: DeliveryBatch) -> None:
    """Count the attempt before the first byte leaves: should the sender die in it, the objects may be there.

    Before it the destination is only asked, and knows of nothing. What ends the attempt counts the same one.
    """
    for item in batch.items:
        mine = and_(deliveries.c.id == item.delivery_id, _is_held(batch))
        connection.execute(update(deliveries).where(mine).values(attempts=item.attempts + 1))


def mark_held(connection: Connection, batch: DeliveryBatch, why: str, now: datetime) -> None:
    """Keep back all of a batch until a person has seen to it: not for what it is, but for what has changed there.

    Nobody refused the objects now, so what an earlier attempt brought may still be there.
    """
    line: tuple[str, str] | None = ("held", f"Held for {batch.destination}: {why}")
    for item in batch.items:
        mine = and_(deliveries.c.id == item.delivery_id, _is_held(batch))
        tried = {"may_have_arrived": True} if item.attempts else {}
        if move_delivery(connection, mine, DeliveryState.PARKED, Change(now, line), note=why, **tried):
            line = None


def mark_deferred(
    connection: Connection, batch: DeliveryBatch, item: DeliveryItem, why: str, again: tuple[datetime, datetime]
) -> None:
    """Put an object off; `again` is (now, when to try again).

    Only the first failure stands in the timeline; the row counts the rest.
    """
    now, again_at = again
    put_off = Change(now, _deferred_line(batch, item, why), {"uid": item.artifact.uid})
    _move(connection, (batch, item), DeliveryState.PENDING, put_off, note=why, next_attempt_at=again_at, **NO_LEASE)


def give_back(connection: Connection, batch: DeliveryBatch, item: DeliveryItem, why: str, now: datetime) -> None:
    """Let go of an object that the destination was not there for: it stays due, and no attempt is counted."""
    mine = and_(deliveries.c.id == item.delivery_id, _is_held(batch))
    waits = Change(now, _deferred_line(batch, item, why), {"uid": item.artifact.uid})
    move_delivery(connection, mine, DeliveryState.PENDING, waits, note=why, attempts=item.attempts, **NO_LEASE)


def _deferred_line(batch: DeliveryBatch, item: DeliveryItem, why: str) -> tuple[str, str] | None:
    if item.attempts or item.note:
        return None
    return "deferred", f"{item.name} not yet taken by {batch.destination}: {why}"


def _move(
    connection: Connection,
    which: tuple[DeliveryBatch, DeliveryItem],
    to: DeliveryState,
    change: Change,
    **columns: object,
) -> None:
    """Change one delivery and count the attempt, if it is still ours."""
    batch, item = which
    mine = and_(deliveries.c.id == item.delivery_id, _is_held(batch))
    move_delivery(connection, mine, to, change, attempts=item.attempts + 1, **columns)


def _is_held(batch: DeliveryBatch) -> ColumnElement[bool]:
    return and_(deliveries.c.lease_owner == batch.owner, deliveries.c.state == DeliveryState.PENDING)


def cancel_untried(connection: Connection, batch: DeliveryBatch, items: Sequence[DeliveryItem]) -> None:
    """Owe what was claimed and not tried no more: the job is queued again, and what is owed then is planned anew."""
    claimed = deliveries.c.id.in_([item.delivery_id for item in items])
    cancel_deliveries(connection, and_(claimed, _is_held(batch)))


def has_open_beside_notes(connection: Connection, batch: DeliveryBatch) -> bool:
    """Tell whether the destination is still owed anything of this result but its rejection notes."""
    query = (
        select(deliveries.c.id)
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .where(
            deliveries.c.job_key == batch.job_key,
            deliveries.c.destination == batch.destination,
            deliveries.c.state.in_(OPEN),
            artifacts.c.kind != ArtifactKind.REJECTION_NOTE,
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


def make_due(connection: Connection, destination: str, now: datetime) -> int:
    """Make everything that waits for a destination due now: it has just taken something again."""
    return connection.execute(
        update(deliveries)
        .where(_is_owed_to(destination), deliveries.c.next_attempt_at > now)
        .values(next_attempt_at=now)
    ).rowcount


def owed_to_others(connection: Connection, names: Collection[str]) -> Mapping[str, int]:
    """Return how many deliveries wait for destinations that are not among `names`, by destination."""
    pending = and_(deliveries.c.state == DeliveryState.PENDING, deliveries.c.destination.not_in(names))
    query = select(deliveries.c.destination, func.count()).where(pending).group_by(deliveries.c.destination)
    return {row[0]: row[1] for row in connection.execute(query)}


def undelivered(connection: Connection) -> int:
    """Return how many deliveries are still to be made."""
    return connection.execute(select(func.count()).where(deliveries.c.state == DeliveryState.PENDING)).scalar_one()


#: Most urgent first.
_PRIORITIES = tuple(Priority)


def plan_deliveries(connection: Connection, job_key: str, destinations: Sequence[Destination], now: datetime) -> None:
    """Owe every destination the objects of its set; what waits or is parked and is of its set no more is not owed.

    Of a result that was withdrawn meanwhile nothing is owed.
    """
    if is_withdrawn(connection, job_key):
        return
    made = _kept_of(connection, job_key)
    owed = _owed(made, destinations)
    _forget_others(connection, job_key, {to.name for to in destinations}, owed, now)
    planned = select(deliveries.c.artifact_uid, deliveries.c.destination).where(deliveries.c.job_key == job_key)
    known = {(row.artifact_uid, row.destination) for row in connection.execute(planned)}
    order = {row.uid: row.send_order for row in made}
    urgency = _urgency(connection, job_key)
    for uid, name in sorted(owed - known, key=lambda one: (one[1], order[one[0]], one[0])):
        insert_delivery(connection, uid, job_key, name, now, urgency=urgency)


def _kept_of(connection: Connection, job_key: str) -> Sequence[Row[Any]]:
    """Return the objects of a result that there are still: of what was deleted nothing can be sent."""
    mine = and_(artifacts.c.job_key == job_key, artifacts.c.state == ObjectState.STORED)
    return connection.execute(select(artifacts).where(mine)).all()


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
    made = _kept_of(connection, job_key)
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
    """Cancel what was planned for an earlier set and has not gone. What is on its way this moment is let go, and what
    may be there already stays owed: a withdrawal has to find it."""
    idle = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
    is_there = or_(deliveries.c.sent_at.is_not(None), deliveries.c.may_have_arrived)
    mine = and_(deliveries.c.job_key == job_key, deliveries.c.destination.in_(names), idle, not_(is_there))
    rows = connection.execute(select(deliveries.c.id, deliveries.c.artifact_uid, deliveries.c.destination).where(mine))
    stale = [row.id for row in rows if (row.artifact_uid, row.destination) not in owed]
    if stale:
        cancel_deliveries(connection, and_(deliveries.c.id.in_(stale), idle))

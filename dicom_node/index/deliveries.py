"""The outbox rows: one per object and destination. A batch is what one result still owes to one destination."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from dicom_node.core.entities import Artifact, ArtifactKind, DeliveryState
from dicom_node.core.lifecycle import OPEN
from dicom_node.core.limits import LONGEST_WAIT_S
from dicom_node.index.due import count_leases_anew, is_due
from dicom_node.index.tables import artifacts, deliveries, results
from dicom_node.index.transitions import NO_LEASE, Change, cancel_deliveries, move_delivery
from dicom_node.index.withdrawals import may_leave


@dataclass(frozen=True, slots=True)
class DeliveryItem:
    """One object of a batch, how often it was tried for itself, and what was noted of it last."""

    delivery_id: int
    artifact: Artifact
    attempts: int
    note: str = ""
    #: It takes back others, which hold no longer.
    is_withdrawal: bool = False

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


def next_due(
    connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str] = ()
) -> str | None:
    """Return the job key of the batch that is next for this destination: the most urgent, then the oldest that is due.

    `passing_over` are job keys of batches that are not wanted now. `None`: nothing is due.
    """
    query = select(deliveries.c.job_key).where(
        _is_free(destination, claimant, now),
        is_due(deliveries.c.next_attempt_at, now, claimant.longest_wait_s),
        deliveries.c.job_key.not_in(passing_over),
    )
    return connection.execute(query.order_by(deliveries.c.urgency, deliveries.c.id).limit(1)).scalar()


def claim_batch(
    connection: Connection, destination: str, claimant: Claimant, now: datetime, passing_over: Collection[str] = ()
) -> DeliveryBatch | None:
    """Take the batch that is next for this destination; `None` when nothing is due, or another worker was first.

    All of a batch's rows are locked in one order, so that two workers queue: the later one finds nothing free.
    """
    count_leases_anew(connection, deliveries, _is_owed_to(destination), now, claimant.lease_s)
    job_key = next_due(connection, destination, claimant, now, passing_over)
    if job_key is None:
        return None
    rows = connection.execute(
        select(deliveries, artifacts, results.c.study_instance_uid)
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(_is_free(destination, claimant, now), deliveries.c.job_key == job_key)
        .order_by(artifacts.c.send_order, deliveries.c.id)
        .with_for_update(of=deliveries)
    ).all()
    if not rows:
        return None
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id.in_([row.id for row in rows]))
        .values(lease_owner=claimant.owner, lease_until=now + timedelta(seconds=claimant.lease_s))
    )
    items = tuple(map(_item, rows))
    return DeliveryBatch(destination, rows[0].study_instance_uid, job_key, claimant.owner, items)


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
    )  # fmt: skip


def mark_sent(connection: Connection, batch: DeliveryBatch, item: DeliveryItem, note: str, now: datetime) -> None:
    """Note that the destination has taken the object."""
    line = ("sent", f"{item.name} sent to {batch.destination}.")
    sent = Change(now, line, {"uid": item.artifact.uid, "note": note})
    _move(connection, (batch, item), DeliveryState.SENT, sent, sent_at=now, note=note)


def mark_parked(connection: Connection, batch: DeliveryBatch, item: DeliveryItem, why: str, now: datetime) -> None:
    """Note that the destination will not take the object as it is; a human must look."""
    line = ("parked", f"{item.name} parked for {batch.destination}: {why}")
    _move(connection, (batch, item), DeliveryState.PARKED, Change(now, line, {"uid": item.artifact.uid}), note=why)


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
    move_delivery(connection, mine, DeliveryState.PENDING, waits, note=why, **NO_LEASE)


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

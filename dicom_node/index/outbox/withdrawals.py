"""Results that hold no longer: replaced by a later one, or withdrawn by a correction or a person.

What a destination shows of a withdrawn result is taken back there before anything new of the study goes to it. What
is to be taken back is read from the rows, so that it is found whenever it arrived, and whatever was killed meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Subquery, and_, exists, func, insert, or_, select, update
from sqlalchemy.sql import Select

from dicom_node.analysis.context import ReportLine
from dicom_node.core.entities import Artifact, ArtifactKind, DeliveryState, ResultState, ReviewState
from dicom_node.core.lifecycle import ARRIVED, OPEN, TAKEN_BACK
from dicom_node.index.lineage import keys_of_line, line_of
from dicom_node.index.tables import artifacts, deliveries, events, instances, results
from dicom_node.index.transitions import (
    Change,
    cancel_deliveries,
    insert_delivery,
    move_delivery,
    move_result,
    record,
)
from dicom_node.index.versions import IS_IMAGE

#: Kind of the timeline's line about a result that is withdrawn.
WITHDRAWN = "withdrawn"
#: Kind of the line about a destination that is gone from the settings and shows what is withdrawn.
_OUT_OF_REACH = "out-of-reach"
_UNSURE = "The result was withdrawn or replaced; whether an attempt had arrived is not known."
#: Nothing is more urgent than to take back what is wrong.
_FIRST = 0


def supersede_results(connection: Connection, job_keys: Collection[str], now: datetime) -> None:
    """Say of the results of a study's line that a later one takes their place."""
    mine = results.c.job_key.in_(job_keys)
    move_result(connection, mine, ResultState.SUPERSEDED, "A later result took its place.", Change(now))


def withdraw_results(
    connection: Connection, study_instance_uid: str, reason: str, change: Change, route: str | None = None
) -> list[str]:
    """Withdraw what holds of a study's results, of one route or of all, and owe their objects no more.

    What a later result has replaced goes too, under whatever name its route has now: destinations still show it.
    `change` has the actor and the line of the timeline. Returns the job keys of what was withdrawn.
    """
    mine = results.c.study_instance_uid == study_instance_uid
    which = mine if route is None else results.c.job_key.in_(_keys_of_route(connection, study_instance_uid, route))
    withdrawn = move_result(connection, which, ResultState.WITHDRAWN, reason, change)
    if withdrawn:
        end_unsent(connection, deliveries.c.job_key.in_(withdrawn), change.at)
    return withdrawn


def reject_result(connection: Connection, job_key: str, reason: str, change: Change) -> None:
    """Take a result back that a reviewer has rejected, and what it had replaced, and owe their objects no more.

    What a person has verified before stays. `change` has the actor and the line of the timeline.
    """
    rejected = connection.execute(select(results).where(results.c.job_key == job_key)).one()
    line = keys_of_line(connection, rejected.study_instance_uid, line_of(rejected))
    unverified = results.c.review_state.in_((ReviewState.UNREVIEWED, ReviewState.REJECTED))
    which = and_(results.c.job_key.in_([*line, job_key]), unverified, results.c.sequence <= rejected.sequence)
    taken_back = move_result(connection, which, ResultState.REJECTED, reason, change)
    end_unsent(connection, deliveries.c.job_key.in_(taken_back), change.at)


def _keys_of_route(connection: Connection, study_instance_uid: str, route: str) -> list[str]:
    """Return the job keys of all results in the lines to which a route has contributed."""
    mine = and_(results.c.study_instance_uid == study_instance_uid, results.c.route == route)
    lines = {line_of(row) for row in connection.execute(select(results).where(mine))}
    return [key for line in lines for key in keys_of_line(connection, study_instance_uid, line)]


def withdrawals_before(connection: Connection, study_instance_uid: str, route: str) -> int:
    """Return how many results of a study and route have been withdrawn: what follows them is another result."""
    return _how_many(connection, study_instance_uid, route, ResultState.WITHDRAWN)


def rejections_before(connection: Connection, study_instance_uid: str, route: str) -> int:
    """Return how many results of a study and route reviewers have rejected: the same answer is no other result."""
    return _how_many(connection, study_instance_uid, route, ResultState.REJECTED)


def _how_many(connection: Connection, study_instance_uid: str, route: str, standing: ResultState) -> int:
    mine = and_(results.c.study_instance_uid == study_instance_uid, results.c.route == route)
    query = select(func.count()).select_from(results).where(mine, results.c.standing == standing)
    return connection.execute(query).scalar_one()


def is_withdrawn(connection: Connection, job_key: str) -> bool:
    """Tell whether nothing of a result may be sent any more but what takes it back."""
    standing = connection.execute(select(results.c.standing).where(results.c.job_key == job_key)).scalar()
    return standing in TAKEN_BACK


# --- what has not arrived ----------------------------------------------------------------------------------------


def end_unsent(connection: Connection, which: ColumnElement[bool], now: datetime) -> None:
    """Owe objects of results that hold no more no longer, but for what is on its way at this moment.

    An attempt whose end is not known may have arrived: it is kept as such, to be taken back.
    """
    query = select(deliveries, artifacts.c.kind).join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
    rows = connection.execute(query.where(which, _is_idle(now)).with_for_update(of=deliveries)).all()
    unsure = {row.id for row in rows if may_have_arrived(row)}
    for number in sorted(unsure):
        given_up = Change(now)
        move_delivery(
            connection, deliveries.c.id == number, DeliveryState.DISCARDED, given_up, may_have_arrived=True,
            note=_UNSURE,
        )  # fmt: skip
    cancel_deliveries(connection, deliveries.c.id.in_([row.id for row in rows if row.id not in unsure]))


def _is_idle(now: datetime) -> ColumnElement[bool]:
    nobody_sends = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until <= now)
    return and_(deliveries.c.state.in_(OPEN), deliveries.c.is_withdrawal.is_(False), nobody_sends)


def may_have_arrived(row: Row[Any]) -> bool:
    """Tell it of a delivery (with the `kind` of its object) that was tried and whose end is not known.

    What a PACS refused has not arrived, while of a report that an EHR refused a part may have. What was held after an
    attempt, what somebody was sending who died, and what arrived before it was sent again, may be there whatever came
    of the next attempt: the row says so. A receiver of messages may have refused a second one because it has the first.
    """
    was_tried = row.attempts > 0 or row.lease_until is not None
    was_repeated = row.kind == ArtifactKind.HL7_MESSAGE and row.attempts > 1
    is_unsure = row.state == DeliveryState.PENDING or row.kind == ArtifactKind.FHIR_BUNDLE or was_repeated
    return row.may_have_arrived or row.sent_at is not None or (was_tried and is_unsure)


# --- what has arrived and must be taken back ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """What one destination shows of the withdrawn results of one study and route, newest result first.

    `job_key` and `sequence` are those of the newest; `reason` and `at` are when and why it was withdrawn. `source_key`
    finds the bytes of an image of the study as it is now, `basis_key` those of an image as it was when the newest was
    made; empty where there is none any more. `is_last_of_study`: no other result of the study stands there.
    """

    destination: str
    study_instance_uid: str
    route: str
    model: str
    line: ReportLine
    job_key: str
    job_keys: tuple[str, ...]
    sequence: int
    reason: str
    at: datetime
    objects: tuple[Artifact, ...]
    delivery_ids: tuple[int, ...]
    source_key: str
    basis_key: str
    is_last_of_study: bool


def is_any_withdrawn(connection: Connection, destination: str, now: datetime) -> bool:
    """Tell whether anything of withdrawn or overtaken results is to be seen to at a destination."""
    unsent = select(deliveries.c.id).where(or_(_of_withdrawn(destination), _of_overtaken(destination)), _is_idle(now))
    return connection.execute(select(or_(exists(_shown(destination)), exists(unsent)))).scalar_one()


def end_unsent_at(connection: Connection, destination: str, now: datetime) -> None:
    """Give up what was on its way when its result was withdrawn, or overtaken, and did not arrive."""
    end_unsent(connection, or_(_of_withdrawn(destination), _of_overtaken(destination)), now)


def due_at(connection: Connection, destination: str) -> list[TakenBack]:
    """Return what a destination shows of withdrawn results and what nothing takes back yet."""
    grouped: dict[tuple[str, str], list[Row[Any]]] = {}
    for row in connection.execute(_shown(destination).order_by(results.c.sequence.desc(), artifacts.c.send_order)):
        grouped.setdefault((row.study_instance_uid, row.route), []).append(row)
    return [_taken_back(connection, destination, rows) for rows in grouped.values()]


def _of_withdrawn(destination: str) -> ColumnElement[bool]:
    withdrawn = select(results.c.job_key).where(results.c.standing.in_(TAKEN_BACK))
    return and_(deliveries.c.destination == destination, deliveries.c.job_key.in_(withdrawn))


def _of_overtaken(destination: str) -> ColumnElement[bool]:
    """Return the condition that a later result has taken the place of what an HL7 message tells.

    Who is sent messages keeps the one that came last, and none of them can be asked what it has: the message of an
    earlier result that was put off must not come behind that of a later one.
    """
    # Asked every second, of the few rows that wait: by their keys, and not by a list of all messages there are.
    message, result = artifacts.alias(), results.alias()
    is_message = and_(message.c.uid == deliveries.c.artifact_uid, message.c.kind == ArtifactKind.HL7_MESSAGE)
    is_replaced = and_(result.c.job_key == deliveries.c.job_key, result.c.standing == ResultState.SUPERSEDED)
    return and_(
        deliveries.c.destination == destination,
        exists(select(message.c.uid).where(is_message)),
        exists(select(result.c.job_key).where(is_replaced)),
    )


def _is_shown() -> ColumnElement[bool]:
    given_up = and_(deliveries.c.may_have_arrived, deliveries.c.state != DeliveryState.PENDING)
    arrived = or_(deliveries.c.state.in_(ARRIVED), given_up)
    return and_(arrived, deliveries.c.is_withdrawal.is_(False), deliveries.c.is_taken_back.is_(False))


def _shown(destination: str) -> Select[Any]:
    return (
        select(
            deliveries.c.id.label("delivery_id"), artifacts, results.c.study_instance_uid, results.c.route,
            results.c.model, results.c.summary, results.c.sequence, results.c.standing_reason, results.c.standing_at,
            results.c.created_at.label("made_at"),
        )
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(results.c.standing.in_(TAKEN_BACK), deliveries.c.destination == destination, _is_shown())
    )  # fmt: skip


def _taken_back(connection: Connection, destination: str, rows: Sequence[Row[Any]]) -> TakenBack:
    newest = rows[0]
    return TakenBack(
        destination=destination, study_instance_uid=newest.study_instance_uid, route=newest.route, model=newest.model,
        line=line_of(newest), job_key=newest.job_key, job_keys=tuple(dict.fromkeys(row.job_key for row in rows)),
        sequence=newest.sequence, reason=newest.standing_reason, at=newest.standing_at,
        objects=tuple(map(_artifact, rows)), delivery_ids=tuple(row.delivery_id for row in rows),
        source_key=_source_key(connection, newest.study_instance_uid, instances.c.superseded_at.is_(None)),
        basis_key=_source_key(connection, newest.study_instance_uid, _was_in_use_at(newest.made_at)),
        is_last_of_study=not _is_another_standing(connection, destination, newest.study_instance_uid),
    )  # fmt: skip


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(
        uid=row.uid, kind=ArtifactKind(row.kind), media_type=row.media_type, object_key=row.object_key,
        sha256=row.sha256, size_bytes=row.size_bytes, order=row.send_order, description=row.description,
        sop_class_uid=row.sop_class_uid, series_instance_uid=row.series_instance_uid,
    )  # fmt: skip


def _source_key(connection: Connection, study_instance_uid: str, which: ColumnElement[bool]) -> str:
    mine = and_(instances.c.study_instance_uid == study_instance_uid, IS_IMAGE)
    query = select(instances.c.object_key).where(mine, which)
    return connection.execute(query.order_by(instances.c.id.desc()).limit(1)).scalar() or ""


def _was_in_use_at(time: datetime) -> ColumnElement[bool]:
    stayed = or_(instances.c.superseded_at.is_(None), instances.c.superseded_at > time)
    return and_(instances.c.received_at <= time, stayed)


def _is_another_standing(connection: Connection, destination: str, study_instance_uid: str) -> bool:
    query = (
        select(deliveries.c.id)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(
            results.c.study_instance_uid == study_instance_uid, results.c.standing.not_in(TAKEN_BACK),
            deliveries.c.destination == destination, deliveries.c.state.in_(ARRIVED),
        )
    )  # fmt: skip
    return connection.execute(query.limit(1)).first() is not None


def owe_withdrawal(connection: Connection, taken: TakenBack, made: Sequence[Artifact], now: datetime) -> bool:
    """Owe the destination what takes back; `False` when another worker was first."""
    mine = and_(deliveries.c.id.in_(taken.delivery_ids), deliveries.c.is_taken_back.is_(False))
    held = select(deliveries.c.id).where(mine).order_by(deliveries.c.id).with_for_update()
    if len(connection.execute(held).all()) != len(taken.delivery_ids):
        return False
    connection.execute(update(deliveries).where(mine).values(is_taken_back=True))
    known = set(connection.execute(select(artifacts.c.uid).where(artifacts.c.job_key == taken.job_key)).scalars())
    for one in made:
        if one.uid not in known:
            connection.execute(insert(artifacts).values(job_key=taken.job_key, **_columns(one)))
        insert_delivery(
            connection, one.uid, taken.job_key, taken.destination, now, urgency=_FIRST, is_withdrawal=True
        )  # fmt: skip
    kinds = " and ".join(one.kind for one in made)
    text = f"{taken.destination} shows {len(taken.objects)} objects of a withdrawn result: "
    text += f"{kinds} will take them back." if made else "nothing that it takes can take them back; tell its readers."
    record(connection, taken.study_instance_uid, now, ("take-back", text), route=taken.route)
    return True


def _columns(artifact: Artifact) -> Mapping[str, object]:
    return {
        "uid": artifact.uid, "kind": artifact.kind, "media_type": artifact.media_type,
        "description": artifact.description, "sop_class_uid": artifact.sop_class_uid,
        "series_instance_uid": artifact.series_instance_uid, "object_key": artifact.object_key,
        "sha256": artifact.sha256, "size_bytes": artifact.size_bytes, "send_order": artifact.order,
    }  # fmt: skip


# --- what nobody can take back ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """What a former destination shows of the withdrawn results of a study: nobody brings it what takes them back."""

    destination: str
    study_instance_uid: str
    delivery_ids: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """What the timeline and the log say of it."""
        return (
            f"{self.destination} shows {len(self.delivery_ids)} objects of a withdrawn result and is no destination "
            "any more: tell its readers, or name a destination so again."
        )


def out_of_reach(connection: Connection, names: Collection[str]) -> list[OutOfReach]:
    """Return what destinations that are not among `names` show of withdrawn results, where nobody was told so yet."""
    query = (
        select(deliveries.c.id, deliveries.c.destination, results.c.study_instance_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(results.c.standing.in_(TAKEN_BACK), deliveries.c.destination.not_in(names), _is_shown())
    )
    found: dict[tuple[str, str], list[int]] = {}
    for row in connection.execute(query.order_by(deliveries.c.id)):
        found.setdefault((row.destination, row.study_instance_uid), []).append(row.id)
    told = select(events.c.text).where(events.c.kind == _OUT_OF_REACH)
    shown = [OutOfReach(name, study, tuple(ids)) for (name, study), ids in found.items()]
    return [
        one
        for one in shown
        if one.sentence
        not in connection.execute(told.where(events.c.study_instance_uid == one.study_instance_uid)).scalars()
    ]


def note_out_of_reach(connection: Connection, one: OutOfReach, now: datetime) -> None:
    """Say in the timeline that a former destination cannot be told."""
    line, ids = (_OUT_OF_REACH, one.sentence), list(one.delivery_ids)
    record(connection, one.study_instance_uid, now, line, destination=one.destination, delivery_ids=ids)


# --- what must wait ----------------------------------------------------------------------------------------------


def may_leave(destination: str) -> ColumnElement[bool]:
    """Return the condition that a delivery to this destination may go as far as withdrawals are concerned.

    Nothing of a withdrawn result goes; and nothing of its study, until all that the destination shows of it is taken
    back, or was refused: a withdrawal that is parked is told and holds up nothing.
    """
    return or_(deliveries.c.is_withdrawal, deliveries.c.job_key.not_in(select(_kept_back(destination))))


def _kept_back(destination: str) -> Subquery:
    """Return the job keys of withdrawn results and of what waits for the withdrawal."""
    to_do = or_(deliveries.c.state == DeliveryState.PENDING, _is_shown())
    unsettled = (
        select(results.c.study_instance_uid)
        .join(deliveries, deliveries.c.job_key == results.c.job_key)
        .where(results.c.standing.in_(TAKEN_BACK), deliveries.c.destination == destination, to_do)
    )
    waits = or_(results.c.standing.in_(TAKEN_BACK), results.c.study_instance_uid.in_(unsettled))
    return select(results.c.job_key).where(waits).subquery()

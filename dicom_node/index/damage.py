"""Which kept objects are damaged: noted when it is found, told in the study's timeline, forgotten when the right bytes
are there again. An analysis that damage has cost is then run by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, or_, select

from dicom_node.core.entities import Instance, JobState, ObjectState, StudyState
from dicom_node.core.priority import Priority, turn_at
from dicom_node.index.database import insert_of, is_among
from dicom_node.index.jobs import queue_again
from dicom_node.index.tables import artifacts, damaged_objects, instances, jobs, results, scrub_places, studies
from dicom_node.index.transitions import Change, move_study, record

#: Why a study is not analysed whose images are damaged (`core.reasons`).
SOURCE_DAMAGED = "SOURCE_DAMAGED"


class DamagedKind(StrEnum):
    """What is damaged: a received image, an object that was made of one, or a record of the journal."""

    IMAGE = "IMAGE"
    RESULT = "RESULT"
    RECORD = "RECORD"


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedObject:
    """One object that is damaged or gone, and whose it is as far as that is known."""

    object_key: str
    kind: DamagedKind
    uid: str = ""
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageCounts:
    """How many damaged objects there are of each kind."""

    images: int = 0
    results: int = 0
    records: int = 0

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.images + self.results + self.records


_LINES = {
    DamagedKind.IMAGE: "The stored file of an image is damaged or gone. Send the image again.",
    DamagedKind.RESULT: "The stored file of a result is damaged or gone; it is not sent. Analyse the study "
    "again (dicom-node rerun STUDY), which makes the same bytes; or restore the file from a backup, then: "
    "dicom-node retry STUDY",
    DamagedKind.RECORD: "An image that came is damaged, before it was filed; the study lacks it. Send it again.",
}


def damage_counts(connection: Connection) -> DamageCounts:
    """Count what is damaged."""
    query = select(damaged_objects.c.kind, func.count()).group_by(damaged_objects.c.kind)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return DamageCounts(
        images=found.get(DamagedKind.IMAGE, 0),
        results=found.get(DamagedKind.RESULT, 0),
        records=found.get(DamagedKind.RECORD, 0),
    )


def noted_damage(connection: Connection, limit: int) -> Sequence[DamagedObject]:
    """Return what is damaged, the oldest finding first."""
    rows = connection.execute(select(damaged_objects).order_by(damaged_objects.c.found_at).limit(limit))
    return [_object(row) for row in rows]


def objects_at(connection: Connection, keys: Collection[str]) -> Sequence[DamagedObject]:
    """Return what the index knows of the objects that are kept under these keys; nothing of what is being deleted."""
    images = select(instances.c.object_key, instances.c.sop_instance_uid, instances.c.study_instance_uid)
    images = images.where(_is_not_deleted(instances))
    found = [
        DamagedObject(object_key=row[0], kind=DamagedKind.IMAGE, uid=row[1], study_instance_uid=row[2])
        for row in connection.execute(images.where(instances.c.object_key.in_(keys)))
    ]
    made = select(artifacts, results.c.study_instance_uid).join(results, results.c.job_key == artifacts.c.job_key)
    made = made.where(artifacts.c.state == ObjectState.STORED, _is_not_deleted(results))
    for row in connection.execute(made.where(or_(artifacts.c.object_key.in_(keys), artifacts.c.preview_key.in_(keys)))):
        for key in {row.object_key, row.preview_key} & set(keys):
            result = DamagedKind.RESULT
            found.append(
                DamagedObject(object_key=key, kind=result, uid=row.uid, study_instance_uid=row.study_instance_uid)
            )
    return found


def _is_not_deleted(table: Any) -> ColumnElement[bool]:
    """Return that the study is not being deleted at this moment: then a file that is gone is no damage."""
    same = studies.c.study_instance_uid == table.c.study_instance_uid
    deleting: ColumnElement[bool] = exists().where(same, studies.c.deleting != "")
    return ~deleting


def note_damaged(connection: Connection, found: Sequence[DamagedObject], now: datetime) -> Sequence[DamagedObject]:
    """Note and tell what was not known to be damaged; return that. What two find at once is one's only."""
    if not found:
        return []
    # In one order, so that two that find the same wait for each other and not in a ring.
    by_key = {one.object_key: one for one in sorted(found, key=lambda one: one.object_key)}
    rows = [
        {"object_key": one.object_key, "kind": one.kind, "uid": one.uid, "found_at": now,
         "study_instance_uid": one.study_instance_uid}
        for one in by_key.values()
    ]  # fmt: skip
    noted = insert_of(connection)(damaged_objects).values(rows).on_conflict_do_nothing()
    new = [by_key[key] for key in connection.execute(noted.returning(damaged_objects.c.object_key)).scalars()]
    for one in new:
        if one.study_instance_uid:
            record(connection, one.study_instance_uid, now, ("damaged", _LINES[one.kind]), uid=one.uid)
    return new


def note_repaired(connection: Connection, keys: Collection[str], now: datetime) -> None:
    """Note that the right bytes are there again, and queue what damage has cost, once nothing of the study is damaged.

    Keys of what never was damaged change nothing.
    """
    _forget(connection, damaged_objects.c.object_key.in_(keys), now)


def note_arrived(connection: Connection, arrivals: Sequence[Instance], now: datetime) -> None:
    """Note that durable objects came: what was damaged of them is whole again, and a lost record is made good."""
    uids = {one.sop_instance_uid for one in arrivals}
    same_file = is_among(damaged_objects.c.object_key, {one.object_key for one in arrivals})
    lost_record = damaged_objects.c.kind == DamagedKind.RECORD
    _forget(connection, and_(is_among(damaged_objects.c.uid, uids), or_(same_file, lost_record)), now)


def run_again_if_whole(connection: Connection, study_instance_uid: str, now: datetime) -> None:
    """Queue the analyses that damage has cost, of a study of which no image is damaged any more."""
    _hold_studies(connection, [study_instance_uid])
    mine = and_(damaged_objects.c.study_instance_uid == study_instance_uid, damaged_objects.c.kind == DamagedKind.IMAGE)
    if connection.execute(select(damaged_objects.c.object_key).where(mine).limit(1)).first() is not None:
        return
    cost = and_(
        studies.c.study_instance_uid == study_instance_uid,
        studies.c.state != StudyState.RECEIVING,
        jobs.c.revision == studies.c.revision,
        jobs.c.state == JobState.NOT_ANALYSABLE,
        jobs.c.reason == SOURCE_DAMAGED,
    )
    query = select(jobs).join(studies, studies.c.study_instance_uid == jobs.c.study_instance_uid).where(cost)
    rows = connection.execute(query.order_by(jobs.c.id).with_for_update()).all()
    if not rows:
        return
    line = ("requeued", "Its images are whole again, so the study is analysed.")
    move_study(connection, study_instance_uid, StudyState.ANALYSING, Change(now, line))
    for row in rows:
        queue_again(connection, row, turn_at(Priority(row.priority), now), Change(now))


def forget_records(connection: Connection, receiver_id: str, names_left: Collection[str]) -> None:
    """Forget damaged records of a receiver whose copies somebody has looked at and removed."""
    mine = and_(
        damaged_objects.c.kind == DamagedKind.RECORD,
        damaged_objects.c.object_key.startswith(f"{receiver_id}/", autoescape=True),
        damaged_objects.c.object_key.not_in([f"{receiver_id}/{name}" for name in names_left]),
    )
    connection.execute(delete(damaged_objects).where(mine))


def lacks_records(connection: Connection, study_instance_uid: str) -> bool:
    """Tell whether images of the study were damaged before they were filed, and have not come again."""
    mine = and_(
        damaged_objects.c.study_instance_uid == study_instance_uid, damaged_objects.c.kind == DamagedKind.RECORD
    )
    return connection.execute(select(damaged_objects.c.object_key).where(mine).limit(1)).first() is not None


def _forget(connection: Connection, which: Any, now: datetime) -> None:
    found = connection.execute(select(damaged_objects.c.study_instance_uid).where(which)).scalars().all()
    if not found:
        return
    _hold_studies(connection, found)
    gone = delete(damaged_objects).where(which).returning(damaged_objects.c.study_instance_uid, damaged_objects.c.uid)
    told = {(row.study_instance_uid, row.uid) for row in connection.execute(gone) if row.study_instance_uid}
    for study, uid in sorted(told):
        record(connection, study, now, ("repaired", "What was damaged is whole again."), uid=uid)
    for study in sorted({study for study, _ in told}):
        run_again_if_whole(connection, study, now)


def _hold_studies(connection: Connection, uids: Collection[str]) -> None:
    """Let others who mend the same studies wait until this transaction has ended: the last of them finds them whole."""
    uid = studies.c.study_instance_uid
    connection.execute(select(uid).where(uid.in_(uids)).order_by(uid).with_for_update()).all()


def _object(row: Row[Any]) -> DamagedObject:
    return DamagedObject(
        object_key=row.object_key, kind=DamagedKind(row.kind), uid=row.uid, study_instance_uid=row.study_instance_uid
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptObject:
    """An object with its files; `place` is where a search goes on that has looked at it."""

    place: str
    keys: tuple[str, ...]
    size_bytes: int


def after_place(connection: Connection, kind: DamagedKind, limit: int) -> Sequence[KeptObject]:
    """Return the next objects of a kind, images or results; none: the round through them has ended."""
    mine = select(scrub_places.c.place).where(scrub_places.c.kind == kind)
    place = connection.execute(mine).scalar() or ""
    if kind is DamagedKind.IMAGE:
        images = select(instances.c.id, instances.c.object_key, instances.c.size_bytes)
        next_images = images.where(instances.c.id > int(place or 0)).order_by(instances.c.id).limit(limit)
        return [
            KeptObject(place=str(row.id), keys=(row.object_key,), size_bytes=row.size_bytes)
            for row in connection.execute(next_images)
        ]
    kept = artifacts.c.state == ObjectState.STORED
    made = select(artifacts).where(artifacts.c.uid > place, kept).order_by(artifacts.c.uid).limit(limit)
    return [
        KeptObject(
            place=row.uid, keys=tuple(filter(None, (row.object_key, row.preview_key))), size_bytes=row.size_bytes
        )
        for row in connection.execute(made)
    ]


def move_place(connection: Connection, kind: DamagedKind, place: str, now: datetime) -> None:
    """Note how far the search has come; an empty place ends a round."""
    ended = {} if place else {"round_ended_at": now}
    row = {"kind": kind, "place": place, **ended}
    statement = insert_of(connection)(scrub_places).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["kind"], set_={"place": place, **ended}))


def round_ended_at(connection: Connection) -> datetime | None:
    """Return since when every object there was then is known to be whole or noted; `None` before the first round."""
    ended = connection.execute(select(scrub_places.c.kind, scrub_places.c.round_ended_at)).all()
    times = [row.round_ended_at for row in ended if row.round_ended_at is not None]
    return min(times) if len(times) == len(DamagedKind) - 1 else None

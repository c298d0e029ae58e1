"""Deletion of a study's images or results, step by step, so that it can be killed between any two of them.

It is noted first, with what there is and by which rule (`mark`). Then files go, a few at a time: `next_files` notes how
far, in a transaction before the one in which they are removed, so that a file is never missing of which no row says
so. When all are gone, and durably so, the rows shrink (`shrink`). Every step holds the study's row, as arrivals do: an
image that comes meanwhile finds a deletion that it stops, and whoever deletes finds that it was stopped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, or_, select, update

from dicom_node.core.entities import DeletionState, KeptKind, ObjectState
from dicom_node.core.principal import NODE, Principal
from dicom_node.core.retention.rules import StudyFacts, why_it_stays
from dicom_node.index.database import is_among
from dicom_node.index.drift.recording import forget_features
from dicom_node.index.lineage import LINE
from dicom_node.index.retention.facts import DELETED, facts_of
from dicom_node.index.tables import artifacts, damaged_objects, deletions, instances, results, studies
from dicom_node.index.transitions import Change, end_deletion, mark_deletion, move_objects
from dicom_node.index.versions import IS_SOURCE

_NAME_LENGTH = 128
#: Rows that go in one transaction.
_ROWS_AT_ONCE = 500
#: What of a result's summary says which result it was, and nothing about the patient.
_STAYS_TOLD = (LINE, "state", "mark", "node_version", "finished_at", "reason", "message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What is deleted, or was, of a study: `kind`, by which `rule`, by whom, how much; `detail` says it in parts."""

    number: int
    study_instance_uid: str
    kind: KeptKind
    state: DeletionState
    rule: str
    actor: str
    objects: int
    size_bytes: int
    detail: Mapping[str, Any]
    marked_at: datetime
    ended_at: datetime | None

    @property
    def in_words(self) -> str:
        """What status, API and page say of it."""
        what, by = self.kind.lower(), "" if self.actor == NODE.name else f", asked for by {self.actor}"
        of = f"{self.objects} objects, {self.size_bytes / 1_000_000:,.1f} MB"
        if self.state is DeletionState.MARKED:
            return f"Its {what} are being deleted by rule {self.rule}{by}: {of}."
        when = f"{self.ended_at or self.marked_at:%Y-%m-%d %H:%M} UTC"
        if self.state is DeletionState.STOPPED:
            return f"The deletion of its {what} by rule {self.rule}{by} was stopped on {when}: images came."
        return f"Its {what} were deleted on {when} by rule {self.rule}{by}: {of}."


def deletions_of(connection: Connection, study_instance_uid: str) -> list[Deletion]:
    """Return what was deleted of a study, oldest first."""
    mine = deletions.c.study_instance_uid == study_instance_uid
    return [_deletion(row) for row in connection.execute(select(deletions).where(mine).order_by(deletions.c.id))]


def under_way(connection: Connection) -> list[Deletion]:
    """Return the deletions that were begun and have not ended, whoever began them."""
    query = select(deletions).where(deletions.c.state == DeletionState.MARKED).order_by(deletions.c.id)
    return [_deletion(row) for row in connection.execute(query)]


def _deletion(row: Row[Any]) -> Deletion:
    return Deletion(
        number=row.id, study_instance_uid=row.study_instance_uid, kind=KeptKind(row.kind),
        state=DeletionState(row.state), rule=row.rule, actor=row.actor, objects=row.objects,
        size_bytes=row.size_bytes, detail=row.detail, marked_at=row.marked_at, ended_at=row.ended_at,
    )  # fmt: skip


# --- noted ---------------------------------------------------------------------------------------------------------


def mark(
    connection: Connection, seen: StudyFacts, kind: KeptKind, by: tuple[str, Principal], now: datetime
) -> Deletion | None:
    """Note that a study's images or results are being deleted, `by` which rule and by whom; `None` where something has
    happened to it since it was `seen`, or keeps it now."""
    uid, (rule, actor) = seen.study_instance_uid, by
    _hold(connection, uid)
    facts = facts_of(connection, [uid]).get(uid)
    if facts is None or facts.last_active_at != seen.last_active_at or why_it_stays(facts, kind) is not None:
        return None
    detail = _images_in_words(connection, uid) if kind is KeptKind.IMAGES else _results_in_words(connection, uid)
    number = mark_deletion(
        connection, uid, kind, now, rule=rule, actor=actor.name[:_NAME_LENGTH], size_bytes=facts.bytes_of(kind),
        objects=facts.images if kind is KeptKind.IMAGES else facts.results, detail=detail,
    )  # fmt: skip
    return _deletion(connection.execute(select(deletions).where(deletions.c.id == number)).one())


def _images_in_words(connection: Connection, uid: str) -> dict[str, Any]:
    """Return how many images of the study were in use, and its series: no values that peers wrote."""
    mine = instances.c.study_instance_uid == uid
    columns = (instances.c.series_instance_uid, instances.c.role)
    query = select(*columns, func.count().label("objects"), func.sum(instances.c.size_bytes).label("size_bytes"))
    series = [
        {"series_instance_uid": row.series_instance_uid, "role": row.role, "objects": row.objects,
         "size_bytes": int(row.size_bytes)}
        for row in connection.execute(query.where(mine).group_by(*columns).order_by(*columns))
    ]  # fmt: skip
    return {"images": _images_in_use(connection, uid), "series": series}


def _results_in_words(connection: Connection, uid: str) -> dict[str, Any]:
    kinds: defaultdict[str, int] = defaultdict(int)
    for row in connection.execute(select(artifacts.c.kind).where(_is_kept_of(uid))):
        kinds[row.kind] += 1
    return {"kinds": dict(kinds)}


def _images_in_use(connection: Connection, uid: str) -> int:
    mine = and_(instances.c.study_instance_uid == uid, IS_SOURCE)
    return int(connection.execute(select(func.count()).select_from(instances).where(mine)).scalar_one())


# --- file by file --------------------------------------------------------------------------------------------------


def removable(connection: Connection, deletion: Deletion) -> list[str]:
    """Return the keys of the files that earlier steps, perhaps of a process that died, were to remove."""
    return [key for _, key in _files(connection, deletion, _place_of(connection, deletion), None)]


def next_files(connection: Connection, deletion: Deletion, limit: int) -> list[str] | None:
    """Note that the next files go, and return their keys: to be removed in a later transaction, which holds the study
    by `is_wanted`. An empty list: there are none left. `None`: the deletion was stopped."""
    if not is_wanted(connection, deletion):
        return None
    files = _files(connection, deletion, _place_of(connection, deletion), limit)
    if files:
        place = str(files[-1][0])
        connection.execute(update(deletions).where(deletions.c.id == deletion.number).values(place=place))
    return [key for _, key in files]


def is_wanted(connection: Connection, deletion: Deletion) -> bool:
    """Hold the study, and tell whether the deletion still goes on."""
    _hold(connection, deletion.study_instance_uid)
    query = select(deletions.c.state).where(deletions.c.id == deletion.number)
    return bool(connection.execute(query).scalar_one() == DeletionState.MARKED)


def _place_of(connection: Connection, deletion: Deletion) -> str:
    query = select(deletions.c.place).where(deletions.c.id == deletion.number)
    return str(connection.execute(query).scalar_one())


def _files(connection: Connection, deletion: Deletion, place: str, limit: int | None) -> list[tuple[Any, str]]:
    """Return row and key of the files behind a place, at most of `limit` rows; without `limit`, those up to it."""
    if deletion.kind is KeptKind.IMAGES:
        column, which = instances.c.id, instances.c.study_instance_uid == deletion.study_instance_uid
        query, at = select(column, instances.c.object_key).where(which), int(place or 0)
        order = column > at if limit else column <= at
        return [(row[0], row[1]) for row in connection.execute(query.where(order).order_by(column).limit(limit))]
    made, uid = artifacts.c.uid, deletion.study_instance_uid
    query = select(made, artifacts.c.object_key, artifacts.c.preview_key).where(_is_kept_of(uid))
    rows = connection.execute(query.where(made > place if limit else made <= place).order_by(made).limit(limit)).all()
    keys = {row.uid: [str(key) for key in (row.object_key, row.preview_key) if key] for row in rows}
    others = _needed_elsewhere(connection, uid, {key for of_row in keys.values() for key in of_row})
    named = [(row.uid, key) for row in rows for key in keys[row.uid] if key not in others]
    # The last row is named whatever becomes of its files: it is how far this step goes.
    return [*named, *((row.uid, "") for row in rows[-1:])]


def _is_kept_of(uid: str) -> ColumnElement[bool]:
    mine = select(results.c.job_key).where(results.c.study_instance_uid == uid)
    return and_(artifacts.c.job_key.in_(mine), artifacts.c.state == ObjectState.STORED)


def _needed_elsewhere(connection: Connection, uid: str, keys: set[str]) -> set[str]:
    """Return the files that results of other studies have, too: equal bytes are kept once."""
    others = select(results.c.job_key).where(results.c.study_instance_uid != uid)
    kept = and_(artifacts.c.state == ObjectState.STORED, artifacts.c.job_key.in_(others))
    query = select(artifacts.c.object_key, artifacts.c.preview_key)
    named = or_(is_among(artifacts.c.object_key, keys), is_among(artifacts.c.preview_key, keys))
    return {key for row in connection.execute(query.where(kept, named)) for key in row if key in keys}


def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return which of these files some row of the index needs."""
    received = select(instances.c.object_key).where(is_among(instances.c.object_key, keys))
    kept, found = artifacts.c.state == ObjectState.STORED, set(connection.execute(received).scalars())
    for column in (artifacts.c.object_key, artifacts.c.preview_key):
        found.update(connection.execute(select(column).where(is_among(column, keys), kept)).scalars())
    return found


# --- the rows ------------------------------------------------------------------------------------------------------


def shrink(connection: Connection, deletion: Deletion, now: datetime) -> bool:
    """Let rows go whose files are gone, a part of them at a time, and with the last of them note that it is done;
    `True` when nothing is left to do."""
    if not is_wanted(connection, deletion):
        return True
    uid = deletion.study_instance_uid
    if deletion.kind is KeptKind.IMAGES:
        if _drop_images(connection, uid) == _ROWS_AT_ONCE:
            return False
    else:
        _drop_results(connection, uid)
    change = Change(now, (DELETED, _in_past(deletion)), _told(deletion), Principal(deletion.actor))
    end_deletion(connection, deletion.number, DeletionState.DELETED, change)
    if deletion.kind is KeptKind.IMAGES and not facts_of(connection, [uid])[uid].results:
        # Nothing was made of it, so nothing is left to go later.
        connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(results_deleted_at=now))
    return True


def _in_past(deletion: Deletion) -> str:
    by = "" if deletion.actor == NODE.name else f", asked for by {deletion.actor}"
    return (
        f"Its {deletion.kind.lower()} were deleted by rule {deletion.rule}{by}: {deletion.objects} objects, "
        f"{deletion.size_bytes / 1_000_000:,.1f} MB."
    )


def _told(deletion: Deletion) -> dict[str, object]:
    return {"kind": deletion.kind.value, "rule": deletion.rule, "objects": deletion.objects,
            "size_bytes": deletion.size_bytes, "deletion": deletion.number}  # fmt: skip


def _drop_images(connection: Connection, uid: str, up_to: int | None = None) -> int:
    mine = instances.c.study_instance_uid == uid
    which = mine if up_to is None else and_(mine, instances.c.id <= up_to)
    rows = connection.execute(
        select(instances.c.id, instances.c.object_key).where(which).order_by(instances.c.id).limit(_ROWS_AT_ONCE)
    ).all()
    _forget_damage(connection, [row.object_key for row in rows])
    connection.execute(delete(instances).where(is_among(instances.c.id, [row.id for row in rows] or [0])))
    return len(rows)


def _drop_results(connection: Connection, uid: str) -> None:
    """Let the objects be PURGED, and keep of what was found no more than that there was something."""
    kept = connection.execute(select(artifacts.c.object_key, artifacts.c.preview_key).where(_is_kept_of(uid))).all()
    _forget_damage(connection, [key for row in kept for key in row if key])
    move_objects(connection, _is_kept_of(uid), ObjectState.PURGED)
    forget_features(connection, uid)
    mine = select(results.c.job_key, results.c.summary).where(results.c.study_instance_uid == uid)
    for row in connection.execute(mine).all():
        told = {name: row.summary[name] for name in _STAYS_TOLD if name in row.summary}
        model = row.summary.get("model")
        named = {"model": {name: model.get(name, "") for name in ("name", "version", "digest")}} if model else {}
        left = {**told, **named, "findings": [], "notes": ["What was found was deleted with the objects."]}
        connection.execute(update(results).where(results.c.job_key == row.job_key).values(summary=left))


def _forget_damage(connection: Connection, keys: Sequence[str]) -> None:
    if keys:
        connection.execute(delete(damaged_objects).where(is_among(damaged_objects.c.object_key, keys)))


# --- a study that comes to life again --------------------------------------------------------------------------------


def come_to_life(connection: Connection, study: Row[Any], at: datetime) -> None:
    """Stop a deletion of the study, of which an object came; and let what came be all that is kept of it, where its
    images are gone. `study` is its row, held since before the object was looked for."""
    uid = study.study_instance_uid
    if study.deleting:
        mine = and_(deletions.c.study_instance_uid == uid, deletions.c.state == DeletionState.MARKED)
        row = connection.execute(select(deletions).where(mine)).one_or_none()
        if row is not None:
            _stop(connection, row, at)
    if study.images_deleted_at is not None:
        mine_only = studies.c.study_instance_uid == uid
        connection.execute(update(studies).where(mine_only).values(images_deleted_at=None, results_deleted_at=None))


def _stop(connection: Connection, row: Row[Any], at: datetime) -> None:
    """Let go of the rows whose files may be gone; the others stay as they are."""
    deletion, text = _deletion(row), "stopped: images came."
    if deletion.kind is KeptKind.IMAGES:
        gone = 0
        while dropped := _drop_images(connection, deletion.study_instance_uid, int(row.place or 0)):
            gone += dropped
        text = f"{text} {gone} of {deletion.objects} objects were gone."
    else:
        which = and_(_is_kept_of(deletion.study_instance_uid), artifacts.c.uid <= row.place)
        text = f"{text} {len(move_objects(connection, which, ObjectState.PURGED))} of {deletion.objects} were gone."
    line = (DELETED, f"The deletion of its {deletion.kind.lower()} by rule {deletion.rule} was {text}")
    end_deletion(connection, deletion.number, DeletionState.STOPPED, Change(at, line, _told(deletion)))


def lacks_deleted(connection: Connection, study_instance_uid: str) -> str:
    """Say that the study has fewer images than were deleted of it: to analyse the rest as if it were all would put half
    an answer in the place of a whole one. "" where nothing was deleted, or all came again."""
    mine = and_(deletions.c.study_instance_uid == study_instance_uid, deletions.c.kind == KeptKind.IMAGES)
    rows = connection.execute(select(deletions).where(mine).order_by(deletions.c.id)).all()
    before = max((int(row.detail.get("images", 0)) for row in rows), default=0)
    here = _images_in_use(connection, study_instance_uid) if before else 0
    if here >= before:
        return ""
    return (
        f"{before - here} of the study's {before} images were deleted here ({rows[-1].rule}), and {here} came again or "
        "anew. It is not analysed by half: send all of it. What was answered before stands."
    )


def _hold(connection: Connection, uid: str) -> None:
    """Let arrivals, and others who delete, wait until this transaction has ended."""
    mine = studies.c.study_instance_uid == uid
    connection.execute(select(studies.c.study_instance_uid).where(mine).with_for_update()).one()

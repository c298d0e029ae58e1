"""What arrives is entered here: instances, the study they belong to, and which associations carried it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from dicom_node.core.entities import Instance, InstanceRole, SendingPeer, StudyState
from dicom_node.index.damage import note_arrived
from dicom_node.index.database import insert_of
from dicom_node.index.tables import artifacts, associations, instances, jobs, studies
from dicom_node.index.timeline import record
from dicom_node.index.transitions import Change, insert_studies, move_study, supersede_waiting_jobs

#: Stands for a sender nobody remembers: the object was found in the spool after a crash.
UNKNOWN_SENDER = SendingPeer("", "", "")


class Added(StrEnum):
    """What an arrival was: new, the same bytes again, or other bytes under a known SOP Instance UID."""

    NEW = "NEW"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"


def add_instance(connection: Connection, instance: Instance) -> Added:
    """Enter one durable object; see `add_instances`."""
    return add_instances(connection, [instance])[0]


def add_instances(connection: Connection, arrivals: Sequence[Instance]) -> list[Added]:
    """Enter durable objects in the order in which they came; idempotent. Return what each of them was.

    A source image that comes late opens the study's next revision. A handful of statements, however many they are.
    """
    standing = _lock_studies(connection, arrivals)
    known = _known_versions(connection, arrivals)
    own = _own_results(connection, arrivals)
    verdicts: list[Added] = []
    rows: list[dict[str, object]] = []
    images: dict[str, list[Instance]] = {}
    for instance in arrivals:
        versions = known.setdefault(instance.sop_instance_uid, {})
        if instance.sha256 in versions:
            _remember_sender(connection, versions[instance.sha256], instance.sender)
            verdicts.append(Added.DUPLICATE)
            continue
        role = InstanceRole.OWN_RESULT if instance.sop_instance_uid in own else instance.role
        rows.append({**_row(instance), "role": role, "conflict": bool(versions)})
        verdicts.append(Added.CONFLICT if versions else Added.NEW)
        if versions:
            _record_conflict(connection, instance)
        elif role is InstanceRole.SOURCE:
            images.setdefault(instance.study_instance_uid, []).append(instance)
        versions[instance.sha256] = None
    for uid, new_images in sorted(images.items()):
        _note_arrivals(connection, standing[uid], new_images)
    if rows:
        connection.execute(insert(instances), rows)
    note_arrived(connection, arrivals, max(instance.received_at for instance in arrivals))
    return verdicts


def _lock_studies(connection: Connection, arrivals: Sequence[Instance]) -> dict[str, Any]:
    """Make sure the studies' rows are there and hold them, so that arrivals and decisions take turns; in the order of
    their UIDs, so that two receivers cannot wait for each other."""
    first = {instance.study_instance_uid: instance.received_at for instance in reversed(arrivals)}
    insert_studies(connection, first)
    held = select(studies).where(studies.c.study_instance_uid.in_(first)).order_by(studies.c.study_instance_uid)
    return {row.study_instance_uid: row for row in connection.execute(held.with_for_update())}


def _known_versions(connection: Connection, arrivals: Sequence[Instance]) -> dict[str, dict[str, Any]]:
    """Return what is there already: SOP Instance UID → sha256 → row; `None` stands for a row of this batch."""
    known: dict[str, dict[str, Any]] = {}
    found = select(
        instances.c.id, instances.c.sop_instance_uid, instances.c.sha256, instances.c.calling_ae_title
    ).where(instances.c.sop_instance_uid.in_({instance.sop_instance_uid for instance in arrivals}))
    for row in connection.execute(found):
        known.setdefault(row.sop_instance_uid, {})[row.sha256] = row
    return known


def _own_results(connection: Connection, arrivals: Sequence[Instance]) -> set[str]:
    """Recognise our own results by their UID even where a PACS has rewritten the header marks."""
    uids = {instance.sop_instance_uid for instance in arrivals}
    return set(connection.execute(select(artifacts.c.uid).where(artifacts.c.uid.in_(uids))).scalars())


def _record_conflict(connection: Connection, instance: Instance) -> None:
    record(
        connection, instance.study_instance_uid, instance.received_at,
        ("conflict", "An instance came again with other content. Both are kept; the first one stays in use."),
        sop_instance_uid=instance.sop_instance_uid,
    )  # fmt: skip


def _remember_sender(connection: Connection, version: Any, sender: SendingPeer) -> None:
    if version is not None and version.calling_ae_title == "" and sender != UNKNOWN_SENDER:
        connection.execute(update(instances).where(instances.c.id == version.id).values(**_sender_columns(sender)))


def _row(instance: Instance) -> dict[str, object]:
    columns = ("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "study_instance_uid", "series_instance_uid",
               "sha256", "size_bytes", "object_key", "received_at")  # fmt: skip
    values = {name: getattr(instance, name) for name in columns}
    return {**values, "attributes": dict(instance.attributes), **_sender_columns(instance.sender)}


def _sender_columns(sender: SendingPeer) -> dict[str, Any]:
    return {
        "calling_ae_title": sender.calling_ae_title,
        "called_ae_title": sender.called_ae_title,
        "source_host": sender.host,
    }


def _note_arrivals(connection: Connection, study: Any, images: Sequence[Instance]) -> None:
    """Bring a study up to date with new source images, which are not in the table yet."""
    uid, at = study.study_instance_uid, images[0].received_at
    # Associations overtake each other between taking the time and taking the lock.
    last = max(study.last_received_at, *(image.received_at for image in images))
    values: dict[str, object] = {"last_received_at": last, "updated_at": last}
    if not _has_images(connection, uid):
        record(connection, uid, at, ("received", "The first image arrived."), **_sender_columns(images[0].sender))
        values["first_received_at"] = at
    if _is_late(connection, study):
        line = ("revision", f"A late image opened revision {study.revision + 1}.")
        late = Change(at, line, {"sop_instance_uid": images[0].sop_instance_uid})
        values |= {"revision": study.revision + 1, "first_received_at": at}
        move_study(connection, uid, StudyState.RECEIVING, late, **values)
        supersede_waiting_jobs(connection, uid, at)
    else:
        connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(**values))


def _has_images(connection: Connection, uid: str) -> bool:
    """Tell whether the study has a source image; the search ends at the first, however large the study is."""
    image = select(instances.c.id).where(instances.c.study_instance_uid == uid, instances.c.role == InstanceRole.SOURCE)
    return connection.execute(image.limit(1)).first() is not None


def _is_late(connection: Connection, study: Any) -> bool:
    """Tell whether this revision was already cut: decided upon, or a first route has taken its images."""
    if study.state != StudyState.RECEIVING:
        return True
    cut = select(jobs.c.id).where(
        jobs.c.study_instance_uid == study.study_instance_uid, jobs.c.revision == study.revision
    )
    return connection.execute(cut).first() is not None


def known_object_keys(connection: Connection, keys: list[str]) -> set[str]:
    """Return which of these objects have a row."""
    return set(connection.execute(select(instances.c.object_key).where(instances.c.object_key.in_(keys))).scalars())


# --- associations ------------------------------------------------------------------------------------------------


def open_association(
    connection: Connection, association_id: str, receiver_id: str, carried: Sequence[Instance]
) -> None:
    """Note that an association carries the study of these instances, or count them on it."""
    study_instance_uid, at = carried[0].study_instance_uid, max(instance.received_at for instance in carried)
    statement = insert_of(connection)(associations).values(
        association_id=association_id, study_instance_uid=study_instance_uid, receiver_id=receiver_id,
        opened_at=carried[0].received_at, seen_at=at, outcome="", instances=len(carried),
        **_sender_columns(carried[0].sender),
    )  # fmt: skip
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["association_id", "study_instance_uid"],
            set_={"seen_at": at, "instances": associations.c.instances + len(carried)},
        )
    )


def close_association(connection: Connection, association_id: str, outcome: str, at: datetime) -> None:
    """Note how an association ended: released, aborted or lost."""
    mine = associations.c.association_id == association_id
    connection.execute(
        update(associations).where(mine, associations.c.closed_at.is_(None)).values(closed_at=at, outcome=outcome)
    )


def renew_associations(connection: Connection, receiver_id: str, at: datetime) -> None:
    """Say that this receiver still serves its open associations."""
    mine = and_(associations.c.receiver_id == receiver_id, associations.c.closed_at.is_(None))
    connection.execute(update(associations).where(mine).values(seen_at=at))


def forget_lost_associations(connection: Connection, receiver_id: str, stale_before: datetime, at: datetime) -> None:
    """Close what nobody serves any more: this receiver's from before its start, others' that fell silent."""
    lost = or_(associations.c.receiver_id == receiver_id, associations.c.seen_at < stale_before)
    connection.execute(
        update(associations).where(associations.c.closed_at.is_(None), lost).values(closed_at=at, outcome="lost")
    )

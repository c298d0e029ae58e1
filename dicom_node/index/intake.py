"""What reception writes: instances, the study they belong to, and which associations carried it."""

from __future__ import annotations

import importlib
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from dicom_node import lifecycle
from dicom_node.index.events import record
from dicom_node.model import Instance, InstanceRole, JobState, Sender, StudyState
from dicom_node.tables import artifacts, associations, instances, jobs, studies

#: Stands for a sender nobody remembers: the object was found in the spool after a crash.
UNKNOWN_SENDER = Sender("", "", "")


class Added(StrEnum):
    """What an arrival was: new, the same bytes again, or other bytes under a known SOP Instance UID."""

    NEW = "NEW"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"


def add_instance(connection: Connection, instance: Instance) -> Added:
    """Enter one durable object; idempotent. A source image that comes late opens the study's next revision."""
    _lock_study(connection, instance)
    versions = connection.execute(
        select(instances.c.id, instances.c.sha256, instances.c.calling_ae_title).where(
            instances.c.sop_instance_uid == instance.sop_instance_uid
        )
    ).all()
    for version in versions:
        if version.sha256 == instance.sha256:
            _remember_sender(connection, version, instance.sender)
            return Added.DUPLICATE
    role = _role(connection, instance)
    connection.execute(insert(instances).values(**_row(instance), role=role, conflict=bool(versions)))
    if versions:
        record(
            connection, instance.study_instance_uid, instance.received_at,
            ("conflict", "An instance came again with other content. Both are kept; the first one stays in use."),
            sop_instance_uid=instance.sop_instance_uid,
        )  # fmt: skip
        return Added.CONFLICT
    if role is InstanceRole.SOURCE:
        _note_arrival(connection, instance)
    return Added.NEW


def _lock_study(connection: Connection, instance: Instance) -> None:
    """Make sure the study's row is there and hold it, so that arrivals and decisions take turns."""
    uid, at = instance.study_instance_uid, instance.received_at
    insert_of = _insert_of(connection)
    connection.execute(
        insert_of(studies)
        .values(
            study_instance_uid=uid, revision=1, state=StudyState.RECEIVING, reason="",
            first_received_at=at, last_received_at=at, updated_at=at,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    connection.execute(select(studies.c.revision).where(studies.c.study_instance_uid == uid).with_for_update())


def _insert_of(connection: Connection) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT; only the dialect in use is loaded."""
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert


def _remember_sender(connection: Connection, version: Any, sender: Sender) -> None:
    if version.calling_ae_title == "" and sender != UNKNOWN_SENDER:
        connection.execute(update(instances).where(instances.c.id == version.id).values(**_sender_columns(sender)))


def _role(connection: Connection, instance: Instance) -> InstanceRole:
    """Recognise our own results by their UID even where a PACS has rewritten the header marks."""
    own = select(artifacts.c.uid).where(artifacts.c.uid == instance.sop_instance_uid)
    return InstanceRole.OWN_RESULT if connection.execute(own).first() else instance.role


def _row(instance: Instance) -> dict[str, object]:
    columns = ("sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "study_instance_uid", "series_instance_uid",
               "sha256", "size_bytes", "object_key", "received_at")  # fmt: skip
    values = {name: getattr(instance, name) for name in columns}
    return {**values, "attributes": dict(instance.attributes), **_sender_columns(instance.sender)}


def _sender_columns(sender: Sender) -> dict[str, object]:
    return {
        "calling_ae_title": sender.calling_ae_title,
        "called_ae_title": sender.called_ae_title,
        "source_host": sender.host,
    }


def _note_arrival(connection: Connection, instance: Instance) -> None:
    uid, at = instance.study_instance_uid, instance.received_at
    study = connection.execute(select(studies).where(studies.c.study_instance_uid == uid)).one()
    # Associations overtake each other between taking the time and taking the lock.
    values: dict[str, object] = {"last_received_at": max(at, study.last_received_at), "updated_at": at}
    if _is_first_image(connection, uid):
        record(connection, uid, at, ("received", "The first image arrived."), **_sender_columns(instance.sender))
        values["first_received_at"] = at
    if _is_late(connection, study):
        lifecycle.check_study(StudyState(study.state), StudyState.RECEIVING)
        values |= {"revision": study.revision + 1, "state": StudyState.RECEIVING, "reason": "", "first_received_at": at}
        record(
            connection, uid, at, ("revision", f"A late image opened revision {study.revision + 1}."),
            sop_instance_uid=instance.sop_instance_uid,
        )  # fmt: skip
        _supersede_waiting_jobs(connection, uid, at)
    connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(**values))


def _is_first_image(connection: Connection, uid: str) -> bool:
    count = select(func.count()).where(instances.c.study_instance_uid == uid, instances.c.role == InstanceRole.SOURCE)
    return connection.execute(count).scalar_one() == 1


def _is_late(connection: Connection, study: Any) -> bool:
    """Tell whether this revision was already cut: decided upon, or a first route has taken its images."""
    if study.state != StudyState.RECEIVING:
        return True
    cut = select(jobs.c.id).where(
        jobs.c.study_instance_uid == study.study_instance_uid, jobs.c.revision == study.revision
    )
    return connection.execute(cut).first() is not None


def _supersede_waiting_jobs(connection: Connection, uid: str, at: datetime) -> None:
    """Set aside what waits. A job that a worker is taking at this moment is left to `jobs.claim`, which sees it too:
    to wait for that worker here, while it waits for the study, would be a deadlock."""
    waiting = and_(jobs.c.study_instance_uid == uid, jobs.c.state == JobState.QUEUED)
    ids = connection.execute(select(jobs.c.id).where(waiting).with_for_update(skip_locked=True)).scalars().all()
    connection.execute(
        update(jobs).where(jobs.c.id.in_(ids)).values(
            state=JobState.SUPERSEDED, finished_at=at, reason="SUPERSEDED", message="A late image came."
        )
    )  # fmt: skip


# --- associations ------------------------------------------------------------------------------------------------


def open_association(
    connection: Connection, association_id: str, study_instance_uid: str, receiver_id: str, instance: Instance
) -> None:
    """Note that this association carries this study, or count one more instance on it."""
    at = instance.received_at
    insert_of = _insert_of(connection)
    statement = insert_of(associations).values(
        association_id=association_id, study_instance_uid=study_instance_uid, receiver_id=receiver_id,
        opened_at=at, seen_at=at, outcome="", instances=1, **_sender_columns(instance.sender),
    )  # fmt: skip
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["association_id", "study_instance_uid"],
            set_={"seen_at": at, "instances": associations.c.instances + 1},
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


def known_object_keys(connection: Connection, keys: list[str]) -> set[str]:
    """Return which of these objects have a row."""
    return set(connection.execute(select(instances.c.object_key).where(instances.c.object_key.in_(keys))).scalars())

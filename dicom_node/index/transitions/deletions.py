"""How deletions change their state, and made objects whose bytes they take."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from dicom_node.core.entities import DeletionState, KeptKind, ObjectState
from dicom_node.core.lifecycle import check_deletion, check_object
from dicom_node.index import notices
from dicom_node.index.tables import artifacts, deletions, studies
from dicom_node.index.transitions.notifications import notify
from dicom_node.index.transitions.steps import Change, tell


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
    tell(connection, row.study_instance_uid, change)
    if gone:
        notify(connection, notices.of_deletion(connection, number), change.at)
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

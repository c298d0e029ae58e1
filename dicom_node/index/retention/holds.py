"""Studies that a person keeps: nothing of them is deleted until they are released."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.core.principal import Principal
from dicom_node.index.database import insert_of
from dicom_node.index.decided.actions import require_reason
from dicom_node.index.retention.facts import HOLD
from dicom_node.index.tables import studies, study_holds
from dicom_node.index.transitions import record

_NAME_LENGTH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Who keeps a study, why and since when."""

    reason: str
    held_by: str
    since: datetime


def hold_of(connection: Connection, study_instance_uid: str) -> Hold | None:
    """Return who keeps a study; `None`: nobody."""
    mine = study_holds.c.study_instance_uid == study_instance_uid
    row = connection.execute(select(study_holds).where(mine)).one_or_none()
    return None if row is None else Hold(reason=row.reason, held_by=row.held_by, since=row.since)


def hold_study(connection: Connection, study_instance_uid: str, reason: str, actor: Principal, now: datetime) -> None:
    """Let nothing of a study be deleted from now on. Raises `NotFound`, and `IllegalTransition` without a reason, where
    somebody holds it already, and while it is being deleted."""
    require_reason(reason)
    deleting = _deleting(connection, study_instance_uid)
    if deleting:
        raise IllegalTransition(f"The {deleting.lower()} of {study_instance_uid} are being deleted at this moment.")
    row = {"study_instance_uid": study_instance_uid, "reason": reason.strip(), "held_by": actor.name[:_NAME_LENGTH],
           "since": now}  # fmt: skip
    entered = insert_of(connection)(study_holds).values(row).on_conflict_do_nothing()
    if connection.execute(entered.returning(study_holds.c.study_instance_uid)).first() is None:
        found = hold_of(connection, study_instance_uid)
        who = f"{found.held_by} holds it: {found.reason}" if found else "Somebody holds it."
        raise IllegalTransition(f"Study {study_instance_uid} is held already. {who}")
    text = f"{actor.name} holds the study; nothing of it is deleted. {reason.strip()}"
    record(connection, study_instance_uid, now, (HOLD, text), actor, reason=reason.strip())


def release_study(connection: Connection, study_instance_uid: str, actor: Principal, now: datetime) -> None:
    """Let the rules decide on a study again. Raises `NotFound`, and `IllegalTransition` where nobody holds it."""
    _deleting(connection, study_instance_uid)
    gone = delete(study_holds).where(study_holds.c.study_instance_uid == study_instance_uid)
    if not connection.execute(gone).rowcount:
        raise IllegalTransition(f"Nobody holds study {study_instance_uid}.")
    text = f"{actor.name} released the study; the rules of retention decide on it again."
    record(connection, study_instance_uid, now, (HOLD, text), actor)


def _deleting(connection: Connection, study_instance_uid: str) -> str:
    """Hold the study's row, and return what of it is being deleted, "" for nothing. Raises `NotFound`."""
    query = select(studies.c.deleting).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"No study {study_instance_uid} has been received. Check the UID.")
    return str(row.deleting)

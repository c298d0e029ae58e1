"""How studies change their state: opened by what comes, moved by whoever works on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, select, update

from dicom_node.core.entities import StudyState
from dicom_node.core.lifecycle import check_study
from dicom_node.index import notices
from dicom_node.index.database import insert_of
from dicom_node.index.tables import studies
from dicom_node.index.transitions.notifications import notify
from dicom_node.index.transitions.steps import Change, tell


def insert_studies(connection: Connection, first_received_at: Mapping[str, datetime]) -> None:
    """Open the studies that are not there yet, by UID; in the order of their UIDs, so that two receivers queue."""
    rows = [
        {
            "study_instance_uid": uid, "revision": 1, "state": StudyState.RECEIVING, "reason": "",
            "first_received_at": at, "last_received_at": at, "updated_at": at,
        }
        for uid, at in sorted(first_received_at.items())
    ]  # fmt: skip
    connection.execute(insert_of(connection)(studies).on_conflict_do_nothing(), rows)


def move_study(
    connection: Connection, study_instance_uid: str, to: StudyState, change: Change, **columns: object
) -> None:
    """Move a study to `to`; where the change has no line of its own, the timeline says the state and the `reason`.

    Raises `IllegalTransition`.
    """
    mine = studies.c.study_instance_uid == study_instance_uid
    old = connection.execute(select(studies.c.state).where(mine).with_for_update()).scalar_one()
    check_study(StudyState(old), to)
    columns = {"reason": "", "updated_at": change.at, **columns}
    connection.execute(update(studies).where(mine).values(state=to, **columns))
    if change.line is None:
        line = ("state", f"The study is {to}. {columns['reason']}".rstrip())
        change = Change(change.at, line, {"state": to.value, **change.detail}, change.actor)
    tell(connection, study_instance_uid, change)
    if to in notices.OF_STUDY:
        notify(connection, notices.of_study(connection, notices.OF_STUDY[to], study_instance_uid), change.at)

"""The timeline: one line for each thing that happened to a study, written with the change itself, and by whom."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert

from dicom_node.core.principal import NODE, Principal
from dicom_node.index.tables import events

_LONGEST_NAME = 128


def record(
    connection: Connection,
    study_instance_uid: str,
    at: datetime,
    text: tuple[str, str],
    actor: Principal = NODE,
    **detail: object,
) -> None:
    """Add a line to a study's timeline. `text` is (kind, sentence); neither ever names the patient."""
    kind, sentence = text
    connection.execute(
        insert(events).values(
            study_instance_uid=study_instance_uid, at=at, kind=kind, text=sentence, actor=actor.name[:_LONGEST_NAME],
            detail=detail,
        )
    )  # fmt: skip

"""The timeline: one line for each thing that happened to a study, written with the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert

from dicom_node.index.tables import events


def record(
    connection: Connection, study_instance_uid: str, at: datetime, text: tuple[str, str], **detail: object
) -> None:
    """Add a line to a study's timeline. `text` is (kind, sentence); neither ever names the patient."""
    kind, sentence = text
    values: Mapping[str, object] = {
        "study_instance_uid": study_instance_uid,
        "at": at,
        "kind": kind,
        "text": sentence,
        "detail": detail,
    }
    connection.execute(insert(events).values(**values))

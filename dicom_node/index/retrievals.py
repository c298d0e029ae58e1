"""Retrievals that were asked for and have not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from dicom_node.tables import retrievals


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRetrieval:
    """What was asked of which source; `interrupted` counts the ends of the node that it has seen."""

    id: str
    source: str
    study_instance_uid: str
    series_instance_uids: tuple[str, ...]
    asked_at: datetime
    interrupted: int = 0


def remember(connection: Connection, receiver_id: str, asked: OpenRetrieval) -> None:
    """Keep a retrieval for the case that its node ends before it does."""
    connection.execute(
        insert(retrievals).values(
            id=asked.id,
            receiver_id=receiver_id,
            source=asked.source,
            study_instance_uid=asked.study_instance_uid,
            series_instance_uids=list(asked.series_instance_uids),
            asked_at=asked.asked_at,
            interrupted=asked.interrupted,
        )
    )


def forget(connection: Connection, id_: str) -> None:
    """Drop one that has ended."""
    connection.execute(delete(retrievals).where(retrievals.c.id == id_))


def interrupted(connection: Connection, receiver_id: str) -> Sequence[OpenRetrieval]:
    """Return those that this receiver's last end cut off, oldest first, that end counted."""
    mine = retrievals.c.receiver_id == receiver_id
    connection.execute(update(retrievals).where(mine).values(interrupted=retrievals.c.interrupted + 1))
    rows = connection.execute(select(retrievals).where(mine).order_by(retrievals.c.asked_at)).all()
    return [
        OpenRetrieval(
            id=row.id,
            source=row.source,
            study_instance_uid=row.study_instance_uid,
            series_instance_uids=tuple(row.series_instance_uids),
            asked_at=row.asked_at,
            interrupted=row.interrupted,
        )
        for row in rows
    ]

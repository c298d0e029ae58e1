"""What the index knows for retrievals: which have not ended, and which objects of a study are here already."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from dicom_node.index.database import is_among
from dicom_node.index.tables import instances, retrievals
from dicom_node.index.versions import IN_USE

_UIDS_PER_QUERY = 500


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


def count_present(connection: Connection, study_instance_uid: str, series_instance_uids: Collection[str] = ()) -> int:
    """Return how many objects of a study, or of these series of it, are indexed; versions of one count once."""
    of_series = instances.c.series_instance_uid.in_(series_instance_uids)
    return _count(connection, study_instance_uid, *([of_series] if series_instance_uids else []))


def count_among(connection: Connection, study_instance_uid: str, sop_instance_uids: Collection[str]) -> int:
    """Return how many of these objects are indexed as objects of this study."""
    return sum(
        _count(connection, study_instance_uid, is_among(instances.c.sop_instance_uid, batch))
        for batch in _batches(sop_instance_uids)
    )


def _count(connection: Connection, study_instance_uid: str, *conditions: ColumnElement[bool]) -> int:
    distinct = func.count(instances.c.sop_instance_uid.distinct())
    of_study = instances.c.study_instance_uid == study_instance_uid
    return int(connection.execute(select(distinct).where(of_study, IN_USE, *conditions)).scalar_one())


def _batches(uids: Collection[str]) -> Iterator[list[str]]:
    left = iter(uids)
    while batch := list(islice(left, _UIDS_PER_QUERY)):
        yield batch

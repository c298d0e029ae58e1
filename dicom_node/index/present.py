"""Which objects of a study are here: what a retrieval checks its counts against."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice

from sqlalchemy import ColumnElement, Connection, func, select

from dicom_node.tables import instances

_UIDS_PER_QUERY = 500


def count_present(connection: Connection, study_instance_uid: str, series_instance_uids: Collection[str] = ()) -> int:
    """Return how many objects of a study, or of these series of it, are indexed; versions of one count once."""
    of_series = instances.c.series_instance_uid.in_(series_instance_uids)
    return _count(connection, study_instance_uid, *([of_series] if series_instance_uids else []))


def count_among(connection: Connection, study_instance_uid: str, sop_instance_uids: Collection[str]) -> int:
    """Return how many of these objects are indexed as objects of this study."""
    return sum(
        _count(connection, study_instance_uid, instances.c.sop_instance_uid.in_(batch))
        for batch in _batches(sop_instance_uids)
    )


def _count(connection: Connection, study_instance_uid: str, *conditions: ColumnElement[bool]) -> int:
    distinct = func.count(instances.c.sop_instance_uid.distinct())
    of_study = instances.c.study_instance_uid == study_instance_uid
    return int(connection.execute(select(distinct).where(of_study, *conditions)).scalar_one())


def _batches(uids: Collection[str]) -> Iterator[list[str]]:
    left = iter(uids)
    while batch := list(islice(left, _UIDS_PER_QUERY)):
        yield batch

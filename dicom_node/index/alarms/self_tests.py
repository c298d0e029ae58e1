"""Self-test studies: which studies are ones, what became of each, and their rows taken out again.

Nothing is ever owed of one, to no destination and to nobody who hears of events: `transitions` asks `is_self_test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select, update

from dicom_node.core.entities import ObjectState
from dicom_node.index.database import insert_of
from dicom_node.index.tables import artifacts, audit_records, instances, jobs, metadata, results, self_tests, studies

_KEPT = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestProgress:
    """How far a self-test study has come: its images in the index, its state, how its analyses stand, and the objects
    that were made of it."""

    images: int
    study_state: str
    job_states: Sequence[str]
    reasons: Sequence[str]
    object_keys: Sequence[str]


def begin_self_test(connection: Connection, day: str, study_instance_uid: str, now: datetime) -> bool:
    """Claim the self-test of a day; `False`: it was begun already, by whoever."""
    row = {"day": day, "study_instance_uid": study_instance_uid, "begun_at": now, "fault": ""}
    entered = insert_of(connection)(self_tests).values(row).on_conflict_do_nothing(index_elements=["day"])
    return bool(connection.execute(entered).rowcount)


def has_begun(connection: Connection, day: str) -> bool:
    """Tell whether the self-test of a day was begun."""
    return connection.execute(select(self_tests.c.day).where(self_tests.c.day == day)).scalar() is not None


def end_self_test(connection: Connection, study_instance_uid: str, fault: str, now: datetime) -> None:
    """Note what became of it, and forget those of long ago."""
    mine = self_tests.c.study_instance_uid == study_instance_uid
    connection.execute(update(self_tests).where(mine).values(ended_at=now, fault=fault))
    connection.execute(delete(self_tests).where(self_tests.c.begun_at < now - _KEPT))


def self_test_progress(connection: Connection, study_instance_uid: str) -> SelfTestProgress:
    """Return how far it has come."""
    asked = (instances.c.id, studies.c.state, jobs.c.state, jobs.c.reason)
    queries = [select(column).where(column.table.c.study_instance_uid == study_instance_uid) for column in asked]
    found = [list(connection.execute(query).scalars()) for query in queries]
    made = artifacts.join(results, artifacts.c.job_key == results.c.job_key)
    kept = (results.c.study_instance_uid == study_instance_uid, artifacts.c.state == ObjectState.STORED)
    keys = list(connection.execute(select(artifacts.c.object_key).select_from(made).where(*kept)).scalars())
    return SelfTestProgress(
        images=len(found[0]), study_state=str(found[1][0]) if found[1] else "", job_states=found[2],
        reasons=[one for one in found[3] if one], object_keys=keys,
    )  # fmt: skip


def left_self_tests(connection: Connection, begun_before: datetime) -> Sequence[str]:
    """Return the self-test studies that have ended, or must have by now, and of which there are rows: of a process that
    died, or images that came late."""
    is_over = or_(self_tests.c.ended_at.is_not(None), self_tests.c.begun_at < begun_before)
    query = select(studies.c.study_instance_uid).join(
        self_tests, self_tests.c.study_instance_uid == studies.c.study_instance_uid
    )
    return list(connection.execute(query.where(is_over)).scalars())


def remove_self_test(connection: Connection, study_instance_uid: str) -> Sequence[str]:
    """Take every row of a self-test study out, but those of the audit trail; return the keys of its files."""
    of_study = select(results.c.job_key).where(results.c.study_instance_uid == study_instance_uid)
    received = select(instances.c.object_key).where(instances.c.study_instance_uid == study_instance_uid)
    made = select(artifacts.c.object_key, artifacts.c.preview_key).where(artifacts.c.job_key.in_(of_study))
    keys = {key for query in (received, made) for row in connection.execute(query) for key in row if key}
    for table in reversed(metadata.sorted_tables):  # those that refer to others first
        if table in (self_tests, audit_records):
            continue
        if "study_instance_uid" in table.c:
            connection.execute(delete(table).where(table.c.study_instance_uid == study_instance_uid))
        elif "job_key" in table.c:
            connection.execute(delete(table).where(table.c.job_key.in_(of_study)))
    return sorted(keys)

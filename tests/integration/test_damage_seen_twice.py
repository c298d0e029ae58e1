"""Several processes find the same damage, or its end, at one moment: it is told once, and no study is left behind."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from dicom_node.core.entities import JobState, StudyState
from dicom_node.core.uids import derived_uid
from dicom_node.index.damage import SOURCE_DAMAGED, DamagedKind, DamagedObject, note_damaged, note_repaired
from dicom_node.index.database import Database
from dicom_node.index.tables import events, jobs, studies
from tests.support.beside_each_other import beside_each_other
from tests.support.results.arrivals import STUDY, after, arrive, cut_study, instance

NAMES = [str(number) for number in range(20)]


def of(name: str, study: str = STUDY) -> DamagedObject:
    return DamagedObject(object_key=f"ab/{name}.dcm", kind=DamagedKind.IMAGE, uid=name, study_instance_uid=study)


def told(index: Database, kind: str) -> list[str]:
    with index.read() as connection:
        rows = connection.execute(select(events).where(events.c.kind == kind)).all()
    return sorted(row.detail["uid"] for row in rows)


def test_damage_that_two_find_is_told_once_and_its_end_too(index: Database) -> None:
    arrive(index, instance("whole"))

    def find(connection: Connection, name: str) -> None:
        note_damaged(connection, [of(name)], after(1))

    def mend(connection: Connection, name: str) -> None:
        note_repaired(connection, [of(name).object_key], after(2))

    beside_each_other(index, NAMES, find, find)
    assert told(index, "damaged") == sorted(NAMES)
    beside_each_other(index, NAMES, mend, mend)
    assert told(index, "repaired") == sorted(NAMES)


def test_a_study_whose_last_two_damaged_images_become_whole_at_once_is_analysed(index: Database) -> None:
    for name in NAMES:
        study = derived_uid("study", name)
        arrive(index, instance(name, study=study))
        cut_study(index, study=study)
        with index.write() as connection:
            note_damaged(connection, [of(f"{name}-{half}", study) for half in "ab"], after(1))
    with index.write() as connection:  # as the runner leaves them
        connection.execute(update(jobs).values(state=JobState.NOT_ANALYSABLE, reason=SOURCE_DAMAGED))
        connection.execute(update(studies).values(state=StudyState.NOT_ANALYSED))

    def first(connection: Connection, name: str) -> None:
        note_repaired(connection, [of(f"{name}-a").object_key], after(2))

    def second(connection: Connection, name: str) -> None:
        note_repaired(connection, [of(f"{name}-b").object_key], after(2))

    beside_each_other(index, NAMES, first, second)
    with index.read() as connection:
        assert set(connection.execute(select(jobs.c.state)).scalars()) == {JobState.QUEUED}

"""What the worklist notes of studies, and by which numbers they are found: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, update

from dicom_node.core.entities import (
    DecisionState,
    Instance,
    JobState,
    OrderContext,
    OrderNumber,
    PatientNumber,
    ResultState,
    ReviewState,
)
from dicom_node.core.priority import Priority
from dicom_node.core.search_key import SearchKeys
from dicom_node.core.uids import derived_uid
from dicom_node.headers.demographics import Demographics
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.received.orders import keep_order
from dicom_node.index.received.patient_corrections import PatientChange, follow_patient
from dicom_node.index.received.patients import number_of_study
from dicom_node.index.received.worklist import unlisted_count
from dicom_node.index.tables import instances, jobs, results, reviews, study_keys
from dicom_node.index.transitions import Change, insert_result, insert_review, move_job, move_result, move_review
from dicom_node.index.views import kept_objects
from dicom_node.index.views.kept_objects import KeptStudies
from dicom_node.index.views.waiting import waiting
from dicom_node.index.views.worklist import search
from dicom_node.index.views.worklist.filter import ReviewWanted, WorklistFilter
from dicom_node.index.views.worklist.studies import place_of, worklist
from dicom_node.jobs.worklist import WorklistSweep
from tests.support.results.arrivals import START, STUDY, after, arrive, cut_study, instance

KEYS = SearchKeys(b"secret")
HOSP = "HOSP"
ATTRIBUTES = {
    "modality": "CT", "station_name": "CT-EAST", "study_description": "CT Thorax", "study_date": "20260314",
    "accession_number": "ACC 1", "requested_procedure_priority": "STAT",
}  # fmt: skip
STAT_XR = derived_uid("another-study")


def nobody(paths: Sequence[Path]) -> list[Demographics | None]:
    return [None for _ in paths]


def swept(index: Database, keys: SearchKeys = KEYS, read: object = nobody) -> None:
    WorklistSweep(index, keys, HOSP, Path, read).run()  # type: ignore[arg-type]


def image(study: str = STUDY, patient: PatientNumber | None = None, name: str = "1", **attributes: str) -> Instance:
    one = instance(name, study=study, series=f"{study}-1", attributes=ATTRIBUTES | attributes)
    return replace(one, patient=patient)


def found(index: Database, text: str, keys: SearchKeys = KEYS) -> set[str]:
    with index.read() as connection:
        return search.named(connection, keys, text, HOSP)


def listed(index: Database, limit: int = 50, **wanted: object) -> list[str]:
    with index.read() as connection:
        return [one.study.study_instance_uid for one in worklist(connection, limit, WorklistFilter(**wanted))]  # type: ignore[arg-type]


def test_a_study_is_found_by_its_numbers_as_they_mean_the_same_and_by_no_part_of_them(index: Database) -> None:
    arrive(index, image(patient=PatientNumber("PAT-4711", "HOSP"), accession_number="ACC 1"))
    assert found(index, "PAT-4711") == set(), "not worked out yet"
    swept(index)
    for text in ("PAT-4711", " PAT-4711 ", "ACC 1", "ACC 1\0", STUDY, derived_uid("test-instance", "1")):
        assert found(index, text) == {STUDY}, text
    for text in ("PAT-471", "acc 1", "ACC1", "4711", ""):
        assert found(index, text) == set(), text
    with index.read() as connection:
        kept = connection.execute(select(study_keys)).all()
        assert not [row for row in kept if "4711" in row.search_key or "ACC" in row.search_key]
        assert search.of_patient(connection, KEYS, "PAT-4711", "HOSP") == {STUDY}
        assert search.of_patient(connection, KEYS, "PAT-4711", "OTHER") == set(), "another's number"


def test_a_viewer_s_search_finds_a_study_by_its_accession_number_before_and_after_it_was_worked_out(
    index: Database,
) -> None:
    arrive(index, image(), image(STAT_XR, name="2", accession_number="ACC 2"))

    def by(number: str) -> list[str]:
        with index.read() as connection:
            return kept_objects.find_studies(connection, KeptStudies(accession_number=number), KEYS, 0, 10)

    assert (by("ACC 1"), by("ACC 2"), by("ACC"), by("ACC ?")) == ([STUDY], [STAT_XR], [], by("ACC*"))
    swept(index)
    with index.write() as connection:
        connection.execute(update(instances).values(attributes={}))
    assert (by("ACC 1"), by("ACC 2"), by("ACC"), by("ACC*")) == ([STUDY], [STAT_XR], [], [])


def test_a_number_that_images_give_without_issuer_is_that_of_the_node_s_authority(index: Database) -> None:
    arrive(index, image(patient=PatientNumber("7")))
    swept(index)
    with index.read() as connection:
        assert search.of_patient(connection, KEYS, "7", HOSP) == {STUDY}


def test_corrections_merges_and_orders_are_followed(index: Database) -> None:
    arrive(index, image(patient=PatientNumber("A", HOSP)))
    swept(index)
    corrected = replace(image(patient=PatientNumber("B", HOSP), accession_number="ACC 2"), sha256="0" * 64)
    arrive(index, replace(corrected, received_at=after(30)))
    swept(index)
    assert (found(index, "ACC 1"), found(index, "A")) == (set(), set())
    assert found(index, "ACC 2") == found(index, "B") == {STUDY}
    moved = (PatientNumber("B", HOSP), PatientNumber("C", HOSP))
    order = OrderContext(accession_number="RIS-9", placer=OrderNumber(value="1"), study_instance_uid=STUDY)
    with index.write() as connection:
        follow_patient(connection, PatientChange(moves=[moved], stated=[], authority=HOSP), after(40))
        keep_order(connection, order, [moved[1]], after(41))
    assert found(index, "C") == found(index, "RIS-9") == {STUDY}


def test_studies_of_before_are_worked_out_in_pieces_and_whose_they_are_is_read_from_their_objects(
    index: Database,
) -> None:
    arrive(index, image(), image(STAT_XR, name="2", modality="DX", requested_procedure_priority=""))
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0019")
    assert index.schema_version() == "0019"
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    assert sorted(listed(index)) == sorted((STUDY, STAT_XR)), "shown at once, though not sorted yet"
    asked: list[Path] = []

    def interrupted(paths: Sequence[Path]) -> list[Demographics | None]:
        asked.extend(paths)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        swept(index, read=interrupted)
    with index.read() as connection:
        assert unlisted_count(connection) == len(asked) == 2

    swept(index, read=lambda paths: [Demographics(patient_id=f"P{path.stem[:4]}") for path in paths])
    with index.read() as connection:
        assert unlisted_count(connection) == 0
        number = number_of_study(connection, STUDY, HOSP)
    assert number is not None
    assert found(index, number.value) == {STUDY}
    assert listed(index) == [STUDY, STAT_XR], "by urgency"


def test_another_secret_has_all_studies_worked_out_again(index: Database) -> None:
    arrive(index, image(patient=PatientNumber("A", HOSP)))
    swept(index)
    other = SearchKeys(b"another")
    swept(index, other)
    assert found(index, "A") == set()
    assert found(index, "A", other) == {STUDY}


def test_filters_and_pages_follow_urgency_and_time(index: Database) -> None:
    arrive(index, image(), image(STAT_XR, name="2", modality="DX", station_name="XR-1", study_date="20260401",
                                 study_description="Chest pa", requested_procedure_priority="LOW"))  # fmt: skip
    swept(index)
    everything = [STUDY, STAT_XR]
    for wanted, expected in (
        ({}, everything), ({"modality": "DX"}, [STAT_XR]), ({"modality": "X"}, []), ({"station": "CT-EAST"}, [STUDY]),
        ({"station": "CT1"}, everything), ({"urgency": Priority.STAT}, [STUDY]), ({"since": "20260320"}, [STAT_XR]),
        ({"until": "20260320"}, [STUDY]), ({"words": ("thorax", "CT")}, [STUDY]), ({"words": ("thorax", "DX")}, []),
        ({"words": ("100%",)}, []), ({"among": ()}, []), ({"model": "ct-lung-density"}, []),
    ):  # fmt: skip
        assert listed(index, **wanted) == expected, wanted
    cut_study(index)
    assert listed(index, model="ct-lung-density") == [STUDY]
    with index.read() as connection:
        first = worklist(connection, 1, WorklistFilter())
        behind = worklist(connection, 5, WorklistFilter(behind=place_of(first[0])))
    assert [one.study.study_instance_uid for one in (*first, *behind)] == everything


def a_result(index: Database, key: str, **columns: object) -> None:
    with index.write() as connection:
        insert_result(
            connection, key, JobState.DONE, after(70), study_instance_uid=STUDY, revision=1, route="chest-ct",
            model="ct-lung-density", sequence=1, summary={"findings": []}, **columns,
        )  # fmt: skip


def decided(index: Database, key: str, what: ReviewState, state: DecisionState = DecisionState.DECIDED) -> int:
    who = dict.fromkeys(("reviewer_account", "reviewer_organization", "reviewer_identifier", "text", "digest"), "")
    with index.write() as connection:
        return insert_review(
            connection, key, state, Change(after(80)), study_instance_uid=STUDY, revision=1, route="chest-ct",
            model="ct-lung-density", review_state=what, reasons=[], findings=[], reviewer_name="Weiss^Anna", **who,
        )  # fmt: skip


def reviewed_by(index: Database) -> tuple[str, str, bool, bool]:
    """Return what the worklist says of the study's review, and whether it is among those that need one and had one."""
    with index.read() as connection:
        ((line,),) = [one.routes for one in worklist(connection, 5, WorklistFilter())]
    needs, had = (listed(index, review=one) == [STUDY] for one in (ReviewWanted.NEEDED, ReviewWanted.DONE))
    return str(line.review), line.reviewed_by, needs, had


def test_what_a_person_said_of_a_result_is_told_and_searched_by_from_the_decision_on(index: Database) -> None:
    arrive(index, image())
    cut_study(index)
    a_result(index, "a")
    assert reviewed_by(index) == ("UNREVIEWED", "", True, False)
    number = decided(index, "a", ReviewState.MODIFIED, DecisionState.AWAITS_SECOND)
    assert reviewed_by(index) == ("UNREVIEWED", "", True, False), "the second reader has not confirmed it"
    with index.write() as connection:
        move_review(connection, reviews.c.id == number, DecisionState.DECIDED, Change(after(81)))
    assert reviewed_by(index) == ("MODIFIED", "Weiss^Anna", False, True)
    with index.write() as connection:
        move_result(connection, results.c.job_key == "a", ResultState.SUPERSEDED, "reviewed", Change(after(82)))
    a_result(index, "b", review_state=ReviewState.MODIFIED, review_id=number)
    with index.write() as connection:
        move_review(connection, reviews.c.id == number, DecisionState.DONE, Change(after(83)), result_key="b")
    assert reviewed_by(index) == ("MODIFIED", "Weiss^Anna", False, True)


def test_who_rejected_a_result_is_told(index: Database) -> None:
    arrive(index, image())
    cut_study(index)
    a_result(index, "a")
    decided(index, "a", ReviewState.REJECTED)
    with index.write() as connection:
        move_result(connection, results.c.job_key == "a", ResultState.REJECTED, "blurred", Change(after(82)))
    assert reviewed_by(index) == ("REJECTED", "Weiss^Anna", False, True)


def test_what_waits_is_one_row_for_each_cause(index: Database) -> None:
    for number in range(3):
        study = derived_uid("waiting", str(number))
        arrive(index, image(study, name=str(number)))
        cut_study(index, study=study)
        with index.write() as connection:
            mine = jobs.c.state == JobState.QUEUED
            why = f"The worker died of {derived_uid('object', str(number))}."
            move_job(connection, mine, JobState.RUNNING, Change(after(62)))
            move_job(connection, jobs.c.state == JobState.RUNNING, JobState.FAILED, Change(after(63)), message=why)
    with index.read() as connection:
        groups = waiting(connection, START)
    assert [(one.place, one.state, one.cause, one.count) for one in groups if one.kind == "ANALYSIS"] == [
        ("chest-ct", "FAILED", "The worker died of ….", 3)
    ]
    assert "rerun" in groups[0].advice
    assert len(groups[0].studies) == 3

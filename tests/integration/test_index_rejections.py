"""Images that a rejection note names are analysed no more, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Connection, Row, Table, select

from dicom_node.core.entities import Destination, Instance, InstanceRole, JobState, MediaType, ResultState, StudyState
from dicom_node.core.received.rejections import KEY_OBJECT_SELECTION, RejectionNote
from dicom_node.core.received.versions import Comparison, Difference
from dicom_node.core.uids import derived_uid
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.results import save_result
from dicom_node.index.studies import load_study
from dicom_node.index.tables import deliveries, events, results, studies
from dicom_node.index.tables import jobs as jobs_table
from dicom_node.index.versions import Added
from dicom_node.index.views.lists import list_studies
from dicom_node.ingest.intake import offline_instance
from dicom_node.ingest.versions import VersionComparer
from dicom_node.storage.spool import Spool
from tests.support.results.arrivals import STUDY, arrive, claimed, cut_study, instance, opened_database, outcome
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.rejection_notes import rejection_note

OTHER = derived_uid("other-study")
PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))


def note(*names: str, at_s: float = 90.0, study: str = STUDY, content: str = "note", elsewhere: int = 0) -> Instance:
    """Return a note that rejects images by their names."""
    named = frozenset(instance(name).sop_instance_uid for name in names)
    attributes = RejectionNote("113001", named, elsewhere).as_attributes()
    made = instance("note", at_s=at_s, study=study, series="note", content=content, role=InstanceRole.EVIDENCE)
    return replace(made, sop_class_uid=KEY_OBJECT_SELECTION, attributes=attributes)


def rows(index: Database, table: Table) -> Sequence[Row[Any]]:
    with index.read() as connection:
        return connection.execute(select(table)).all()


def lines(index: Database, kind: str) -> list[str]:
    return [row.text for row in rows(index, events) if row.kind == kind]


def uids_analysed(index: Database, uid: str = STUDY) -> set[str]:
    with index.read() as connection:
        study = load_study(connection, uid)
    assert study is not None
    return {one.sop_instance_uid for series in study.series for one in series.instances}


def analysed(index: Database, uid: str = STUDY) -> set[str]:
    """Return the names of the images that a study is analysed from."""
    name_of = {instance(name).sop_instance_uid: name for name in "123"}
    return {name_of[one] for one in uids_analysed(index, uid)}


def study_row(index: Database, uid: str = STUDY) -> Row[Any]:
    (row,) = [row for row in rows(index, studies) if row.study_instance_uid == uid]
    return row


def report(index: Database, *routes: str, at_s: float = 60.0) -> None:
    """Have the study analysed and reported, each route from the first series."""
    cut_study(index, routes or ("chest-ct",), at_s=at_s)
    for number, _ in enumerate(routes or ("chest-ct",)):
        job = claimed(index, at_s=at_s + 1 + number)
        with index.write() as connection:
            assert save_result(connection, job, f"key-{job.route}", outcome(job.route, at_s=at_s + 9), [PACS])


def standing(index: Database) -> dict[str, str]:
    return {row.route: row.standing for row in rows(index, results)}


def test_images_that_a_note_names_are_not_analysed(index: Database) -> None:
    arrive(index, instance("1"), instance("2"), note("1"))
    assert analysed(index) == {"2"}
    assert (study_row(index).revision, study_row(index).state) == (1, StudyState.RECEIVING)
    (line,) = lines(index, "rejected")
    assert line == (
        f"Note {note().sop_instance_uid}, Rejected for Quality Reasons (113001), sent by CT1 at 10.1.2.20, "
        "rejects 1 image: analysed no more."
    )


def test_in_whatever_order_a_batch_brings_note_and_images_they_are_rejected(index: Database) -> None:
    for batch in ([instance("1"), note("1", at_s=0), instance("2")], [note("1", at_s=0), instance("2"), instance("1")]):
        study = derived_uid("batch", batch[0].sop_instance_uid)
        moved = [replace(one, study_instance_uid=study, received_at=batch[0].received_at) for one in batch]
        fresh = [replace(one, sha256=derived_uid(study, one.sha256)[:64]) for one in moved]
        with index.write() as connection:
            add_instances(connection, fresh)
        assert analysed(index, study) == {"2"}


def test_a_note_that_comes_before_its_images_waits_for_them(index: Database) -> None:
    arrive(index, note("1", "2", at_s=0))
    assert lines(index, "rejection-note")[0].endswith("names 2 images, none of which is here.")
    arrive(index, instance("1", at_s=5), instance("3", at_s=6), instance("2", at_s=7))
    assert analysed(index) == {"3"}
    assert len(lines(index, "rejected")) == 2


def test_an_image_that_comes_late_and_is_rejected_opens_no_revision(index: Database) -> None:
    arrive(index, instance("1"), note("2", at_s=5))
    report(index)
    arrive(index, instance("2", at_s=100))
    assert (study_row(index).revision, standing(index)) == (1, {"chest-ct": ResultState.CURRENT})
    assert analysed(index) == {"1"}


def test_a_note_after_the_result_withdraws_it_and_opens_a_revision_of_the_rest(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    report(index)
    arrive(index, note("1"))
    assert (study_row(index).revision, study_row(index).state) == (2, StudyState.RECEIVING)
    assert analysed(index) == {"2"}
    assert standing(index) == {"chest-ct": ResultState.WITHDRAWN}
    assert not rows(index, deliveries)
    assert lines(index, "rejected")[0].endswith("rejects 1 image: analysed no more.")
    assert lines(index, "revision") == ["A rejection note opened revision 2."]
    (told,) = [row.detail for row in rows(index, events) if row.kind == "rejected"]
    assert told == {"revision": 2, "notes": [note().sop_instance_uid], "taken_out": 1}
    assert rows(index, results)[0].standing_reason.startswith(
        f"Images it rests on were rejected. Note {note().sop_instance_uid}, Rejected for Quality Reasons (113001)"
    )


def test_a_study_of_which_all_images_are_rejected_ends_and_says_why(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    report(index)
    arrive(index, note("1", "2"))
    study = study_row(index)
    assert (study.revision, study.state) == (2, StudyState.NOT_ANALYSED)
    assert study.reason == "No image is left in this study: rejection notes name all of them."
    with index.read() as connection:
        (shown,) = list_studies(connection, limit=5).studies
    assert (shown.modalities, shown.series, shown.instances) == (["CT"], 0, 0)
    arrive(index, instance("3", at_s=200))
    assert (study_row(index).revision, analysed(index)) == (3, {"3"})


def test_a_result_that_rests_on_another_series_stands(index: Database) -> None:
    """A note that rejects a scout takes back nothing that was measured elsewhere."""
    arrive(index, instance("1", series="1"), instance("2", series="2"))
    report(index)
    with index.read() as connection:
        found = load_study(connection, STUDY)
    assert found is not None
    used = found.series[0]
    other = next(name for name in "12" if instance(name).sop_instance_uid != used.instances[0].sop_instance_uid)
    arrive(index, note(other))
    assert standing(index) == {"chest-ct": ResultState.CURRENT}
    assert study_row(index).revision == 2


def test_the_same_note_twice_says_and_changes_nothing_more(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    report(index)
    assert arrive(index, note("1"), note("1", at_s=95)) == [Added.NEW, Added.DUPLICATE]
    assert len(lines(index, "rejected")) == len(lines(index, "withdrawn")) == 1
    assert study_row(index).revision == 2


def test_a_corrected_note_gives_back_what_it_does_not_name(index: Database) -> None:
    arrive(index, instance("1"), instance("2"), note("1", "2", at_s=5))
    assert analysed(index) == set()
    arrive(index, note("2", at_s=20, content="corrected"))
    assert analysed(index) == {"1"}
    assert "1 image that no note names any more can be analysed again." in lines(index, "rejected")[-1]


def test_what_comes_again_under_a_rejected_uid_stays_rejected(index: Database) -> None:
    arrive(index, instance("1"), instance("2"), note("1", at_s=5))
    arrive(index, instance("1", at_s=20, content="corrected"), instance("1", at_s=30))
    assert analysed(index) == {"2"}


def test_an_analysis_that_runs_while_its_images_are_rejected_is_kept_and_not_sent(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    cut_study(index)
    job = claimed(index)
    arrive(index, note("1"))
    with index.write() as connection:
        assert save_result(connection, job, "key", outcome("a", at_s=95), [PACS])
    assert standing(index) == {"chest-ct": ResultState.WITHDRAWN}
    assert not rows(index, deliveries)


def test_an_analysis_that_waits_is_set_aside(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    cut_study(index)
    arrive(index, note("1"))
    assert [job.state for job in rows(index, jobs_table)] == [JobState.SUPERSEDED]


def test_a_note_of_another_study_has_no_effect_and_is_told(index: Database) -> None:
    arrive(index, instance("1"))
    report(index)
    arrive(index, note("1", study=OTHER))
    assert (analysed(index), standing(index)) == ({"1"}, {"chest-ct": ResultState.CURRENT})
    assert lines(index, "rejection-note")[0].endswith("names 1 image, none of which is here.")


def test_images_of_other_studies_in_a_note_are_told_and_stay(index: Database) -> None:
    arrive(index, instance("1"), note(at_s=5, elsewhere=2))
    assert analysed(index) == {"1"}
    assert "names 2 images of other studies: those need a note of their own." in " ".join(
        lines(index, "rejection-note")
    )


def test_a_note_about_another_patient_has_no_effect_and_is_told(index: Database) -> None:
    arrive(index, instance("1"))
    report(index)
    found = {(instance("1").sha256, note().sha256): Difference(("PatientID",), is_other_patient=True)}
    with index.write() as connection:
        add_instances(connection, [note("1")], Comparison(found, asks=True))
    assert (analysed(index), standing(index)) == ({"1"}, {"chest-ct": ResultState.CURRENT})
    assert lines(index, "rejection-note")[0].endswith("has no effect: it is about another patient than the images.")


def test_a_note_about_results_of_this_node_says_how_they_are_taken_back(index: Database) -> None:
    arrive(index, instance("1"))
    report(index)
    made = outcome("chest-ct").artifacts[0].uid
    named = replace(note(), attributes=RejectionNote("113001", frozenset({made})).as_attributes())
    arrive(index, named)
    assert standing(index) == {"chest-ct": ResultState.CURRENT}
    assert "names 1 object made by this node: to take a result back, use `dicom-node withdraw`." in " ".join(
        lines(index, "rejection-note")
    )


@pytest.mark.parametrize(("patient_id", "left"), [("", 1), ("ANOTHER", 2)])
def test_a_note_as_it_comes_is_read_and_its_patient_is_compared_with_that_of_the_images(
    patient_id: str, left: int, tmp_path: Path
) -> None:
    images = small_chest_ct("noted")[0][:2]
    spool = Spool(tmp_path / "spool")
    with opened_database(f"sqlite:///{tmp_path / 'index.sqlite'}") as database:
        comparer = VersionComparer(database, spool)
        for one in (*images, rejection_note(images[:1], patient_id=patient_id)):
            entered = partial(_enter, filed(one, spool, tmp_path))
            assert comparer.enter(entered) == [Added.NEW]
        comparer.close()
        assert len(uids_analysed(database, str(images[0].StudyInstanceUID))) == left
        told = [*lines(database, "rejected"), *lines(database, "rejection-note")]
        assert [("another patient" in line) for line in told] == [bool(patient_id)]


def filed(dataset: Dataset, spool: Spool, folder: Path) -> Instance:
    """Bring an object into the spool, and return what its header says."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / "one.dcm", enforce_file_format=True)
    stored = spool.put([(folder / "one.dcm").read_bytes()], ".dcm")
    return replace(offline_instance(folder / "one.dcm"), object_key=stored.key, sha256=stored.sha256)


def _enter(one: Instance, connection: Connection, comparison: Comparison) -> list[Added]:
    return add_instances(connection, [one], comparison)

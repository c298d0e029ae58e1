"""The disk changes bytes behind the node's back: they become no result, are not sent; it is told and mended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.config.running import DatabaseSettings
from dicom_node.core.entities import ArtifactKind
from dicom_node.doctor.records import check_index
from dicom_node.index.damage import DamagedKind, DamagedObject, damage_counts, note_damaged, round_ended_at
from dicom_node.index.decided import actions
from dicom_node.index.tables import artifacts, damaged_objects, deliveries, instances, jobs, scrub_places, studies
from dicom_node.operate.scrub import Scrub
from tests.integration.step_by_step_node import Site, site
from tests.support.results import analysis_examples as examples
from tests.support.results.rows import SOMEBODY

IMAGES = examples.ct_volume()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "node", [{"kind": "folder", "name": "archive", "path": str(tmp_path / "archive")}]) as one:
        yield one


def overwrite_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-16] + bytes(range(16)))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = [overwrite_end, truncate, Path.unlink]


def damaged(node: Site) -> tuple[int, int]:
    with node.database.read() as connection:
        found = damage_counts(connection)
    return found.images, found.results


def file_of(node: Site, kind: ArtifactKind) -> Path:
    (row,) = [one for one in node.rows(artifacts) if one.kind == kind]
    return node.spool.path(row.object_key)


def archived(node: Site) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (node.folder.parent / "archive").iterdir()}


def ask_again(node: Site) -> None:
    with node.database.write() as connection:
        actions.rerun_study(connection, node.rows(studies)[0].study_instance_uid, None, SOMEBODY, datetime.now(UTC))
    node.settle()


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_is_refused_by_name_and_the_study_is_analysed_when_it_came_again(
    node: Site, damage: object
) -> None:
    node.receive(IMAGES)
    hurt = node.rows(instances)[2]
    damage(node.spool.path(hurt.object_key))  # type: ignore[operator]
    node.settle()

    (job,) = node.rows(jobs)
    assert (job.state, job.reason) == ("NOT_ANALYSABLE", "SOURCE_DAMAGED")
    assert hurt.sop_instance_uid in job.message
    assert [row.state for row in node.rows(studies)] == ["NOT_ANALYSED"]
    assert len(node.told("damaged")) == 1
    assert damaged(node) == (1, 0)

    node.receive(IMAGES)  # the whole study again: all but one are known, and so are the bytes of that one
    node.settle()
    (job,) = node.rows(jobs)
    assert (job.state, job.reason, damaged(node)) == ("DONE", "", (0, 0))
    assert node.spool.is_whole(hurt.object_key)
    assert len(node.rows(instances)) == len(IMAGES)
    assert node.told("repaired")


def test_a_study_waits_until_the_last_of_its_damaged_images_came_again(node: Site) -> None:
    node.receive(IMAGES)
    hurt = [node.rows(instances)[place] for place in (1, 4)]
    for row in hurt:
        overwrite_end(node.spool.path(row.object_key))
    node.settle()
    by_uid = {str(image.SOPInstanceUID): image for image in IMAGES}
    node.receive([by_uid[hurt[0].sop_instance_uid]])
    node.settle()
    assert [row.reason for row in node.rows(jobs)] == ["SOURCE_DAMAGED"]
    node.receive([by_uid[hurt[1].sop_instance_uid]])
    node.settle()
    assert [row.state for row in node.rows(jobs)] == ["DONE"]


def test_damage_that_nobody_has_seen_yet_is_mended_by_a_duplicate(node: Site) -> None:
    node.receive(IMAGES)
    hurt = node.spool.path(node.rows(instances)[0].object_key)
    whole = hurt.read_bytes()
    truncate(hurt)
    node.receive(IMAGES)
    assert hurt.read_bytes() == whole
    node.settle()
    assert [row.state for row in node.rows(jobs)] == ["DONE"]


def test_the_other_studies_go_on(node: Site) -> None:
    node.receive(IMAGES)
    overwrite_end(node.spool.path(node.rows(instances)[0].object_key))
    others = examples.ct_volume()
    for image in others:
        image.StudyInstanceUID = f"{image.StudyInstanceUID}.1"
        image.SOPInstanceUID = f"{image.SOPInstanceUID}.1"
        image.SeriesInstanceUID = f"{image.SeriesInstanceUID}.1"
    node.receive(others)
    node.settle()
    assert sorted(row.state for row in node.rows(jobs)) == ["DONE", "NOT_ANALYSABLE"]


def test_a_study_that_lost_an_image_before_it_was_filed_is_partial_until_that_came_again(node: Site) -> None:
    lost = IMAGES[0]
    study = str(lost.StudyInstanceUID)
    found = DamagedObject(
        object_key="receiver/0001-7.slot",
        kind=DamagedKind.RECORD,
        uid=str(lost.SOPInstanceUID),
        study_instance_uid=study,
    )
    with node.database.write() as connection:
        note_damaged(connection, [found], datetime.now(UTC))
    node.receive(IMAGES[1:])
    node.settle()
    node.receive([lost])
    node.settle()
    assert [(row.revision, row.study_partial) for row in node.rows(jobs)] == [(1, True), (2, False)]
    assert any("damaged before it was filed" in text for text in node.told("routed"))


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_report_is_parked_with_the_reason_and_sent_after_a_restore(
    node: Site, damage: object, tmp_path: Path
) -> None:
    node.receive(IMAGES)
    node.analyse()
    path = file_of(node, ArtifactKind.STRUCTURED_REPORT)
    shutil.copy(path, tmp_path / "backup")
    damage(path)  # type: ignore[operator]
    node.deliver()

    assert [one for one in node.kinds_of("archive") if "SR" in one] == ["SR PARKED"]
    (parked,) = [row for row in node.rows(deliveries) if row.state == "PARKED"]
    assert "rerun" in parked.note
    assert not [name for name in archived(node) if name.startswith("SR")]
    assert damaged(node) == (0, 1)

    shutil.copy(tmp_path / "backup", path)
    with node.database.write() as connection:
        actions.retry_study(connection, node.rows(studies)[0].study_instance_uid, SOMEBODY, datetime.now(UTC))
    node.deliver()
    assert (tmp_path / "backup").read_bytes() in archived(node).values()


@pytest.mark.parametrize("kind", [ArtifactKind.STRUCTURED_REPORT, ArtifactKind.SEGMENTATION])
def test_a_rerun_makes_the_lost_bytes_again_and_sends_them(node: Site, kind: ArtifactKind) -> None:
    node.receive(IMAGES)
    node.analyse()
    path = file_of(node, kind)
    whole = path.read_bytes()
    truncate(path)
    node.deliver()
    assert f"{kind} PARKED" in node.kinds_of("archive")

    ask_again(node)
    assert path.read_bytes() == whole
    assert whole in archived(node).values()
    assert damaged(node) == (0, 0)
    assert not [one for one in node.kinds_of("archive") if "PARKED" in one]


def test_a_lost_result_of_damaged_images_is_told_and_not_replaced_by_a_refusal(node: Site) -> None:
    node.receive(IMAGES)
    node.settle()
    truncate(file_of(node, ArtifactKind.STRUCTURED_REPORT))
    overwrite_end(node.spool.path(node.rows(instances)[0].object_key))
    ask_again(node)
    assert [row.state for row in node.rows(jobs)] == ["DONE"]
    assert damaged(node) == (1, 1)
    assert {row.kind for row in node.rows(damaged_objects)} == {"IMAGE", "RESULT"}


def test_a_damaged_predecessor_is_named_and_does_not_stop_its_successor(node: Site) -> None:
    node.receive(IMAGES[:-1])
    node.settle()
    (first,) = [row for row in node.rows(artifacts) if row.kind == ArtifactKind.STRUCTURED_REPORT]
    for damage in (overwrite_end, truncate, Path.unlink):
        damage(node.spool.path(first.object_key))
    node.receive(IMAGES[-1:])
    node.settle()
    (second,) = [row for row in node.rows(artifacts) if row.kind == ArtifactKind.STRUCTURED_REPORT and row != first]
    named = dcmread(node.spool.path(second.object_key)).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.uid
    assert named.SeriesInstanceUID == first.series_instance_uid


def withdrawn(node: Site) -> Dataset:
    """Take the study's result back; return the report that says so, as it was sent."""
    before = set(archived(node))
    with node.database.write() as connection:
        study = node.rows(studies)[0].study_instance_uid
        actions.withdraw_study(connection, study, ("Wrong side.", None), SOMEBODY, datetime.now(UTC))
    node.deliver()
    (name,) = [name for name in archived(node) if name not in before and name.endswith(".dcm")]
    return dcmread(BytesIO(archived(node)[name]))


@pytest.mark.parametrize("which", ["the report alone", "all objects"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_takes_damaged_objects_back_names_them_and_is_of_their_patient(
    node: Site, which: str, damage: object
) -> None:
    node.run(IMAGES)
    made = [row for row in node.rows(artifacts) if row.media_type == "application/dicom"]
    report = next(row for row in made if row.kind == ArtifactKind.STRUCTURED_REPORT)
    hurt = made if which == "all objects" else [report]
    for row in hurt:
        damage(node.spool.path(row.object_key))  # type: ignore[operator]
    told = withdrawn(node)
    (named,) = told.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (report.sop_class_uid, report.uid)
    assert (told.PatientID, told.PatientName) == (IMAGES[0].PatientID, IMAGES[0].PatientName)
    assert (told.SeriesInstanceUID, told.InstanceNumber) == (report.series_instance_uid, 2)
    assert f"({len(made)} objects" in told.ContentSequence[-1].TextValue
    assert damaged(node) == (0, len(hurt))


def test_what_takes_back_does_not_repeat_what_damage_made_of_a_name(node: Site) -> None:
    """One flipped letter leaves a report readable: only its digest tells."""
    node.run(IMAGES)
    name = str(IMAGES[0].PatientName).encode()
    for row in node.rows(artifacts):
        path = node.spool.path(row.object_key)
        path.write_bytes(path.read_bytes().replace(name, bytes([name[0] ^ 1]) + name[1:]))
    assert withdrawn(node).PatientName == IMAGES[0].PatientName


# --- the search for damage -------------------------------------------------------------------------------------------


class Clock:
    """Goes on by so much with every look."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def search(node: Site) -> Scrub:
    """Search through everything."""
    scrub = Scrub(node.database, node.spool, 1000.0, Clock(60.0))
    scrub.run()
    return scrub


def test_a_search_finds_damaged_images_and_results_and_tells_each_once(
    node: Site, caplog: pytest.LogCaptureFixture
) -> None:
    node.receive(IMAGES)
    node.settle()
    overwrite_end(node.spool.path(node.rows(instances)[3].object_key))
    truncate(file_of(node, ArtifactKind.STRUCTURED_REPORT))
    scrub = search(node)
    scrub.run()
    assert damaged(node) == (1, 1)
    assert len(node.told("damaged")) == 2
    found = [line for line in caplog.records if line.message == "damaged object found"]
    assert {(line.levelname, line.what) for line in found} == {("ERROR", "IMAGE"), ("ERROR", "RESULT")}  # type: ignore[attr-defined]
    seen = check_index(node.settings.model_copy(update={"database": database_of(node)}))
    (check,) = (one for one in seen if one.name == "kept objects")
    assert not check.ok
    assert "1 images, 1 results" in check.text


def test_a_search_goes_on_where_it_was_and_reads_no_more_than_it_may(node: Site) -> None:
    node.receive(IMAGES)
    two_images_s = 1.5 * node.rows(instances)[0].size_bytes / 2**20
    places = []
    for _ in range(3):  # with a restart between
        Scrub(node.database, node.spool, 1.0, Clock(two_images_s)).run()
        places.append(place_of(node))
    assert places == [str(node.rows(instances)[place].id) for place in (1, 3, 5)]


def test_a_large_object_is_paid_off_by_waiting(node: Site) -> None:
    node.receive(IMAGES)
    scrub = Scrub(node.database, node.spool, 1.0, Clock(0.3 * node.rows(instances)[0].size_bytes / 2**20))
    places = []
    for _ in range(5):
        scrub.run()
        places.append(place_of(node))
    first, second = (str(node.rows(instances)[place].id) for place in (0, 1))
    assert places == [first, first, first, second, second]


def test_a_file_that_was_restored_is_whole_again_and_its_study_analysed(node: Site, tmp_path: Path) -> None:
    node.receive(IMAGES)
    path = node.spool.path(node.rows(instances)[0].object_key)
    shutil.copy(path, tmp_path / "backup")
    path.unlink()
    node.settle()
    assert damaged(node) == (1, 0)
    shutil.copy(tmp_path / "backup", path)
    Scrub(node.database, node.spool, 0.0).run()
    assert damaged(node) == (0, 0)
    node.settle()
    assert [row.state for row in node.rows(jobs)] == ["DONE"]


def test_a_whole_store_has_no_finding_and_says_when_it_was_read(node: Site) -> None:
    node.receive(IMAGES)
    node.settle()
    search(node)
    assert damaged(node) == (0, 0)
    with node.database.read() as connection:
        assert round_ended_at(connection) is not None
    seen = check_index(node.settings.model_copy(update={"database": database_of(node)}))
    (check,) = (one for one in seen if one.name == "kept objects")
    assert check.ok


def database_of(node: Site) -> DatabaseSettings:
    return DatabaseSettings(url=node.database.url)


def place_of(node: Site) -> str:
    return str(next(row.place for row in node.rows(scrub_places) if row.kind == "IMAGE"))

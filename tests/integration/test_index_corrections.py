"""A version of an instance that comes later takes effect, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Row, Table, select

from dicom_node.core.entities import (
    DeliveryState,
    Destination,
    Instance,
    InstanceRole,
    JobState,
    MediaType,
    ResultState,
    SendingPeer,
    StudyState,
)
from dicom_node.core.errors import NotFound
from dicom_node.core.received.versions import Comparison, Difference, PixelVerdict
from dicom_node.core.uids import derived_uid
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.received.retrievals import count_present
from dicom_node.index.results import save_result
from dicom_node.index.studies import load_study
from dicom_node.index.tables import deliveries, events, instances, results, studies
from dicom_node.index.tables import jobs as jobs_table
from dicom_node.index.versions import Added
from dicom_node.index.views import study as study_views
from dicom_node.index.views import versions as version_views
from tests.support.results.arrivals import (
    STUDY,
    after,
    arrive,
    claim,
    claimed,
    cut_study,
    instance,
    outcome,
    sha256,
)

OTHER = derived_uid("other-study")
PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
SAME = Difference()
RENAMED = Difference(("PatientID", "PatientName"))


def rows(index: Database, table: Table) -> Sequence[Row[Any]]:
    with index.read() as connection:
        return connection.execute(select(table)).all()


def study_row(index: Database, uid: str = STUDY) -> Row[Any]:
    (row,) = [row for row in rows(index, studies) if row.study_instance_uid == uid]
    return row


def used(index: Database, uid: str = STUDY) -> list[str]:
    """Return the digests of the images that the study is analysed from."""
    with index.read() as connection:
        study = load_study(connection, uid)
    assert study is not None
    return sorted(one.sha256 for series in study.series for one in series.instances)


def lines(index: Database, kind: str, uid: str = STUDY) -> list[str]:
    return [row.text for row in rows(index, events) if row.kind == kind and row.study_instance_uid == uid]


def arrive_compared(index: Database, difference: Difference, *arrivals: Instance) -> list[Added]:
    """Enter a batch of which every version differs from every other in this."""
    every = {row.sha256 for row in rows(index, instances)} | {one.sha256 for one in arrivals}
    differences = {(old, new): difference for old in every for new in every}
    with index.write() as connection:
        return add_instances(connection, arrivals, Comparison(differences, frozenset()))


def report(index: Database, name: str = "a", at_s: float = 60.0) -> None:
    """Have the study analysed and reported."""
    cut_study(index, at_s=at_s)
    job = claimed(index, at_s=at_s + 1)
    with index.write() as connection:
        assert save_result(connection, job, f"key-{name}", outcome(name, at_s=at_s + 9), [PACS])


def standing(index: Database) -> dict[str, str]:
    return {row.job_key: row.standing for row in rows(index, results)}


def test_the_later_version_is_in_use_and_the_earlier_one_is_kept(index: Database) -> None:
    later = instance("1", at_s=5, content="other")
    assert arrive(index, instance("1"), later) == [Added.NEW, Added.CORRECTION]
    assert used(index) == [later.sha256]
    assert {row.sha256: row.superseded_at for row in rows(index, instances)} == {
        sha256("1"): after(5), later.sha256: None,
    }  # fmt: skip
    with index.read() as connection:
        assert [(s.instances, s.superseded) for s in study_views.study(connection, STUDY).series] == [(1, 1)]
        assert count_present(connection, STUDY) == 1


def test_a_correction_before_the_study_was_cut_opens_no_revision(index: Database) -> None:
    arrive(index, instance("1"), instance("1", at_s=5, content="other"))
    study = study_row(index)
    assert (study.revision, study.state, study.last_received_at) == (1, StudyState.RECEIVING, after(5))
    assert len(lines(index, "corrected")) == 1


def test_a_correction_of_a_study_that_waits_supersedes_its_job(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    arrive(index, instance("1", at_s=90, content="other"))
    study = study_row(index)
    assert (study.revision, study.state, study.first_received_at) == (2, StudyState.RECEIVING, after(90))
    assert [job.state for job in rows(index, jobs_table)] == [JobState.SUPERSEDED]
    assert claim(index, at_s=100) is None


def test_a_correction_withdraws_the_result_and_says_by_whom_and_what_changed(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    report(index)
    corrected = [instance(name, at_s=90, content=f"{name}-new") for name in ("1", "2")]
    assert arrive_compared(index, RENAMED, *corrected) == [Added.CORRECTION, Added.CORRECTION]
    assert (study_row(index).revision, study_row(index).state) == (2, StudyState.RECEIVING)
    assert standing(index) == {"key-a": ResultState.WITHDRAWN}
    assert not [row for row in rows(index, deliveries) if row.state == DeliveryState.PENDING]
    (line,) = lines(index, "corrected")
    assert line == (
        "2 images came again, corrected, sent by CT1 at 10.1.2.20. Changed: PatientID, PatientName. "
        "This opened revision 2."
    )
    (withdrawn,) = rows(index, results)
    assert "CT1 at 10.1.2.20; changed: PatientID, PatientName" in withdrawn.standing_reason


def test_other_pixels_and_another_sender_are_flagged_in_the_line_and_in_the_log(
    index: Database, caplog: pytest.LogCaptureFixture
) -> None:
    arrive(index, instance("1"))
    stranger = instance("1", at_s=9, content="other", sender=SendingPeer("EVIL", "AINODE", "10.6.6.6"))
    arrive_compared(index, Difference(pixels=PixelVerdict.CHANGED), stranger)
    (line,) = lines(index, "corrected")
    assert "sent by EVIL at 10.6.6.6. The pixels changed." in line
    assert "Another sender than before, which was CT1 at 10.1.2.20." in line
    assert [record.levelname for record in caplog.records if record.message == "images were replaced"] == ["WARNING"]


def test_the_same_images_in_another_encoding_change_nothing_and_are_told_once(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    report(index)
    compressed = [instance(name, at_s=90, content=f"{name}-jls") for name in ("1", "2")]
    assert arrive_compared(index, SAME, *compressed) == [Added.OTHER_ENCODING] * 2
    assert arrive_compared(index, SAME, *compressed) == [Added.DUPLICATE] * 2
    assert used(index) == sorted((sha256("1"), sha256("2")))
    assert (study_row(index).revision, study_row(index).state) == (1, StudyState.REPORTED)
    assert standing(index) == {"key-a": ResultState.CURRENT}
    (line,) = lines(index, "encoded")
    assert line.startswith("2 objects came again in another encoding")
    assert not lines(index, "corrected")


def test_a_correction_that_is_taken_back_takes_effect_as_well(index: Database) -> None:
    first, second = instance("1"), instance("1", at_s=10, content="other")
    arrive(index, first, second)
    back = instance("1", at_s=20)
    assert arrive(index, back) == [Added.CORRECTION]
    assert used(index) == [first.sha256]
    assert len(rows(index, instances)) == 2
    assert len(lines(index, "corrected")) == 2


def test_the_versions_of_an_image_are_shown_with_sender_and_what_changed(index: Database) -> None:
    stranger = SendingPeer("EVIL", "AINODE", "10.6.6.6")
    arrive(index, instance("1"), instance("2"))
    arrive_compared(index, SAME, instance("1", at_s=5, content="compressed"))
    arrive_compared(index, RENAMED, instance("1", at_s=9, content="renamed"))
    pixels = Difference(("StudyInstanceUID",), PixelVerdict.CHANGED)
    arrive_compared(index, pixels, instance("1", at_s=20, content="forged", sender=stranger, study=OTHER))
    with index.read() as connection:
        shown = [version_views.versions(connection, study, 10) for study in (STUDY, OTHER)]
    assert shown[0] == shown[1]
    (image,) = shown[0].instances
    first, compressed, renamed, forged = image.versions
    assert image.sop_instance_uid == instance("1").sop_instance_uid
    assert [(one.came, one.in_use) for one in image.versions] == [
        ("received", False), ("encoded", False), ("corrected", False), ("moved-here", True),
    ]  # fmt: skip
    assert [one.received_at for one in image.versions] == [after(0), after(5), after(9), after(20)]
    assert (first.changed, compressed.changed, renamed.changed) == ([], [], ["PatientID", "PatientName"])
    assert (first.flags, compressed.flags, renamed.flags) == ([], [], [])
    assert (forged.calling_ae_title, forged.source_host) == ("EVIL", "10.6.6.6")
    assert (forged.changed, forged.study_instance_uid) == (["StudyInstanceUID"], OTHER)
    assert forged.flags == ["The pixels changed.", "Another sender than before, which was CT1 at 10.1.2.20."]


def test_images_in_several_versions_are_listed_page_by_page(index: Database) -> None:
    names = ("1", "2", "3")
    arrive(index, *map(instance, names), instance("single"))
    arrive_compared(index, RENAMED, *(instance(name, at_s=9, content=f"{name}-new") for name in names))
    with index.read() as connection:
        first = version_views.versions(connection, STUDY, 2)
        rest = version_views.versions(connection, STUDY, 2, first.instances[-1].sop_instance_uid)
        with pytest.raises(NotFound):
            version_views.versions(connection, OTHER, 2)
    assert (first.total, len(first.instances), len(rest.instances)) == (3, 2, 1)
    seen = [one.sop_instance_uid for one in (*first.instances, *rest.instances)]
    assert seen == sorted(instance(name).sop_instance_uid for name in names)


def test_records_that_settle_again_after_a_crash_change_nothing(index: Database) -> None:
    """Every order in which a journal may come again after any of these had been entered."""
    first, second, third = instance("1"), instance("1", at_s=10, content="b"), instance("1", at_s=20)
    arrive(index, first, second, third)
    before = (rows(index, instances), rows(index, events), study_row(index))
    for again in ((first, second, third), (second, third), (third,), (second,), (first,)):
        assert set(arrive(index, *again)) == {Added.DUPLICATE}
    assert (rows(index, instances), rows(index, events), study_row(index)) == before


def test_a_version_that_was_overtaken_on_its_way_is_kept_and_not_used(index: Database) -> None:
    later = instance("1", at_s=10, content="later")
    arrive(index, later)
    assert arrive(index, instance("1", at_s=5, content="earlier")) == [Added.NOT_USED]
    assert used(index) == [later.sha256]
    assert len(lines(index, "unused")) == 1


def test_what_is_no_image_takes_no_images_place(index: Database) -> None:
    """A header that cannot be read makes an object evidence; so would a forged mark of the node."""
    arrive(index, instance("1"))
    broken = instance("1", at_s=9, content="broken", role=InstanceRole.EVIDENCE, attributes={})
    assert arrive(index, broken) == [Added.NOT_USED]
    assert used(index) == [sha256("1")]


def test_a_later_version_of_evidence_is_in_use_and_opens_no_revision(index: Database) -> None:
    arrive(index, instance("1"), instance("sr", role=InstanceRole.EVIDENCE))
    cut_study(index)
    again = instance("sr", at_s=90, content="other", role=InstanceRole.EVIDENCE)
    assert arrive(index, again) == [Added.CORRECTION]
    assert (study_row(index).revision, len(lines(index, "replaced"))) == (1, 1)
    with index.read() as connection:
        shown = {s.role: (s.instances, s.superseded) for s in study_views.study(connection, STUDY).series}
    assert shown[InstanceRole.EVIDENCE] == (1, 1)


def test_images_that_move_are_in_use_in_the_new_study_and_the_old_one_is_judged_without_them(index: Database) -> None:
    arrive(index, instance("1"), instance("2"), instance("9", study=OTHER))
    report(index)
    moved = instance("2", at_s=90, content="2-moved", study=OTHER)
    arrive_compared(index, Difference(("StudyInstanceUID",)), moved)
    assert (used(index), used(index, OTHER)) == ([sha256("1")], sorted((sha256("9"), moved.sha256)))
    assert (study_row(index).revision, study_row(index).state) == (2, StudyState.RECEIVING)
    assert study_row(index).last_received_at == after(90)
    assert standing(index) == {"key-a": ResultState.WITHDRAWN}
    (left,) = lines(index, "corrected")
    assert left.startswith(f"1 image belongs to study {OTHER} now, sent by CT1 at 10.1.2.20.")
    (came,) = lines(index, "moved-here", OTHER)
    assert came.startswith(f"1 image came here from study {STUDY}")


def test_a_study_whose_images_all_moved_away_ends_and_says_where_they_are(index: Database) -> None:
    arrive(index, instance("1"), instance("2"))
    report(index)
    moved = [instance(name, at_s=90, content=f"{name}-moved", study=OTHER) for name in ("1", "2")]
    arrive_compared(index, Difference(("StudyInstanceUID",)), *moved)
    study = study_row(index)
    assert (study.state, study.revision) == (StudyState.NOT_ANALYSED, 2)
    assert study.reason == f"No image is left in this study: all belong to study {OTHER} now."
    assert standing(index) == {"key-a": ResultState.WITHDRAWN}
    arrive(index, instance("1", at_s=200))
    assert (study_row(index).state, study_row(index).revision) == (StudyState.RECEIVING, 3)
    assert used(index, OTHER) == [moved[1].sha256]


def test_a_study_that_still_waits_ends_when_its_images_move_away(index: Database) -> None:
    arrive(index, instance("1"))
    arrive_compared(index, Difference(("StudyInstanceUID",)), instance("1", at_s=5, content="m", study=OTHER))
    assert (study_row(index).state, study_row(index).revision) == (StudyState.NOT_ANALYSED, 1)
    assert (study_row(index, OTHER).state, len(used(index, OTHER))) == (StudyState.RECEIVING, 1)


def test_an_answer_that_was_on_its_way_when_its_images_were_corrected_is_kept_and_not_sent(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    arrive(index, instance("1", at_s=65, content="other"))
    with index.write() as connection:
        assert save_result(connection, job, "key-a", outcome("a"), [PACS])
    assert standing(index) == {"key-a": ResultState.WITHDRAWN}
    assert rows(index, deliveries) == []
    assert study_row(index).state == StudyState.RECEIVING


def test_an_answer_that_was_on_its_way_when_a_late_image_came_is_sent(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    arrive(index, instance("2", at_s=65))
    with index.write() as connection:
        assert save_result(connection, job, "key-a", outcome("a"), [PACS])
    assert standing(index) == {"key-a": ResultState.CURRENT}
    assert rows(index, deliveries) != []


def test_an_overtaken_answer_leaves_the_one_about_the_corrected_images(index: Database) -> None:
    """Two workers: the one with the earlier images is the slower one."""
    arrive(index, instance("1"))
    cut_study(index)
    slow = claimed(index)
    arrive(index, instance("1", at_s=65, content="other"))
    report(index, "b", at_s=100)
    with index.write() as connection:
        assert save_result(connection, slow, "key-a", outcome("a", at_s=120), [PACS])
    assert standing(index) == {"key-a": ResultState.WITHDRAWN, "key-b": ResultState.CURRENT}

"""What arrives is entered into the index, on SQLite and on PostgreSQL."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Row, Table, event, select, text

import dicom_node.index.migrations
from dicom_node.core.entities import Destination, Instance, InstanceRole, JobState, MediaType, PatientNumber, StudyState
from dicom_node.core.errors import IndexUnavailable, SettingsError
from dicom_node.core.received.versions import NOT_COMPARED, Comparison, Difference, NotYetCompared, PixelVerdict
from dicom_node.core.uids import derived_uid
from dicom_node.index import jobs
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.outbox.proofs import ProofTimes, claim_unproved
from dicom_node.index.received import arrivals as intake
from dicom_node.index.received import associations
from dicom_node.index.received.arrivals import UNKNOWN_SENDER
from dicom_node.index.results import save_result
from dicom_node.index.studies import arrivals, load_study
from dicom_node.index.tables import artifacts, deliveries, events, instances, metadata, studies
from dicom_node.index.tables import jobs as jobs_table
from dicom_node.index.transitions import Change, move_study
from dicom_node.index.versions import Added
from dicom_node.index.views import study as study_views
from dicom_node.index.views.waiting import waiting
from tests.support.results.arrivals import (
    STUDY,
    after,
    arrive,
    claim,
    claimed,
    cut_study,
    instance,
    opened_database,
    outcome,
)


def rows(index: Database, table: Table) -> list[Row[Any]]:
    with index.read() as connection:
        return list(connection.execute(select(table)).all())


def the_study(index: Database) -> Row[Any]:
    (row,) = rows(index, studies)
    return row


def test_the_migration_makes_exactly_the_tables(index: Database) -> None:
    with index.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_one_the_node_starts_without_alembic(index: Database) -> None:
    folder = Path(next(iter(dicom_node.index.migrations.__path__)))
    assert ScriptDirectory(str(folder)).get_heads() == [SCHEMA_HEAD]
    assert index.schema_version() == SCHEMA_HEAD
    index.migrate()


@pytest.mark.parametrize(("version", "told"), [("0042", "newer than this program's"), ("0006", "older than this")])
def test_a_schema_of_another_version_is_told_in_a_sentence(index: Database, version: str, told: str) -> None:
    with index.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    with pytest.raises(SettingsError, match=f"The database has schema {version}, {told}"):
        index.check_schema()


def test_a_database_of_a_newer_version_is_left_alone(index: Database) -> None:
    with index.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0042'"))
    with pytest.raises(SettingsError, match="Install the version of the node that wrote it"):
        index.migrate()
    assert index.schema_version() == "0042"


def test_roles_that_start_at_once_on_an_empty_database_find_it_made(index_url: str) -> None:
    migrate = "import sys; from dicom_node.index.database import Database; Database(sys.argv[1]).migrate()"
    starting = [
        subprocess.Popen([sys.executable, "-c", migrate, index_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    told = [role.communicate(timeout=120)[1] for role in starting]
    assert [role.returncode for role in starting] == [0, 0, 0], told
    database = Database(index_url)
    assert database.schema_version() == SCHEMA_HEAD
    database.close()


def test_lines_from_before_actors_were_written_down_are_still_told(index: Database) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    arrive(index, instance("1"))
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
    old = {"uid": STUDY, "at": after(1), "kind": "told-again", "text": "The result is told again.", "detail": "{}"}
    with index.write() as connection:
        columns = "study_instance_uid, at, kind, text, detail"
        connection.execute(text(f"INSERT INTO events ({columns}) VALUES (:uid, :at, :kind, :text, :detail)"), old)
    index.migrate()
    with index.read() as connection:
        first, line = study_views.timeline(connection, STUDY)
    assert (first.kind, first.actor) == ("received", "")
    assert (line.kind, line.text, line.actor) == ("told-again", "The result is told again.", "")


def test_what_waited_before_deliveries_were_urgent_leaves_by_the_priority_of_its_job(index: Database) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    with index.write() as connection:
        pacs = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
        save_result(connection, job, "key-a", outcome("a"), [pacs])
        connection.execute(text("UPDATE jobs SET priority = 'STAT'"))
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
    index.migrate()
    assert {row.urgency for row in rows(index, deliveries)} == {0}


def test_what_was_sent_before_proof_was_asked_for_stays_sent_and_nobody_is_asked_for_it(index: Database) -> None:
    """Nobody knows what destinations have done with it since: to send it again would be wrong."""
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    with index.write() as connection:
        pacs = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
        save_result(connection, job, "key-a", outcome("a"), [pacs])
        config.attributes["connection"] = connection
        command.downgrade(config, "0011")
        connection.execute(text("UPDATE deliveries SET state = 'SENT', sent_at = created_at"))
    index.migrate()
    with index.write() as connection:
        assert claim_unproved(connection, "pacs", ProofTimes(0, 600, 1), after(10**8)) == []
    sent = rows(index, deliveries)
    assert sent
    assert {(row.state, row.warning, row.proof, row.proved_at) for row in sent} == {("SENT", None, "", None)}


def test_a_first_image_opens_the_study(index: Database) -> None:
    assert arrive(index, instance("1", at_s=5)) == [Added.NEW]
    study = the_study(index)
    assert (study.revision, study.state) == (1, StudyState.RECEIVING)
    assert study.first_received_at == study.last_received_at == after(5)


def test_the_study_comes_back_as_it_was_entered(index: Database) -> None:
    first, second = instance("1", at_s=1), instance("2", at_s=2, series="2")
    arrive(index, first, second)
    with index.read() as connection:
        study = load_study(connection, STUDY)
    assert study is not None
    assert sorted((i for s in study.series for i in s.instances), key=lambda i: i.received_at) == [first, second]
    assert (study.first_received_at, study.last_received_at) == (after(1), after(2))


def test_the_same_bytes_again_change_nothing(index: Database) -> None:
    assert arrive(index, instance("1"), instance("1", at_s=9)) == [Added.NEW, Added.DUPLICATE]
    assert len(rows(index, instances)) == 1
    assert the_study(index).last_received_at == after(0)


def test_the_same_bytes_after_the_result_open_no_revision(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    assert arrive(index, instance("1", at_s=90)) == [Added.DUPLICATE]
    assert (the_study(index).revision, the_study(index).state) == (1, StudyState.COMPLETE)
    assert claim(index, at_s=100) is not None
    assert claim(index, at_s=100) is None


def test_a_late_image_opens_the_next_revision_and_supersedes_what_waits(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    arrive(index, instance("2", at_s=90))
    study = the_study(index)
    assert (study.revision, study.state, study.first_received_at) == (2, StudyState.RECEIVING, after(90))
    (job,) = rows(index, jobs_table)
    assert (job.state, job.finished_at) == (JobState.SUPERSEDED, after(90))
    assert claim(index, at_s=100) is None


@pytest.mark.parametrize("state", [JobState.DONE, JobState.NOT_ANALYSABLE, JobState.FAILED])
def test_a_late_image_reopens_a_finished_study(index: Database, state: JobState) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    with index.write() as connection:
        assert save_result(connection, job, "k", outcome(state=state), ())
    arrive(index, instance("2", at_s=90))
    assert (the_study(index).revision, the_study(index).state) == (2, StudyState.RECEIVING)


def test_an_image_after_the_first_route_has_taken_its_images_opens_a_revision(index: Database) -> None:
    """Routes may wait differently long: the study is still RECEIVING when the quicker route has cut its job."""
    from dicom_node.index.studies import NewJob, add_jobs  # noqa: PLC0415

    arrive(index, instance("1"))
    with index.write() as connection:
        study = load_study(connection, STUDY, lock=True)
        assert study is not None
        quick = NewJob(route="quick", model="m", series_instance_uid="", study_partial=False, decision={}, reason="r")
        add_jobs(connection, study, [quick], after(10))
    arrive(index, instance("2", at_s=11))
    assert the_study(index).revision == 2


@pytest.mark.parametrize("role", [InstanceRole.EVIDENCE, InstanceRole.OWN_RESULT])
def test_what_is_not_an_image_neither_counts_nor_reopens(index: Database, role: InstanceRole) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    arrive(index, instance("2", at_s=90, role=role))
    assert (the_study(index).revision, the_study(index).last_received_at) == (1, after(0))
    with index.read() as connection:
        study = load_study(connection, STUDY)
    assert study is not None
    assert sum(len(s.instances) for s in study.series) == 1


def test_an_image_that_comes_after_a_lone_report_was_set_aside_is_still_analysed(index: Database) -> None:
    """A report may reach the node before any image of its study; by then the study was closed as unwanted."""
    arrive(index, instance("sr", role=InstanceRole.EVIDENCE))
    cut_empty(index)
    arrive(index, instance("1", at_s=90))
    assert (the_study(index).state, the_study(index).first_received_at) == (StudyState.RECEIVING, after(90))


def cut_empty(index: Database) -> None:
    with index.write() as connection:
        move_study(connection, STUDY, StudyState.COMPLETE, Change(after(60)))
        reason = "No route wants this study."
        move_study(connection, STUDY, StudyState.NOT_ANALYSED, Change(after(60)), reason=reason)


def test_our_own_result_is_known_by_its_uid_even_without_our_marks(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    with index.write() as connection:
        assert save_result(connection, job, "k", outcome("a"), ())
    (sc,) = [row for row in rows(index, artifacts) if row.kind == "SC"]
    sent_back = dataclasses.replace(instance("x", at_s=90), sop_instance_uid=sc.uid)
    assert arrive(index, sent_back) == [Added.NEW]
    assert the_study(index).revision == 1
    (row,) = [row for row in rows(index, instances) if row.sop_instance_uid == sc.uid]
    assert row.role == InstanceRole.OWN_RESULT


def analysed(index: Database) -> Row[Any]:
    """Analyse the study; return the picture that was made of it."""
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    with index.write() as connection:
        assert save_result(connection, job, "k", outcome("a"), ())
    (picture,) = [row for row in rows(index, artifacts) if row.kind == "SC"]
    return picture


def compared_with(picture: Row[Any], sent: Instance, difference: Difference) -> Comparison:
    return Comparison({(picture.sha256, sent.sha256): difference}, {STUDY}, asks=True)


@pytest.mark.parametrize(
    ("difference", "told"),
    [
        (Difference(("ContentSequence", "PatientID", "Rows")), "Changed: ContentSequence, Rows."),
        (Difference(("StudyInstanceUID",)), "Changed: StudyInstanceUID."),
        (Difference((), PixelVerdict.CHANGED), "The pixels changed."),
        (Difference(("SOPClassUID",), PixelVerdict.UNKNOWN), "Whether the pixels changed could not be told."),
        (NOT_COMPARED, "Whether it says what the result says could not be told."),
        (Difference(("AccessionNumber", "OriginalAttributesSequence", "PatientName", "(0099,1001)")), ""),
        (Difference(), ""),
    ],
)
def test_what_has_the_uid_of_a_result_and_other_content_is_told_once_and_changes_nothing(
    index: Database, difference: Difference, told: str
) -> None:
    picture = analysed(index)
    sent = dataclasses.replace(instance("x", at_s=90, study=derived_uid("elsewhere")), sop_instance_uid=picture.uid)
    with index.write() as connection, pytest.raises(NotYetCompared) as asked:
        intake.add_instances(connection, [sent], Comparison(asks=True))
    assert {(old.object_key, new.object_key) for old, new in asked.value.pairs} == {
        (picture.object_key, sent.object_key)
    }
    for _ in range(2):  # as after a crash
        with index.write() as connection:
            intake.add_instances(connection, [sent], compared_with(picture, sent, difference))
    texts = [row.text for row in rows(index, events) if row.kind == "result-altered"]
    assert [text.endswith(f" {told}") for text in texts] == [True] * bool(told)
    with index.read() as connection:
        problems = [one for one in waiting(connection, after(80)) if one.kind == "ALTERED"]
        assert not [one for one in waiting(connection, after(91)) if one.kind == "ALTERED"]
    assert [(one.count, one.studies) for one in problems] == [(1, (STUDY,))] * bool(told)
    assert [one.cause for one in problems] == texts
    assert [row for row in rows(index, artifacts) if row.uid == picture.uid] == [picture]


def test_a_result_that_comes_back_as_it_was_sent_is_compared_with_nothing(index: Database) -> None:
    picture = analysed(index)
    back = dataclasses.replace(instance("x", at_s=90), sop_instance_uid=picture.uid, sha256=picture.sha256)
    with index.write() as connection:
        intake.add_instances(connection, [back], Comparison(asks=True))
    assert not [row for row in rows(index, events) if row.kind == "result-altered"]


def test_an_adopted_object_learns_its_sender_when_it_comes_again(index: Database) -> None:
    arrive(index, instance("1", sender=UNKNOWN_SENDER), instance("1", at_s=5))
    (row,) = rows(index, instances)
    assert (row.calling_ae_title, row.source_host) == ("CT1", "10.1.2.20")


def test_many_associations_may_bring_one_study_at_once(index: Database) -> None:
    """Eight threads, every image twice: one row each, one study, one first line in the timeline."""
    images = [instance(str(n), at_s=n, series=str(n % 3)) for n in range(24)]

    def bring(image: Instance) -> Added:
        return arrive(index, image)[0]

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(bring, [*images, *images]))
    assert (added.count(Added.NEW), added.count(Added.DUPLICATE)) == (24, 24)
    assert len(rows(index, instances)) == 24
    assert the_study(index).revision == 1
    assert [row.kind for row in rows(index, events)] == ["received"]


def test_times_go_forward_even_when_threads_overtake_each_other(index: Database) -> None:
    arrive(index, instance("2", at_s=8), instance("1", at_s=7))
    assert the_study(index).last_received_at == after(8)


def test_an_open_association_counts_until_it_is_closed(index: Database) -> None:
    image = instance("1")
    with index.write() as connection:
        intake.add_instance(connection, image)
        associations.open_association(connection, "a", "receiver", [image])
        associations.open_association(connection, "a", "receiver", [image])
    assert open_associations(index) == 1
    with index.write() as connection:
        associations.close_association(connection, "a", "released", after(5))
    assert open_associations(index) == 0


def test_a_silent_receivers_associations_are_lost_but_not_those_it_renews(index: Database) -> None:
    image = instance("1")
    with index.write() as connection:
        intake.add_instance(connection, image)
        associations.open_association(connection, "a", "dead", [image])
        associations.open_association(connection, "b", "alive", [image])
        associations.renew_associations(connection, "alive", after(100))
        associations.forget_lost_associations(connection, "", after(50), after(100))
    assert open_associations(index) == 1


def test_a_receiver_that_starts_again_forgets_what_it_had_open(index: Database) -> None:
    image = instance("1")
    with index.write() as connection:
        intake.add_instance(connection, image)
        associations.open_association(connection, "a", "me", [image])
        associations.open_association(connection, "b", "other", [image])
        associations.forget_lost_associations(connection, "me", after(-60), after(1))
    assert open_associations(index) == 1


def open_associations(index: Database) -> int:
    with index.read() as connection:
        study = load_study(connection, STUDY)
        assert study is not None
        return arrivals(connection, study).open_associations


def test_everything_is_there_after_a_restart(index: Database, index_url: str) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    index.close()
    with opened_database(index_url) as again:
        with again.read() as connection:
            assert jobs.waiting(connection) == 1
        assert claimed(again).study_instance_uid == STUDY


def test_a_failure_inside_a_transaction_leaves_nothing(index: Database) -> None:
    with pytest.raises(ZeroDivisionError), index.write() as connection:  # noqa: PT012
        intake.add_instance(connection, instance("1"))
        _ = 1 / 0
    assert rows(index, studies) == rows(index, instances) == []


def test_known_objects_are_told_from_orphans(index: Database) -> None:
    image = instance("1")
    arrive(index, image)
    with index.read() as connection:
        assert intake.known_object_keys(connection, [image.object_key, "ab/none.dcm"]) == {image.object_key}


def test_a_database_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path / 'no-such-folder' / 'x.sqlite'}", "postgresql+psycopg2://x@127.0.0.1:1/x"):
        away = Database(url)
        with pytest.raises(IndexUnavailable, match="does not answer"):
            away.migrate()
        away.close()


def test_text_that_hurts_databases_is_taken(index: Database) -> None:
    attributes = {"study_description": "'; DROP TABLE studies; -- \\ \" 胸部 é"}
    arrive(index, instance("1", attributes=attributes, study=derived_uid("hurts")))
    with index.read() as connection:
        study = load_study(connection, derived_uid("hurts"))
    assert study is not None
    assert study.series[0].instances[0].attributes == attributes


def statements_of_a_batch(index: Database, name: str, count: int) -> set[str]:
    """Enter so many images of as many studies; return what was asked of the database."""
    batch = [instance(f"{name}-{number}", study=derived_uid(name, str(number))) for number in range(count)]
    batch = [dataclasses.replace(one, patient=PatientNumber("4711", "Ward")) for one in batch]
    asked: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.add(statement)

    event.listen(index.engine, "before_cursor_execute", note)
    try:
        with index.write() as connection:
            assert set(intake.add_instances(connection, batch)) == {Added.NEW}
    finally:
        event.remove(index.engine, "before_cursor_execute", note)
    return asked


def test_batches_of_every_size_need_a_few_statements_only(tmp_path: Path) -> None:
    """SQLite's driver keeps every statement ready on each connection, in up to a quarter of a megabyte."""
    with opened_database(f"sqlite:///{tmp_path / 'index.sqlite'}") as index:
        assert len(statements_of_a_batch(index, "first", 17)) > 5
        of_sizes = [statements_of_a_batch(index, f"of {count}", count) for count in (17, 18, 23, 31, 32)]
    assert all(one == of_sizes[0] for one in of_sizes)

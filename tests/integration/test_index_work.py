"""Jobs, results and deliveries in the index, on SQLite and on PostgreSQL: claimed once, fenced, saved whole."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, Table, event, select
from sqlalchemy.exc import IntegrityError

from dicom_node.analysis.context import ReportLine
from dicom_node.core.entities import (
    ArtifactKind,
    DeliveryState,
    Destination,
    JobState,
    MediaType,
    ResultState,
    StudyState,
)
from dicom_node.core.errors import NotFound
from dicom_node.core.priority import LAGS, Priority
from dicom_node.core.uids import derived_uid
from dicom_node.index import jobs, results
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.jobs import ClaimedJob, free_leases_of, requeue
from dicom_node.index.lineage import ReportLineage, earlier_reports
from dicom_node.index.outbox import deliveries, withdrawals
from dicom_node.index.outbox.deliveries import Claimant, DeliveryBatch
from dicom_node.index.studies import NewJob, add_jobs, load_study
from dicom_node.index.tables import artifacts as artifacts_table
from dicom_node.index.tables import deliveries as deliveries_table
from dicom_node.index.tables import events as events_table
from dicom_node.index.tables import jobs as jobs_table
from dicom_node.index.tables import results as results_table
from dicom_node.index.tables import studies
from dicom_node.index.transitions import Change, move_delivery, move_study
from dicom_node.index.views import study as study_views
from dicom_node.storage.owners import Owners
from tests.support.results.arrivals import (
    STUDY,
    after,
    arrive,
    artifact,
    claim,
    claimed,
    cut_study,
    instance,
    opened_database,
    outcome,
)
from tests.support.results.rows import SOMEBODY

PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
EHR = Destination(name="ehr", takes=frozenset({MediaType.FHIR}))
FOLDER = Destination(name="folder", takes=frozenset({MediaType.ANY}))


def rows(index: Database, table: Table) -> list[Row[Any]]:
    with index.read() as connection:
        return list(connection.execute(select(table).order_by(*table.primary_key)).all())


def queued(index: Database, *routes: str) -> None:
    """Enter a study with one image and queue a job for each route."""
    arrive(index, instance("1"))
    cut_study(index, routes or ("chest-ct",))


def study_state(index: Database) -> str:
    return str(rows(index, studies)[0].state)


def save(index: Database, job: ClaimedJob, name: str = "a", *destinations: Destination, **more: Any) -> bool:
    with index.write() as connection:
        return results.save_result(connection, job, f"key-{name}", outcome(name, **more), destinations)


def batch_of(
    index: Database, destination: str = "pacs", owner: str = "host:1", at_s: float = 80.0
) -> DeliveryBatch | None:
    with index.write() as connection:
        return deliveries.claim_batch(connection, destination, Claimant(owner, 600.0), after(at_s))


def claimed_batch(
    index: Database, destination: str = "pacs", owner: str = "host:1", at_s: float = 80.0
) -> DeliveryBatch:
    batch = batch_of(index, destination, owner, at_s)
    assert batch is not None
    return batch


# --- claiming ---


@pytest.mark.parametrize("back_s", [300.0, 3600.0, 86400.0])
def test_a_clock_set_back_holds_up_nothing_that_was_never_put_off(index: Database, back_s: float) -> None:
    """Most often by an hour: somebody corrects the daylight saving time by hand."""
    queued(index, "one", "two")
    save(index, claimed(index), "a", PACS)
    assert claim(index, at_s=61 - back_s) is not None
    assert batch_of(index, at_s=80 - back_s) is not None


@pytest.mark.parametrize("ahead_s", [600.0, 86400.0, 1e9])
def test_a_job_that_waits_for_a_time_from_before_the_clock_was_set_back_is_due(index: Database, ahead_s: float) -> None:
    queued(index)
    job = claimed(index, at_s=61)
    with index.write() as connection:
        assert jobs.release(connection, job, "It crashed.", after(62 + ahead_s), after(62))
    assert claimed(index, at_s=63).attempt == 2


def test_a_claimed_job_is_nobody_elses(index: Database) -> None:
    queued(index)
    job = claimed(index)
    assert (job.attempt, job.fence, job.started_at, job.earlier_job_key) == (1, 1, after(61), "")
    assert claim(index, "host:2") is None
    assert study_state(index) == StudyState.ANALYSING


def test_two_workers_never_get_the_same_job(index: Database) -> None:
    queued(index, *(f"route-{n}" for n in range(20)))
    together = threading.Barrier(4)

    def work(owner: str) -> list[int]:
        together.wait(30)
        mine = []
        while (job := claim(index, owner)) is not None:
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [job for mine in pool.map(work, ["a:1", "b:1", "c:1", "d:1"]) for job in mine]
    assert sorted(taken) == sorted(row.id for row in rows(index, jobs_table))
    assert len(taken) == 20


def test_the_oldest_job_comes_first(index: Database) -> None:
    for name, at_s in (("b", 20.0), ("a", 10.0)):
        study = derived_uid("study", name)
        arrive(index, instance(name, study=study))
        cut_study(index, study=study, at_s=at_s)
    assert claimed(index).study_instance_uid == derived_uid("study", "a")


def test_a_job_whose_lease_ran_out_is_taken_over_and_the_old_worker_writes_nothing(index: Database) -> None:
    queued(index)
    old = claimed(index, "a:1", at_s=61, lease_s=10)
    assert claim(index, "b:1", at_s=70) is None
    new = claimed(index, "b:1", at_s=72)
    assert (new.id, new.attempt, new.fence, new.started_at) == (old.id, 2, 2, old.started_at)
    with index.write() as connection:
        assert not jobs.renew(connection, old, after(73), 60)
        assert not jobs.release(connection, old, "late", after(80), after(73))
        assert not jobs.finish(connection, old, JobState.DONE, ("k", "", ""), after(73))
    assert not save(index, old, "old", PACS)
    assert rows(index, results_table) == rows(index, deliveries_table) == []
    assert save(index, new, "new", PACS)


def test_a_renewed_lease_is_not_taken_over(index: Database) -> None:
    queued(index)
    job = claimed(index, at_s=61, lease_s=10)
    with index.write() as connection:
        assert jobs.renew(connection, job, after(70), 10)
    assert claim(index, "b:1", at_s=75) is None


def test_a_clock_set_back_takes_no_job_from_the_living_and_frees_that_of_the_dead_a_lease_later(
    index: Database,
) -> None:
    queued(index)
    living = claimed(index, "a:1", at_s=86400, lease_s=60)
    assert claim(index, "b:1", at_s=100, lease_s=60) is None
    with index.write() as connection:
        assert jobs.renew(connection, living, after(110), 60)
    assert claim(index, "b:1", at_s=165, lease_s=60) is None
    taken = claimed(index, "b:1", at_s=171, lease_s=60)
    assert taken.attempt == 2


def test_a_clock_set_back_takes_no_delivery_from_the_living_and_frees_that_of_the_dead_a_lease_later(
    index: Database,
) -> None:
    queued(index)
    assert save(index, claimed(index), "a", PACS)
    assert claimed_batch(index, owner="a:1", at_s=86400)
    assert batch_of(index, owner="b:1", at_s=100) is None
    assert batch_of(index, owner="b:1", at_s=699) is None
    assert claimed_batch(index, owner="b:1", at_s=701)


def test_a_failed_attempt_waits_and_counts(index: Database) -> None:
    queued(index)
    job = claimed(index, at_s=61)
    with index.write() as connection:
        assert jobs.release(connection, job, "It crashed.", after(90), after(62))
        assert jobs.waiting(connection) == 1
    assert claim(index, at_s=80) is None
    with index.read() as connection:
        (waits,) = study_views.study(connection, STUDY).jobs
    assert (waits.attempts, waits.next_attempt_at) == (1, after(90))
    again = claimed(index, at_s=91)
    assert (again.attempt, again.started_at) == (2, after(61))
    with index.read() as connection:
        (runs,) = study_views.study(connection, STUDY).jobs
        timeline = study_views.timeline(connection, STUDY)
    assert runs.next_attempt_at is None
    assert [one.text for one in timeline if one.kind in {"started", "attempt-failed"}] == [
        "Analysis by ct-lung-density started.",
        "The analysis failed, tried once: It crashed.",
        "Analysis by ct-lung-density started; tried once before.",
    ]


def test_a_job_interrupted_by_an_orderly_stop_is_given_back_uncounted(index: Database) -> None:
    queued(index)
    job = claimed(index, at_s=61)
    with index.write() as connection:
        assert jobs.give_back(connection, job, after(62))
    again = claimed(index, at_s=62)
    assert (again.attempt, again.started_at, again.fence) == (1, after(61), 2)


def test_a_job_that_a_late_image_overtook_is_superseded_instead_of_tried_again(index: Database) -> None:
    """Its attempt fails after revision 2 opened: analysing half of revision 2 would report on an incomplete study."""
    queued(index)
    job = claimed(index, at_s=61)
    arrive(index, instance("2", at_s=65))
    with index.write() as connection:
        assert jobs.release(connection, job, "It crashed.", after(66), after(66))
    assert claim(index, at_s=80) is None
    assert [row.state for row in rows(index, jobs_table)] == [JobState.SUPERSEDED]
    assert study_state(index) == StudyState.RECEIVING


def test_an_abandoned_job_that_a_late_image_overtook_is_superseded(index: Database) -> None:
    queued(index)
    claimed(index, at_s=61, lease_s=5)
    arrive(index, instance("2", at_s=65))
    assert claim(index, "b:1", at_s=80) is None
    (job,) = rows(index, jobs_table)
    assert (job.state, job.lease_owner, job.lease_until) == (JobState.SUPERSEDED, "", None)
    with index.read() as connection:
        told = study_views.timeline(connection, STUDY)[-1]
    assert (told.kind, told.actor) == ("superseded", "node")


def test_an_answer_reached_while_a_late_image_came_still_counts_for_its_revision(index: Database) -> None:
    queued(index)
    job = claimed(index, at_s=61)
    arrive(index, instance("2", at_s=65))
    assert save(index, job, "a", PACS)
    assert study_state(index) == StudyState.RECEIVING
    assert [(row.revision, row.sequence) for row in rows(index, results_table)] == [(1, 1)]


# --- saving ---


def test_a_result_its_objects_and_its_deliveries_are_there_together(index: Database) -> None:
    queued(index)
    assert save(index, claimed(index), "a", PACS, EHR, FOLDER)
    assert study_state(index) == StudyState.REPORTED
    owed = {(row.destination, row.artifact_uid) for row in rows(index, deliveries_table)}
    kinds = {row.uid: row.kind for row in rows(index, artifacts_table)}
    by_destination = {name: sorted(kinds[uid] for d, uid in owed if d == name) for name in ("pacs", "ehr", "folder")}
    assert by_destination == {"pacs": ["SC", "SR"], "ehr": ["FHIR"], "folder": ["FHIR", "SC", "SR"]}


def test_a_result_that_cannot_be_saved_whole_leaves_nothing(index: Database) -> None:
    queued(index)
    job = claimed(index)
    twice = (artifact("same", ArtifactKind.SECONDARY_CAPTURE, 0), artifact("same", ArtifactKind.STRUCTURED_REPORT, 1))
    broken = dataclasses.replace(outcome("a"), artifacts=twice)
    with pytest.raises(IntegrityError), index.write() as connection:
        results.save_result(connection, job, "key", broken, [PACS])
    assert rows(index, results_table) == rows(index, artifacts_table) == rows(index, deliveries_table) == []
    assert [row.state for row in rows(index, jobs_table)] == [JobState.RUNNING]
    assert study_state(index) == StudyState.ANALYSING
    assert save(index, job, "a", PACS)


def test_a_study_is_reported_when_its_last_route_has_ended(index: Database) -> None:
    queued(index, "one", "two")
    first, second = claimed(index), claimed(index)
    assert save(index, first, "a", PACS)
    assert study_state(index) == StudyState.ANALYSING
    assert save(index, second, "b", PACS, state=JobState.NOT_ANALYSABLE)
    assert study_state(index) == StudyState.REPORTED


def lineage(route: str) -> ReportLineage:
    line = ReportLine(model="ct-lung-density", route=route)
    return ReportLineage(study_instance_uid=STUDY, line=line, job_key="next", destinations_of={"all": ["pacs"]})


def test_the_next_result_of_a_study_follows_the_earlier_report(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    arrive(index, instance("2", at_s=90))
    cut_study(index, at_s=150)
    with index.read() as connection:
        earlier = earlier_reports(connection, lineage("chest-ct"))
        assert earlier_reports(connection, lineage("another")) == {}
    report = artifact("a-sr", ArtifactKind.STRUCTURED_REPORT, 1)
    assert earlier.keys() == {"all"}
    assert (earlier["all"].sop_instance_uid, earlier["all"].instance_number) == (report.uid, 1)
    assert save(index, claimed(index, at_s=151), "b", PACS, at_s=160)
    assert [(row.revision, row.sequence) for row in rows(index, results_table)] == [(1, 1), (2, 2)]


def test_a_rerun_with_the_same_answer_adds_nothing_and_sends_again(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    sent(index)
    with index.write() as connection:
        actions.rerun_study(connection, STUDY, None, SOMEBODY, after(100))
    job = claimed(index, at_s=101)
    assert job.earlier_job_key == "key-a"
    with index.write() as connection:
        assert results.has_result(connection, "key-a")
        assert results.answer_again(connection, job, "key-a", [PACS], after(102))
        assert deliveries.resend(connection, "key-a", [PACS], after(102)) == 2
    assert len(rows(index, results_table)) == 1
    assert {row.state for row in rows(index, deliveries_table)} == {DeliveryState.PENDING}
    assert study_state(index) == StudyState.REPORTED


def test_a_rerun_with_the_same_answer_leaves_alone_what_arrived_for_certain_or_was_discarded(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS, FOLDER)
    picture, report, *others = rows(index, deliveries_table)
    with index.write() as connection:
        for row, *way in (
            (picture, DeliveryState.SENT, DeliveryState.COMMITTED),
            (report, DeliveryState.PARKED, DeliveryState.DISCARDED),
            *((row, DeliveryState.SENT) for row in others),
        ):
            for state in way:
                move_delivery(connection, deliveries_table.c.id == row.id, state, Change(after(80), actor=SOMEBODY))
        assert deliveries.resend(connection, "key-a", [PACS, FOLDER], after(90)) == len(others)
    states = {row.id: row.state for row in rows(index, deliveries_table)}
    assert (states[picture.id], states[report.id]) == (DeliveryState.COMMITTED, DeliveryState.DISCARDED)
    assert {states[row.id] for row in others} == {DeliveryState.PENDING}


def test_a_known_answer_goes_to_a_destination_that_is_new(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    sent(index)
    with index.write() as connection:
        actions.rerun_study(connection, STUDY, None, SOMEBODY, after(100))
    job = claimed(index, at_s=101)
    with index.write() as connection:
        assert results.answer_again(connection, job, "key-a", [PACS, FOLDER], after(102))
    pending = [row for row in rows(index, deliveries_table) if row.state == DeliveryState.PENDING]
    assert {row.destination for row in pending} == {"folder"}


def rerun(index: Database, at_s: float) -> ClaimedJob:
    """Ask for the study's analysis again, and begin it."""
    with index.write() as connection:
        actions.rerun_study(connection, STUDY, None, SOMEBODY, after(at_s))
    return claimed(index, at_s=at_s + 1)


def standings(index: Database) -> list[tuple[str, str]]:
    return [(row.job_key, row.standing) for row in sorted(rows(index, results_table), key=lambda row: row.sequence)]


def test_an_answer_that_comes_back_is_a_result_of_its_own_and_the_replaced_one_stays_replaced(index: Database) -> None:
    """A model is exchanged and, since it is worse, exchanged back."""
    queued(index)
    save(index, claimed(index), "a", PACS)
    save(index, rerun(index, 100), "b", PACS, at_s=110)
    job = rerun(index, 120)
    with index.read() as connection:
        assert results.standing_key(connection, "key-b") == "key-b"
        again = results.standing_key(connection, "key-a")
    assert again not in {"key-a", "key-b"}
    with index.write() as connection:
        assert results.save_result(connection, job, again, outcome("a2", at_s=130), [PACS])
        assert results.standing_key(connection, "key-a") == again
    states = [ResultState.SUPERSEDED, ResultState.SUPERSEDED, ResultState.CURRENT]
    assert standings(index) == list(zip(("key-a", "key-b", again), states, strict=True))


def test_a_known_answer_that_was_withdrawn_meanwhile_is_not_sent_and_the_timeline_says_why(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    sent(index)
    job = rerun(index, 100)
    with index.write() as connection:
        actions.withdraw_study(connection, STUDY, ("Wrong side.", None), SOMEBODY, after(102))
        assert results.answer_again(connection, job, "key-a", [PACS, FOLDER], after(103))
        assert deliveries.resend(connection, "key-a", [PACS, FOLDER], after(103)) == 0
    assert {row.state for row in rows(index, deliveries_table)} == {DeliveryState.SENT}
    (told,) = [row.text for row in rows(index, events_table) if row.kind == "unchanged"]
    assert "does not hold any more (WITHDRAWN: Wrong side.), and none stands" in told
    assert standings(index) == [("key-a", ResultState.WITHDRAWN)]


def withdraw(index: Database, route: str | None = None) -> None:
    with index.write() as connection:
        actions.withdraw_study(connection, STUDY, ("Wrong side.", route), SOMEBODY, after(102))


@pytest.mark.parametrize("withdrawn", [None, "chest-ct"])
def test_an_answer_that_was_reached_while_its_study_was_withdrawn_is_kept_and_not_sent(
    index: Database, withdrawn: str | None
) -> None:
    """A rerun with another setting: what it says would follow a report that holds no longer."""
    queued(index)
    save(index, claimed(index), "a", PACS)
    sent(index)
    job = rerun(index, 100)
    withdraw(index, withdrawn)
    assert save(index, job, "b", PACS, at_s=103)
    why = "The study's results were withdrawn while it was made: Wrong side."
    assert {row.job_key: (row.standing, row.standing_reason) for row in rows(index, results_table)} == {
        "key-a": (ResultState.WITHDRAWN, "Wrong side."),
        "key-b": (ResultState.WITHDRAWN, why),
    }
    assert {row.job_key for row in rows(index, deliveries_table)} == {"key-a"}
    assert save(index, rerun(index, 110), "c", PACS, at_s=120)
    assert standings(index)[-1] == ("key-c", ResultState.CURRENT)


@pytest.mark.parametrize("withdrawn", [None, "chest-ct"])
def test_the_first_answer_too_is_kept_and_not_sent_when_the_study_is_withdrawn_while_it_is_made(
    index: Database, withdrawn: str | None
) -> None:
    queued(index)
    job = claimed(index)
    withdraw(index, withdrawn)
    assert save(index, job, "a", PACS, at_s=103)
    assert standings(index) == [("key-a", ResultState.WITHDRAWN)]
    assert rows(index, deliveries_table) == []
    (told,) = [row for row in rows(index, events_table) if row.kind == "withdrawn" and row.actor == SOMEBODY.name]
    assert "Wrong side." in told.text


def test_a_second_withdrawal_holds_for_what_is_analysed_since_the_first(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    withdraw(index)
    job = rerun(index, 105)
    withdraw(index)
    assert save(index, job, "b", PACS, at_s=110)
    assert standings(index) == [("key-a", ResultState.WITHDRAWN), ("key-b", ResultState.WITHDRAWN)]


def test_what_neither_was_answered_nor_is_being_analysed_cannot_be_withdrawn(index: Database) -> None:
    queued(index)
    with pytest.raises(NotFound, match="nothing to withdraw"):
        withdraw(index)


@pytest.mark.parametrize(("withdrawn", "standing"), [(None, ResultState.WITHDRAWN), ("chest-ct", ResultState.CURRENT)])
def test_what_another_route_says_meanwhile_is_withdrawn_with_the_study_and_not_with_a_route(
    index: Database, withdrawn: str | None, standing: ResultState
) -> None:
    queued(index, "chest-ct", "spine-ct")
    save(index, claimed(index), "a", PACS)
    other = claimed(index)
    withdraw(index, withdrawn)
    assert save(index, other, "b", PACS, at_s=103)
    assert dict(standings(index))["key-b"] == standing


def test_a_known_answer_that_was_replaced_meanwhile_says_which_result_stands(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    save(index, rerun(index, 100), "b", PACS, at_s=110)
    job = rerun(index, 120)
    with index.write() as connection:
        assert results.answer_again(connection, job, "key-a", [PACS, FOLDER], after(130))
    (told,) = [row.text for row in rows(index, events_table) if row.kind == "unchanged"]
    assert told.endswith("(SUPERSEDED: A later result took its place.); result 2 by ct-lung-density stands.")
    assert "folder" not in {row.destination for row in rows(index, deliveries_table)}


def test_a_withdrawn_result_is_not_made_again_because_a_destination_takes_less(index: Database) -> None:
    queued(index)
    save(index, claimed(index), "a", PACS)
    with index.write() as connection:
        actions.withdraw_study(connection, STUDY, ("Wrong side.", None), SOMEBODY, after(80))
        assert not requeue(connection, "key-a", "pacs does not take SEG", after(81))
    assert [row.state for row in rows(index, jobs_table)] == [JobState.DONE]


def test_a_slow_answer_about_fewer_images_does_not_replace_the_one_about_all(index: Database) -> None:
    """Two workers: the one with the earlier revision is the slower one."""
    queued(index)
    slow = claimed(index)
    arrive(index, instance("2", at_s=65))
    cut_study(index, at_s=100)
    save(index, claimed(index, at_s=101), "b", PACS, at_s=110)
    with index.write() as connection:
        assert results.save_result(connection, slow, "key-a", outcome("a", at_s=115), [PACS])
    assert standings(index) == [("key-b", ResultState.CURRENT), ("key-a", ResultState.SUPERSEDED)]
    assert {row.job_key for row in rows(index, deliveries_table)} == {"key-b"}
    with index.read() as connection:
        shown = {one.job_key: one.current for one in study_views.results(connection, STUDY)}
    assert shown == {"key-a": False, "key-b": True}


def sent(index: Database) -> None:
    """Deliver everything that is owed to the PACS."""
    batch = claimed_batch(index)
    with index.write() as connection:
        for item in batch.items:
            deliveries.mark_sent(connection, batch, item, ("", None), after(81))


# --- deliveries ---


def test_results_of_urgent_jobs_are_owed_before_those_that_were_ready_earlier(index: Database) -> None:
    for name, priority in (("a", Priority.LOW), ("b", Priority.ROUTINE), ("c", Priority.STAT), ("d", Priority.HIGH)):
        _queue(index, name, priority, 1)
    for _ in range(4):
        job = claimed(index)
        with index.write() as connection:
            outcome_of = outcome(job.study_instance_uid)
            assert results.save_result(connection, job, job.study_instance_uid, outcome_of, [PACS])
    owed = []
    while (batch := batch_of(index)) is not None:
        owed.append(batch.study_instance_uid)
    assert owed == [derived_uid("study", name) for name in "cdba"]


def with_result(index: Database, *destinations: Destination) -> None:
    queued(index)
    assert save(index, claimed(index), "a", *(destinations or (PACS,)))


def test_a_batch_holds_the_picture_before_the_report(index: Database) -> None:
    with_result(index)
    batch = claimed_batch(index)
    assert [item.artifact.kind for item in batch.items] == ["SC", "SR"]
    assert batch_of(index) is None


def test_a_batch_goes_to_one_worker_only(index: Database) -> None:
    """Many results, four machines: each object is handed out exactly once."""
    for n in range(12):
        study = derived_uid("study", str(n))
        arrive(index, instance(str(n), study=study))
        cut_study(index, study=study)
        assert save(index, claimed(index), str(n), PACS)
    together = threading.Barrier(4)

    def deliver(owner: str) -> list[int]:
        together.wait(30)
        mine: list[int] = []
        for _ in range(40):
            batch = batch_of(index, owner=owner)
            mine += [item.delivery_id for item in batch.items] if batch else []
        return mine

    with ThreadPoolExecutor(4) as pool:
        handed = [one for mine in pool.map(deliver, ["a:1", "b:1", "c:1", "d:1"]) for one in mine]
    assert sorted(handed) == [row.id for row in rows(index, deliveries_table)]


def test_a_sent_object_is_not_sent_again(index: Database) -> None:
    with_result(index)
    sent(index)
    assert {row.state for row in rows(index, deliveries_table)} == {DeliveryState.SENT}
    assert batch_of(index, at_s=10_000) is None
    with index.read() as connection:
        assert deliveries.undelivered(connection) == 0


def test_what_was_put_off_comes_back_when_it_is_due(index: Database) -> None:
    with_result(index)
    batch = claimed_batch(index)
    with index.write() as connection:
        for item in batch.items:
            deliveries.mark_deferred(connection, batch, item, "away", (after(81), after(100)))
    assert batch_of(index, at_s=99) is None
    again = claimed_batch(index, at_s=101)
    assert [item.attempts for item in again.items] == [1, 1]
    assert {row.note for row in rows(index, deliveries_table)} == {"away"}


def test_when_a_destination_is_back_everything_is_due(index: Database) -> None:
    with_result(index, PACS, FOLDER)
    batch = claimed_batch(index)
    with index.write() as connection:
        for item in batch.items:
            deliveries.mark_deferred(connection, batch, item, "away", (after(81), after(700)))
        assert deliveries.make_due(connection, "folder", after(90)) == 0
        assert deliveries.make_due(connection, "pacs", after(90)) == 2
    assert batch_of(index, at_s=91) is not None


def test_a_parked_object_waits_for_a_human(index: Database) -> None:
    with_result(index)
    batch = claimed_batch(index)
    with index.write() as connection:
        deliveries.mark_parked(connection, batch, batch.items[1], "SOP class not supported", after(81))
        deliveries.mark_sent(connection, batch, batch.items[0], ("", None), after(81))
    assert batch_of(index, at_s=10_000) is None
    with index.write() as connection:
        actions.retry_study(connection, STUDY, SOMEBODY, after(100))
    assert [item.artifact.kind for item in claimed_batch(index, at_s=101).items] == ["SR"]


def test_a_worker_that_lost_its_batch_changes_nothing(index: Database) -> None:
    with_result(index)
    old = claimed_batch(index, owner="a:1", at_s=80)
    new = claimed_batch(index, owner="b:1", at_s=80 + 601)
    with index.write() as connection:
        deliveries.mark_parked(connection, old, old.items[0], "late", after(700))
    assert {row.state for row in rows(index, deliveries_table)} == {DeliveryState.PENDING}
    with index.write() as connection:
        deliveries.mark_sent(connection, new, new.items[0], ("", None), after(701))
    assert rows(index, deliveries_table)[0].state == DeliveryState.SENT


def test_leases_of_dead_processes_are_freed_and_those_of_others_kept(index: Database, tmp_path: Path) -> None:
    """Both have the same host name, and neither sees the other's process: only its lock says who lives."""
    queued(index, "one", "two", "three")
    living, dead, new = (Owners(tmp_path) for _ in range(3))
    for owner in (living, dead):
        claimed(index, owner.me.identity)
    dead.leave()
    claimed(index, new.me.identity)
    with new.dead() as gone, index.write() as connection:
        assert free_leases_of(connection, [one.identity for one in gone], after(62)) == 1
    assert claimed(index, new.me.identity, at_s=63).route == "two"
    assert claim(index, new.me.identity, at_s=63) is None


def test_a_dead_process_frees_its_batches_too(index: Database) -> None:
    with_result(index)
    claimed_batch(index, owner="here:7")
    with index.write() as connection:
        assert free_leases_of(connection, ["here:7"], after(82)) == 2
    assert batch_of(index, owner="here:9", at_s=83) is not None


# --- what may have arrived and is owed no more ---


def begun(index: Database, batch: DeliveryBatch) -> None:
    with index.write() as connection:
        deliveries.begin_attempt(connection, batch)


def held(index: Database) -> None:
    """The process that sends dies after the PACS has answered; the next one finds another patient there."""
    begun(index, claimed_batch(index, owner="here:7"))
    batch = claimed_batch(index, owner="here:9", at_s=681)
    with index.write() as connection:
        deliveries.mark_held(connection, batch, "another patient", after(682))


def discarded_after_an_attempt(index: Database) -> None:
    batch = claimed_batch(index)
    with index.write() as connection:
        for item in batch.items:
            deliveries.mark_deferred(connection, batch, item, "no answer", (after(81), after(100)))
            actions.discard_delivery(connection, item.delivery_id, "Not wanted.", SOMEBODY, after(82))


def refused_when_sent_again(index: Database) -> None:
    sent(index)
    with index.write() as connection:
        for row in connection.execute(select(deliveries_table)).all():
            actions.retry_delivery(connection, row.id, SOMEBODY, after(90))
    batch = claimed_batch(index, at_s=91)
    with index.write() as connection:
        for item in batch.items:
            deliveries.mark_parked(connection, batch, item, "it is there already", after(92))


def refused_after_one_died(index: Database) -> None:
    begun(index, claimed_batch(index, owner="here:7"))
    batch = claimed_batch(index, owner="here:9", at_s=681)
    begun(index, batch)
    with index.write() as connection:
        for item in batch.items:
            deliveries.mark_parked(connection, batch, item, "it is there already", after(682))


@pytest.mark.parametrize("ended", [held, discarded_after_an_attempt, refused_when_sent_again, refused_after_one_died])
def test_what_may_be_at_a_destination_is_taken_back_there_however_its_delivery_ended(
    index: Database, ended: Callable[[Database], None]
) -> None:
    with_result(index)
    ended(index)
    with index.write() as connection:
        actions.withdraw_study(connection, STUDY, ("Wrong side.", None), SOMEBODY, after(1000))
        (taken,) = withdrawals.due_at(connection, "pacs")
    assert [one.kind for one in taken.objects] == ["SC", "SR"]


def test_what_was_held_when_a_process_died_that_had_only_asked_whose_study_it_is_is_not_taken_back(
    index: Database,
) -> None:
    with_result(index)
    claimed_batch(index, owner="here:7")
    batch = claimed_batch(index, owner="here:9", at_s=681)
    with index.write() as connection:
        deliveries.mark_held(connection, batch, "another patient", after(682))
        actions.withdraw_study(connection, STUDY, ("Wrong side.", None), SOMEBODY, after(1000))
        assert withdrawals.due_at(connection, "pacs") == []


def test_an_attempt_counts_once_from_its_begin_and_not_at_all_when_the_destination_was_not_there(
    index: Database,
) -> None:
    with_result(index)
    batch = claimed_batch(index)
    begun(index, batch)
    with index.write() as connection:
        first, second = batch.items
        deliveries.mark_deferred(connection, batch, first, "no answer", (after(81), after(100)))
        deliveries.give_back(connection, batch, second, "nobody there", after(81))
    assert [row.attempts for row in rows(index, deliveries_table)] == [1, 0]


def test_what_nobody_ever_tried_to_send_is_not_taken_back(index: Database) -> None:
    with_result(index)
    with index.write() as connection:
        for row in connection.execute(select(deliveries_table)).all():
            actions.discard_delivery(connection, row.id, "Not wanted.", SOMEBODY, after(82))
        actions.withdraw_study(connection, STUDY, ("Wrong side.", None), SOMEBODY, after(1000))
        assert withdrawals.due_at(connection, "pacs") == []


def test_a_second_process_of_the_same_host_name_sends_nothing_twice(index: Database, tmp_path: Path) -> None:
    with_result(index)
    first, second = Owners(tmp_path), Owners(tmp_path)
    claimed_batch(index, owner=first.me.identity)
    with second.dead() as gone, index.write() as connection:
        assert free_leases_of(connection, [one.identity for one in gone], after(82)) == 0
    assert batch_of(index, owner=second.me.identity, at_s=83) is None


def test_a_late_image_and_a_worker_that_takes_the_job_do_not_block_each_other(index: Database) -> None:
    for n in range(15):
        study = derived_uid("study", str(n))
        arrive(index, instance(f"{n}", study=study))
        cut_study(index, study=study)
    together = threading.Barrier(2)

    def bring() -> None:
        together.wait(30)
        for n in range(15):
            arrive(index, instance(f"{n}-late", at_s=65, study=derived_uid("study", str(n))))

    def take() -> int:
        together.wait(30)
        taken = 0
        while claim(index) is not None:
            taken += 1
        return taken

    with ThreadPoolExecutor(2) as pool:
        bringing, taking = pool.submit(bring), pool.submit(take)
        bringing.result(60)
        taken = taking.result(60)
    states = [row.state for row in rows(index, jobs_table)]
    assert (states.count(JobState.RUNNING), states.count(JobState.SUPERSEDED)) == (taken, 15 - taken)


def test_an_operator_who_asks_again_and_a_worker_that_ends_do_not_wait_for_each_other(postgres_url: str) -> None:
    """The worker has its job and next wants the study, at the moment at which the operator wants the job."""
    asking = threading.Event()

    def ask(index: Database) -> list[int]:
        with index.write() as connection:
            return actions.rerun_study(connection, STUDY, None, SOMEBODY, after(63))

    with opened_database(postgres_url) as index, ThreadPoolExecutor(1) as pool:
        queued(index)
        job = claimed(index)

        @event.listens_for(index.engine, "before_cursor_execute")
        def _notice(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if threading.current_thread() is not threading.main_thread() and "FROM jobs" in statement:
                asking.set()

        with index.write() as connection:
            connection.execute(select(jobs_table).with_for_update())
            asked = pool.submit(ask, index)
            assert asking.wait(30)
            assert jobs.finish(connection, job, JobState.FAILED, ("", "", "It crashed."), after(62))
        assert asked.result(30) == [job.id]


# --- whose turn it is ---


def _queue(index: Database, name: str, priority: Priority, at_s: float) -> str:
    """Enter a study with one image and one job of a priority."""
    study = derived_uid("study", name)
    arrive(index, instance(name, study=study))
    with index.write() as connection:
        found = load_study(connection, study, lock=True)
        assert found is not None
        job = NewJob(route="r", model="m", series_instance_uid="1", study_partial=False, decision={}, reason="",
                     priority=priority)  # fmt: skip
        add_jobs(connection, found, [job], after(at_s))
        move_study(connection, study, StudyState.COMPLETE, Change(after(at_s)))
    return study


def _turns(index: Database, at_s: float) -> list[str]:
    taken = []
    while (job := claim(index, at_s=at_s)) is not None:
        taken.append(job.study_instance_uid)
    return taken


def test_urgent_jobs_go_first_and_equals_in_order_of_arrival(index: Database) -> None:
    low = _queue(index, "low", Priority.LOW, 1)
    routine = [_queue(index, f"routine-{n}", Priority.ROUTINE, 2 + n) for n in range(3)]
    high = _queue(index, "high", Priority.HIGH, 10)
    stat = [_queue(index, f"stat-{n}", Priority.STAT, 20 + n) for n in range(2)]

    assert _turns(index, 100) == [*stat, high, *routine, low]


@pytest.mark.parametrize("priority", [Priority.HIGH, Priority.ROUTINE, Priority.LOW])
def test_a_job_that_has_waited_long_enough_goes_before_new_urgent_ones(index: Database, priority: Priority) -> None:
    lag_s = LAGS[priority].total_seconds()
    waiting = _queue(index, "waiting", priority, 0)
    before, later = _queue(index, "before", Priority.STAT, lag_s - 1), _queue(index, "later", Priority.STAT, lag_s + 1)

    assert _turns(index, lag_s + 2) == [before, waiting, later]


def test_a_stream_of_urgent_jobs_starves_nobody(index: Database) -> None:
    """Twice as many STAT jobs as can be done, for two and a half days."""
    waiting = {_queue(index, name, Priority(name), 0) for name in ("HIGH", "ROUTINE", "LOW")}
    done: set[str] = set()
    for hour in range(1, 61):
        for name in ("a", "b"):
            _queue(index, f"stat-{hour}-{name}", Priority.STAT, hour * 3600)
        job = claim(index, at_s=hour * 3600 + 1, lease_s=1e9)
        assert job is not None
        done.add(job.study_instance_uid)

    assert waiting <= done


def test_a_rerun_takes_its_place_behind_what_waits(index: Database) -> None:
    old = _queue(index, "old", Priority.ROUTINE, 0)
    assert save(index, claimed(index, at_s=1))
    waiting = _queue(index, "waiting", Priority.ROUTINE, 90_000)
    with index.write() as connection:
        actions.rerun_study(connection, old, None, SOMEBODY, after(100_000))
    stat = _queue(index, "stat", Priority.STAT, 100_001)

    assert _turns(index, 100_002) == [stat, waiting, old]

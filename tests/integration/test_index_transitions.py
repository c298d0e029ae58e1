"""Changes of state in the index, on SQLite and on PostgreSQL: asked of the lifecycle, fenced, told, and by whom."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Row, Table, select

from dicom_node.core.entities import CommitmentState, DeliveryState, Destination, JobState, MediaType, StudyState
from dicom_node.core.errors import IllegalTransition
from dicom_node.index import jobs as work
from dicom_node.index import results
from dicom_node.index.database import Database
from dicom_node.index.outbox.commitments import CommitmentRequest, add_request, due_requests
from dicom_node.index.tables import commitments, deliveries, events, jobs, studies
from dicom_node.index.transitions import (
    Change,
    cancel_deliveries,
    make_deliveries_due,
    move_commitment,
    move_delivery,
    move_job,
    move_study,
)
from tests.support.results.arrivals import STUDY, after, arrive, claimed, cut_study, instance, outcome
from tests.support.results.rows import SOMEBODY

PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))
ASKED = Change(after(100), ("operator", "Somebody wants it."), {"n": 1}, SOMEBODY)


@pytest.fixture
def reported(index: Database) -> Database:
    """A study with a result that is owed to a PACS."""
    arrive(index, instance("1"))
    cut_study(index)
    with index.write() as connection:
        job = work.claim(connection, "host:1", after(61), 60)
        assert job is not None
        assert results.save_result(connection, job, "key", outcome("a"), [PACS])
    return index


def rows(index: Database, table: Table) -> list[Row[Any]]:
    with index.read() as connection:
        return list(connection.execute(select(table).order_by(table.c.id)).all())


def told(index: Database) -> list[tuple[str, str]]:
    return [(row.kind, row.actor) for row in rows(index, events)]


def test_every_line_of_a_study_names_the_node_as_long_as_nobody_else_acts(reported: Database) -> None:
    assert {actor for _, actor in told(reported)} == {"node"}
    assert {"received", "routed", "state", "started", "analysed"} == {kind for kind, _ in told(reported)}


def test_whoever_changes_a_state_stands_in_the_timeline(reported: Database) -> None:
    with reported.write() as connection:
        move_study(connection, STUDY, StudyState.ANALYSING, ASKED)
        assert move_job(connection, jobs.c.study_instance_uid == STUDY, JobState.QUEUED, ASKED)
        first = connection.scalars(select(deliveries.c.id)).first()
        assert move_delivery(connection, deliveries.c.id == first, DeliveryState.DISCARDED, ASKED)
    assert told(reported)[-3:] == [("operator", "somebody")] * 3
    assert rows(reported, events)[-1].detail == {"n": 1}


def test_a_name_that_is_too_long_is_cut_and_not_refused(reported: Database) -> None:
    long = Change(after(100), actor=type(SOMEBODY)("n" * 200))
    with reported.write() as connection:
        move_study(connection, STUDY, StudyState.ANALYSING, long)
    assert told(reported)[-1] == ("state", "n" * 128)


def test_what_the_lifecycle_forbids_is_neither_written_nor_told(reported: Database) -> None:
    before = told(reported)
    with reported.write() as connection:
        with pytest.raises(IllegalTransition, match="A study in state REPORTED cannot become COMPLETE"):
            move_study(connection, STUDY, StudyState.COMPLETE, ASKED)
        with pytest.raises(IllegalTransition, match="A job in state DONE cannot become RUNNING"):
            move_job(connection, jobs.c.study_instance_uid == STUDY, JobState.RUNNING, ASKED)
        first = connection.scalars(select(deliveries.c.id)).first()
        with pytest.raises(IllegalTransition, match="A delivery in state PENDING cannot become COMMITTED"):
            move_delivery(connection, deliveries.c.id == first, DeliveryState.COMMITTED, ASKED)
    assert told(reported) == before
    assert [row.state for row in rows(reported, jobs)] == [JobState.DONE]
    assert {row.state for row in rows(reported, deliveries)} == {DeliveryState.PENDING}


def test_who_lost_the_fence_writes_nothing(index: Database) -> None:
    arrive(index, instance("1"))
    cut_study(index)
    job = claimed(index)
    before = told(index)
    with index.write() as connection:
        assert not move_job(connection, jobs.c.fence == job.fence - 1, JobState.DONE, ASKED)
    assert (rows(index, jobs)[0].state, told(index)) == (JobState.RUNNING, before)


def test_only_a_running_job_and_a_waiting_delivery_keep_a_lease(reported: Database) -> None:
    with reported.write() as connection:
        held = {"lease_owner": "host:1", "lease_until": after(200)}
        assert move_job(connection, jobs.c.id > 0, JobState.QUEUED, Change(after(90)))
        assert move_job(connection, jobs.c.id > 0, JobState.RUNNING, Change(after(91)), **held)
        one, other = connection.scalars(select(deliveries.c.id).order_by(deliveries.c.id)).all()
        for number, to in ((one, DeliveryState.PENDING), (other, DeliveryState.PENDING), (other, DeliveryState.SENT)):
            more = held if to is DeliveryState.PENDING else {}
            assert move_delivery(connection, deliveries.c.id == number, to, Change(after(92)), **more)
    assert [row.lease_owner for row in rows(reported, jobs)] == ["host:1"]
    assert [(row.lease_owner, row.lease_until) for row in rows(reported, deliveries)] == [
        ("host:1", after(200)), ("", None),
    ]  # fmt: skip
    with reported.write() as connection:
        assert move_job(connection, jobs.c.id > 0, JobState.FAILED, Change(after(93)))
    assert [(row.lease_owner, row.lease_until) for row in rows(reported, jobs)] == [("", None)]


def test_of_many_deliveries_those_are_made_due_that_may_be(reported: Database) -> None:
    with reported.write() as connection:
        one, other = connection.scalars(select(deliveries.c.id).order_by(deliveries.c.id)).all()
        for to in (DeliveryState.SENT, DeliveryState.COMMITTED):
            assert move_delivery(connection, deliveries.c.id == one, to, Change(after(90)))
        assert make_deliveries_due(connection, STUDY, deliveries.c.id > 0, ASKED) == [other]
        assert make_deliveries_due(connection, "1.2.3", deliveries.c.id > 0, ASKED) == []
    assert [row.state for row in rows(reported, deliveries)] == [DeliveryState.COMMITTED, DeliveryState.PENDING]
    assert rows(reported, events)[-1].detail == {"n": 1, "delivery_ids": [other]}
    assert told(reported)[-1] == ("operator", "somebody")


def test_what_has_arrived_is_not_cancelled(reported: Database) -> None:
    with reported.write() as connection:
        first = connection.scalars(select(deliveries.c.id).order_by(deliveries.c.id)).first()
        assert move_delivery(connection, deliveries.c.id == first, DeliveryState.SENT, Change(after(90)))
        assert cancel_deliveries(connection, deliveries.c.id > 0) == 1
    assert [row.state for row in rows(reported, deliveries)] == [DeliveryState.SENT]


def test_a_second_word_on_a_request_for_commitment_does_not_undo_the_first(index: Database) -> None:
    """The peer answers, and then its association ends: it has heard."""
    request = CommitmentRequest(
        number=0, transaction_uid="1.2.3", association_id="a", calling_ae_title="CT1", called_ae_title="AINODE",
        source_host="10.1.2.20", transfer_syntax_uid="1.2.840.10008.1.2", request=b"", attempts=0,
        requested_at=after(0),
    )  # fmt: skip
    with index.write() as connection:
        add_request(connection, "receiver", request)
        (due,) = due_requests(connection, "receiver", after(1))
        assert move_commitment(connection, due.number, CommitmentState.REPORTED, reported_at=after(2))
        assert not move_commitment(connection, due.number, CommitmentState.GIVEN_UP, note="ended")
    (row,) = rows(index, commitments)
    assert (row.state, row.note, row.reported_at) == (CommitmentState.REPORTED, "", after(2))
    with index.write() as connection:
        add_request(connection, "receiver", request)
    (row,) = rows(index, commitments)
    assert (row.state, row.reported_at) == (CommitmentState.PENDING, None)


def test_a_study_says_its_state_and_why_where_nothing_else_is_said(index: Database) -> None:
    arrive(index, instance("1"))
    with index.write() as connection:
        move_study(connection, STUDY, StudyState.COMPLETE, Change(after(60)))
        move_study(connection, STUDY, StudyState.NOT_ANALYSED, Change(after(61)), reason="No route wants it.")
        study = connection.execute(select(studies)).one()
    assert (study.state, study.reason, study.updated_at) == ("NOT_ANALYSED", "No route wants it.", after(61))
    assert [row.text for row in rows(index, events)][1:] == [
        "The study is COMPLETE.", "The study is NOT_ANALYSED. No route wants it.",
    ]  # fmt: skip

"""Retry and rerun: what they change, what they leave alone, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, Table, select, update

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.errors import IllegalTransition, NotFound
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.tables import deliveries, jobs, studies
from dicom_node.index.views import study as study_views
from tests.support.results.arrivals import STUDY, arrive, instance
from tests.support.results.rows import NOW, SOMEBODY
from tests.support.results.seeded import ANALYSING, CHEST_CT, CHEST_XR, GAP_CT, HOSTILE, seed

LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'node.sqlite'}"


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(database_url)
    database.migrate()
    with database.write() as connection:
        seed(connection, tmp_path)
    yield database
    database.close()


def only_row(database: Database, table: Table, condition: Any) -> Row[Any]:
    with database.read() as connection:
        return connection.execute(select(table).where(condition)).one()


def last_line(database: Database, study: str) -> str:
    with database.read() as connection:
        entry = study_views.timeline(connection, study)[-1]
    assert entry.kind == actions.OPERATOR
    return entry.text


def delivery_in(database: Database, state: DeliveryState, study: str) -> int:
    with database.read() as connection:
        return next(d.id for d in study_views.study_deliveries(connection, study) if d.state is state)


@pytest.mark.parametrize(
    ("state", "study"),
    [(DeliveryState.PARKED, CHEST_CT), (DeliveryState.PENDING, CHEST_XR), (DeliveryState.SENT, CHEST_XR)],
)
def test_a_retried_delivery_is_due_now_and_keeps_its_count(
    database: Database, state: DeliveryState, study: str
) -> None:
    number = delivery_in(database, state, study)
    before = only_row(database, deliveries, deliveries.c.id == number)
    with database.write() as connection:
        actions.retry_delivery(connection, number, SOMEBODY, LATER)
    row = only_row(database, deliveries, deliveries.c.id == number)
    assert (row.state, row.next_attempt_at) == (DeliveryState.PENDING, LATER)
    assert (row.attempts, row.note) == (before.attempts, before.note)
    assert row.destination in last_line(database, study)


def test_a_committed_object_is_not_sent_again(database: Database) -> None:
    number = delivery_in(database, DeliveryState.COMMITTED, CHEST_CT)
    with database.write() as connection, pytest.raises(IllegalTransition, match="COMMITTED"):
        actions.retry_delivery(connection, number, SOMEBODY, LATER)


def test_whoever_is_sending_at_this_moment_keeps_the_lease(database: Database) -> None:
    number = delivery_in(database, DeliveryState.PENDING, CHEST_XR)
    with database.write() as connection:
        connection.execute(update(deliveries).values(lease_owner="sender-1", lease_until=LATER))
        actions.retry_delivery(connection, number, SOMEBODY, NOW)
    row = only_row(database, deliveries, deliveries.c.id == number)
    assert (row.lease_owner, row.lease_until) == ("sender-1", LATER)


def test_retrying_a_study_takes_what_is_parked_or_waits_and_nothing_else(database: Database) -> None:
    with database.write() as connection:
        assert len(actions.retry_study(connection, CHEST_CT, SOMEBODY, LATER)) == 1
        assert len(actions.retry_study(connection, CHEST_XR, SOMEBODY, LATER)) == 1
        assert actions.retry_study(connection, GAP_CT, SOMEBODY, LATER) == []
    with database.read() as connection:
        states = [d.state for d in study_views.study_deliveries(connection, CHEST_XR)]
    assert states == [DeliveryState.SENT, DeliveryState.PENDING]


def test_a_rerun_queues_the_finished_job_and_keeps_its_first_start(database: Database) -> None:
    before = only_row(database, jobs, jobs.c.study_instance_uid == CHEST_CT)
    with database.write() as connection:
        assert actions.rerun_study(connection, CHEST_CT, None, SOMEBODY, LATER) == [before.id]
    row = only_row(database, jobs, jobs.c.id == before.id)
    assert (row.state, row.attempts, row.not_before, row.finished_at) == (JobState.QUEUED, 0, LATER, None)
    assert (row.started_at, row.fence, row.decision) == (before.started_at, before.fence, before.decision)
    study = only_row(database, studies, studies.c.study_instance_uid == CHEST_CT)
    assert (study.state, study.updated_at) == (StudyState.ANALYSING, LATER)
    assert last_line(database, CHEST_CT) == "The operator asked to analyse again: chest-ct."


def test_a_declined_study_can_be_run_again(database: Database) -> None:
    with database.write() as connection:
        assert len(actions.rerun_study(connection, GAP_CT, "chest-ct", SOMEBODY, LATER)) == 1


def test_a_running_analysis_is_not_run_again(database: Database) -> None:
    with database.write() as connection, pytest.raises(IllegalTransition, match="not finished"):
        actions.rerun_study(connection, ANALYSING, None, SOMEBODY, LATER)


def test_a_study_that_is_still_arriving_is_not_run_again(database: Database) -> None:
    with database.write() as connection:
        arriving = studies.c.study_instance_uid == CHEST_CT
        connection.execute(update(studies).where(arriving).values(state=StudyState.RECEIVING.value))
        with pytest.raises(IllegalTransition, match="RECEIVING"):
            actions.rerun_study(connection, CHEST_CT, None, SOMEBODY, LATER)
    assert only_row(database, jobs, jobs.c.study_instance_uid == CHEST_CT).state == JobState.DONE


@pytest.mark.parametrize(("study", "route"), [("1.2.3", None), (CHEST_CT, "brain"), (HOSTILE, None)])
def test_what_was_never_analysed_is_not_found(database: Database, study: str, route: str | None) -> None:
    with database.write() as connection, pytest.raises(NotFound):
        actions.rerun_study(connection, study, route, SOMEBODY, LATER)


def test_an_unknown_delivery_or_study_is_not_found(database: Database) -> None:
    with database.write() as connection:
        with pytest.raises(NotFound, match="9999"):
            actions.retry_delivery(connection, 9999, SOMEBODY, LATER)
        with pytest.raises(NotFound, match=r"1\.2\.3"):
            actions.retry_study(connection, "1.2.3", SOMEBODY, LATER)


@pytest.mark.parametrize("reason", [" ", "nul \0", "half \ud83d", "bell \a"])
def test_a_reason_that_nobody_can_read_is_refused_and_changes_nothing(index: Database, reason: str) -> None:
    """A database would fail at one, PostgreSQL at more than SQLite; the asker is told instead."""
    arrive(index, instance("1"))
    with index.write() as connection, pytest.raises(IllegalTransition, match="reason"):
        actions.withdraw_study(connection, STUDY, (reason, None), SOMEBODY, LATER)

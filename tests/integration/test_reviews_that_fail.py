"""Decisions that no report can tell, as the index has them: on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, update

from dicom_node.core.entities import DecisionState, JobState, ResultState, ReviewState
from dicom_node.index.database import Database
from dicom_node.index.decided.reviews import (
    ClaimedReview,
    claim_review,
    give_review_up,
    let_review_fall,
    put_off_review,
)
from dicom_node.index.tables import jobs, notifications, results, reviews, subscribers
from dicom_node.index.transitions import Change, insert_result, insert_review, move_result, move_review
from dicom_node.index.views.study import result
from dicom_node.index.views.waiting import WaitingGroup, waiting
from tests.support.results.arrivals import STUDY, after, arrive, cut_study, instance

WHY = "2 of the images that the result was made from are not there any more."


@pytest.fixture
def claimed(index: Database) -> ClaimedReview:
    """A study whose result somebody has accepted, and the claim of whoever makes the reviewed result."""
    arrive(index, instance("1"))
    cut_study(index)
    with index.write() as connection:
        connection.execute(update(jobs).values(state=JobState.DONE, job_key="a"))
        connection.execute(subscribers.insert().values(name="hook", routes=[], include=[]))
        insert_result(
            connection, "a", JobState.DONE, after(70), study_instance_uid=STUDY, revision=1, route="chest-ct",
            model="ct-lung-density", sequence=1, summary={"findings": []},
        )  # fmt: skip
    decide(index)
    return claim(index)


def decide(index: Database, state: DecisionState = DecisionState.DECIDED) -> int:
    told = dict.fromkeys(("reviewer_account", "reviewer_organization", "reviewer_identifier", "text", "digest"), "")
    with index.write() as connection:
        return insert_review(
            connection, "a", state, Change(after(80)), study_instance_uid=STUDY, revision=1, route="chest-ct",
            model="ct-lung-density", review_state=ReviewState.ACCEPTED, reasons=[], findings=[],
            reviewer_name="Weiss^Anna", **told,
        )  # fmt: skip


def claim(index: Database) -> ClaimedReview:
    with index.write() as connection:
        found = claim_review(connection, "here", after(81), 60.0)
    assert found is not None
    return found


def give_up(index: Database, claimed: ClaimedReview) -> None:
    with index.write() as connection:
        give_review_up(connection, claimed, WHY, after(82))


def state_of(index: Database) -> tuple[str, str]:
    """Return what the result says a person has said of it, and whether it stands."""
    with index.read() as connection:
        row = connection.execute(select(results)).one()
    return row.review_state, row.standing


def told(index: Database) -> Sequence[str]:
    with index.read() as connection:
        rows = connection.execute(select(notifications.c.body).order_by(notifications.c.id)).scalars().all()
    return [str(json.loads(one)["type"]) for one in rows]


def waits(index: Database) -> list[WaitingGroup]:
    with index.read() as connection:
        return [one for one in waiting(connection, after(0)) if one.kind == "REVIEW"]


def test_a_result_whose_review_was_given_up_stands_unreviewed_and_says_why(
    index: Database, claimed: ClaimedReview
) -> None:
    assert state_of(index) == ("ACCEPTED", "CURRENT")
    give_up(index, claimed)
    assert state_of(index) == ("UNREVIEWED", "CURRENT")
    with index.read() as connection:
        row, seen = connection.execute(select(reviews)).one(), result(connection, "a")
    assert (row.state, row.note) == ("FAILED", WHY)
    assert (seen.review_failed, seen.reviewer, seen.reviewed_at) == (WHY, "", None)
    assert told(index)[-1] == "review.failed"


def test_a_result_that_was_replaced_before_its_review_was_told_is_not_called_reviewed(
    index: Database, claimed: ClaimedReview
) -> None:
    with index.write() as connection:
        move_result(connection, results.c.job_key == "a", ResultState.SUPERSEDED, "A late image.", Change(after(82)))
        let_review_fall(connection, claimed, "A late image.", after(82))
    assert state_of(index) == ("UNREVIEWED", "SUPERSEDED")
    assert told(index)[-1] == "review.fallen"


def test_what_a_second_reader_objects_to_was_never_told_and_is_not_told_to_have_fallen(
    index: Database, claimed: ClaimedReview
) -> None:
    give_up(index, claimed)
    before = told(index)
    decide(index, DecisionState.AWAITS_SECOND)
    with index.write() as connection:
        move_review(connection, reviews.c.state == "AWAITS_SECOND", DecisionState.FALLEN, Change(after(83)))
    assert told(index) == before
    assert state_of(index) == ("UNREVIEWED", "CURRENT")


def test_a_person_can_decide_anew_after_a_review_was_given_up(index: Database, claimed: ClaimedReview) -> None:
    give_up(index, claimed)
    decide(index)
    assert state_of(index) == ("ACCEPTED", "CURRENT")
    with index.read() as connection:
        assert result(connection, "a").review_failed == ""
    assert claim(index).attempt == 1


def test_the_overview_names_a_decision_while_it_waits_and_after_it_was_given_up(
    index: Database, claimed: ClaimedReview
) -> None:
    (turn,) = waits(index)
    assert (turn.place, turn.state, turn.count, turn.studies) == ("chest-ct", "DECIDED", 1, (STUDY,))
    assert turn.tries == 1, "it is being made"
    with index.write() as connection:
        put_off_review(connection, claimed, WHY, after(90))
        assert result(connection, "a").review_waits == WHY
    (later,) = waits(index)
    assert (later.state, later.cause) == ("DECIDED", WHY)
    assert (later.tries, later.next_try_at) == (1, after(90))
    give_up(index, claim_again(index))
    (failed,) = waits(index)
    assert (failed.state, failed.cause) == ("FAILED", WHY)
    assert (failed.tries, failed.next_try_at) == (2, None)
    assert "decide again" in failed.advice
    decide(index, DecisionState.AWAITS_SECOND)
    (second,) = waits(index)
    assert second.state == "AWAITS_SECOND", "what was decided anew is not told to have failed"


def claim_again(index: Database) -> ClaimedReview:
    with index.write() as connection:
        found = claim_review(connection, "here", after(91), 60.0)
    assert found is not None
    return found


def test_of_what_does_not_stand_any_more_nothing_waits(index: Database, claimed: ClaimedReview) -> None:
    give_up(index, claimed)
    with index.write() as connection:
        move_result(connection, results.c.job_key == "a", ResultState.SUPERSEDED, "A late image.", Change(after(83)))
    assert waits(index) == []


def test_an_upgrade_says_unreviewed_of_results_whose_decision_has_fallen(
    index: Database, claimed: ClaimedReview
) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0020")
        connection.execute(update(reviews).values(state="FALLEN"))
    assert state_of(index) == ("ACCEPTED", "CURRENT")
    index.migrate()
    assert state_of(index) == ("UNREVIEWED", "CURRENT")
    decide(index)
    index.migrate()
    assert state_of(index) == ("ACCEPTED", "CURRENT")


def test_a_failed_decision_of_a_newer_node_falls_when_the_schema_goes_back(
    index: Database, claimed: ClaimedReview
) -> None:
    give_up(index, claimed)
    decide(index)
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0020")
    with index.read() as connection:
        states = list(connection.execute(select(reviews.c.state).order_by(reviews.c.id)).scalars())
    assert states == ["FALLEN", "DECIDED"]

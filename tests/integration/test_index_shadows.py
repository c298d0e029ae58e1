"""Shadow routes in the index, on SQLite and on PostgreSQL: compared, never delivered, never in the way."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.core.entities import ArtifactKind, Destination, JobOutcome, JobState, MediaType, StudyState
from dicom_node.index import results
from dicom_node.index.database import Database
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.shadows import shadow_reports
from dicom_node.index.studies import NewJob, add_jobs, load_study
from dicom_node.index.tables import deliveries, events, studies
from dicom_node.index.transitions import Change, move_study
from tests.support.results.arrivals import STUDY, after, arrive, artifact, claimed, instance

PACS = Destination(name="pacs", takes=frozenset({MediaType.DICOM}))


@pytest.fixture
def queued(index: Database) -> Database:
    """A study with a job of the route ``live`` and one of its shadow, in this order."""
    arrive(index, instance("1"))
    with index.write() as connection:
        study = load_study(connection, STUDY, lock=True)
        assert study is not None
        add_jobs(connection, study, [new_job("live"), new_job("next", shadow_of="live")], after(60))
        move_study(connection, STUDY, StudyState.COMPLETE, Change(after(60)))
    return index


def new_job(route: str, shadow_of: str = "") -> NewJob:
    return NewJob(
        route=route, model=f"model-of-{route}", series_instance_uid="1.2.3", study_partial=False, decision={},
        reason="Quiet.", shadow_of=shadow_of,
    )  # fmt: skip


def answered(index: Database, job: ClaimedJob, presence: str, state: JobState = JobState.DONE) -> None:
    finding: dict[str, Any] = {"key": "p", "label": "Pneumonia", "presence": presence, "probability": 0.9,
                               "measurements": []}  # fmt: skip
    summary = {"state": state, "findings": [finding], "finished_at": after(90).isoformat(), "notes": []}
    outcome = JobOutcome(
        state=state, artifacts=(artifact(job.route, ArtifactKind.STRUCTURED_REPORT, 1),), summary=summary
    )
    destinations = () if job.shadow_of else (PACS,)
    with index.write() as connection:
        assert results.save_result(connection, job, f"key-{job.route}", outcome, destinations)


def told(index: Database, kind: str) -> list[str]:
    with index.read() as connection:
        return list(connection.scalars(select(events.c.text).where(events.c.kind == kind).order_by(events.c.id)))


def state_of_study(index: Database) -> str:
    with index.read() as connection:
        return str(connection.scalar(select(studies.c.state)))


def test_the_study_is_reported_when_the_live_route_is_and_the_shadow_is_compared_when_it_comes(
    queued: Database,
) -> None:
    live, shadow = claimed(queued, "a:1"), claimed(queued, "b:1")
    assert (live.shadow_of, shadow.shadow_of) == ("", "live")

    answered(queued, live, "PRESENT")
    assert state_of_study(queued) == StudyState.REPORTED
    assert told(queued, "shadow") == []

    answered(queued, shadow, "ABSENT")
    assert state_of_study(queued) == StudyState.REPORTED
    assert told(queued, "shadow") == [
        "Shadow route next differs from live. Pneumonia: PRESENT (0.90) live, ABSENT (0.90) in the shadow."
    ]
    with queued.read() as connection:
        assert set(connection.scalars(select(deliveries.c.job_key))) == {"key-live"}


def test_a_shadow_that_is_first_waits_for_the_live_route_to_be_compared(queued: Database) -> None:
    live, shadow = claimed(queued, "a:1"), claimed(queued, "b:1")

    answered(queued, shadow, "PRESENT")
    assert state_of_study(queued) == StudyState.ANALYSING
    answered(queued, live, "PRESENT")

    assert state_of_study(queued) == StudyState.REPORTED
    assert [text.split(".")[0] for text in told(queued, "shadow")] == ["Shadow route next agrees with live"]


def test_a_shadow_that_succeeds_hides_no_failure_of_the_live_route(queued: Database) -> None:
    live, shadow = claimed(queued, "a:1"), claimed(queued, "b:1")

    answered(queued, shadow, "PRESENT")
    answered(queued, live, "ABSENT", JobState.FAILED)

    assert state_of_study(queued) == StudyState.FAILED


def test_the_report_counts_agreement_and_names_the_studies_that_differ(queued: Database) -> None:
    live, shadow = claimed(queued, "a:1"), claimed(queued, "b:1")
    answered(queued, live, "PRESENT")
    with queued.read() as connection:
        assert shadow_reports(connection) == []
    answered(queued, shadow, "ABSENT")

    with queued.read() as connection:
        (report,) = shadow_reports(connection)

    assert (report.route, report.shadow_of, report.live_model) == ("next", "live", "model-of-live")
    assert (report.compared, report.agreed) == (1, 0)
    assert [one.study_instance_uid for one in report.disagreements] == [STUDY]

"""What waits is counted right on either database, with its age, and under no name that the settings do not have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from dicom_node.core.entities import DeliveryState, JobState, StudyState
from dicom_node.core.metrics import table
from dicom_node.core.metrics.tally import TALLY
from dicom_node.index.database import Database
from dicom_node.index.outbox.destinations import suspend
from dicom_node.index.tables import jobs, notifications, studies
from dicom_node.index.views.gauges import gauges

_NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _settings() -> None:
    TALLY.allow("model", ["ct-lung-density"])
    TALLY.allow("destination", ["pacs", "hook"])


def test_what_waits_is_counted_and_its_age_told(index: Database) -> None:
    with index.write() as connection:
        for number, state in enumerate((StudyState.RECEIVING, StudyState.RECEIVING, StudyState.ANALYSING)):
            at = _NOW - timedelta(seconds=100 * (number + 1))
            connection.execute(insert(studies).values(
                study_instance_uid=f"1.2.{number}", revision=1, state=state, first_received_at=at, last_received_at=at,
                updated_at=at,
            ))  # fmt: skip
        for number, model in enumerate(("ct-lung-density", "gone")):
            at = _NOW - timedelta(seconds=30 * (number + 1))
            connection.execute(insert(jobs).values(
                study_instance_uid="1.2.2", revision=1, route=model, model=model, state=JobState.QUEUED, decision={},
                not_before=at, created_at=at,
            ))  # fmt: skip
        for number, to in enumerate(("hook", "hook", "gone")):
            at = _NOW - timedelta(seconds=50 - number)
            connection.execute(insert(notifications).values(
                event_id=str(number), destination=to, type="study.complete", urgency=2, body="{}",
                state=DeliveryState.PENDING, next_attempt_at=at, created_at=at,
            ))  # fmt: skip
        suspend(connection, "pacs", "Its token is refused.", _NOW)
        found = {(one.metric, one.labels): one.amount for one in gauges(connection, _NOW, ["pacs", "hook"], [])}

    assert found[table.STUDIES.name, ("RECEIVING",)] == 2
    assert found[table.STUDIES.name, ("REPORTED",)] == 0
    assert found[table.STUDY_OLDEST.name, ()] == 200
    assert found[table.JOBS.name, ("QUEUED",)] == 2
    assert found[table.JOBS_OPEN.name, ("ct-lung-density", "QUEUED")] == 1
    assert found[table.JOBS_OPEN.name, ("other", "QUEUED")] == 1
    assert found[table.JOB_OLDEST.name, ("other",)] == 60
    assert found[table.DELIVERIES_OPEN.name, ("hook", "PENDING")] == 2
    assert found[table.DELIVERY_OLDEST.name, ("hook",)] == 50
    assert found[table.DELIVERIES_OPEN.name, ("other", "PENDING")] == 1
    assert found[table.DELIVERIES_OPEN.name, ("pacs", "PARKED")] == 0
    assert found[table.DESTINATION_SUSPENDED.name, ("pacs", "node")] == 1
    assert found[table.DESTINATION_SUSPENDED.name, ("pacs", "person")] == 0

"""A patient's history by the API: whose studies are told, in which order, and that it is written down who asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.api.parts import ApiParts
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import JobState, PatientNumber
from dicom_node.core.errors import AuditUnavailable
from dicom_node.index.database import Database
from dicom_node.index.received.patient_corrections import PatientChange, follow_patient
from dicom_node.index.results import save_result
from dicom_node.roles.settings import SiteSettings
from tests.support.api_client import Client, client_of, parts_over
from tests.support.results.arrivals import after, arrive, claimed, cut_study, instance, outcome
from tests.support.results.rows import Rows
from tests.support.results.seeded import XR_MODEL

HOSP, CLINIC = "HOSP", "CLINIC"


@dataclass
class Trail:
    """A trail that can be looked at, and that can break."""

    events: list[AuditedEvent] = field(default_factory=list)
    is_broken: bool = False

    def record(self, event: AuditedEvent) -> None:
        if self.is_broken:
            raise AuditUnavailable("The audit trail cannot be written.")
        self.events.append(event)


@pytest.fixture
def trail() -> Trail:
    return Trail()


@pytest.fixture
def client(index: Database, tmp_path: Path, trail: Trail) -> Client:
    parts: ApiParts = parts_over(index, tmp_path)
    data = {"node": {"data_dir": tmp_path, "min_free_mb": 0}, "hl7": {"patient_authority": HOSP}}
    return client_of(replace(parts, audit=trail, settings=SiteSettings.model_validate(data)))


def came(index: Database, study: str, at_s: float, *number: str) -> None:
    arrive(index, replace(instance(study, study=study, at_s=at_s), patient=PatientNumber(*number)))


def told(client: Client, patient_id: str, **asked: Any) -> list[str]:
    answer = client.get(f"/api/v1/patients/{patient_id}/history", params=asked)
    assert answer.status_code == 200, answer.text
    return [one["study"]["study_instance_uid"] for one in answer.json()]


def test_equal_numbers_of_two_issuers_are_two_people(index: Database, client: Client) -> None:
    came(index, "1.1", 0, "A")  # names no issuer: the site's own
    came(index, "1.2", 10, "A", HOSP)
    came(index, "1.3", 20, "A", CLINIC)
    assert told(client, "A") == told(client, "A", issuer=HOSP) == ["1.2", "1.1"]
    assert told(client, "A", issuer=CLINIC) == ["1.3"]
    assert told(client, "B") == []


def test_numbers_that_were_merged_are_one_persons(index: Database, client: Client) -> None:
    came(index, "1.1", 0, "A")
    came(index, "1.2", 10, "B")
    change = PatientChange(moves=[(PatientNumber("A", HOSP), PatientNumber("B", HOSP))], stated=[], authority=HOSP)
    with index.write() as connection:
        follow_patient(connection, change, after(100))
    assert told(client, "A") == told(client, "B") == ["1.2", "1.1"]


def test_each_study_has_its_results_and_pages_are_joined(index: Database, client: Client) -> None:
    for number in range(3):
        came(index, f"1.{number}", number, "A/1")
    cut_study(index, study="1.2")
    job = claimed(index)
    with index.write() as connection:
        assert save_result(connection, job, "k" * 64, outcome("k"), [])
    answer = client.get("/api/v1/patients/A%2F1/history", params={"limit": 2})
    first = answer.json()
    assert [one["job_key"] for one in first[0]["results"]] == ["k" * 64]
    assert first[1]["results"] == []
    rest = client.get(answer.links["next"]["url"])
    assert [one["study"]["study_instance_uid"] for one in first + rest.json()] == ["1.2", "1.1", "1.0"]
    assert "link" not in rest.headers


def test_each_earlier_result_tells_who_reviewed_it_and_when(index: Database, client: Client, tmp_path: Path) -> None:
    came(index, "1.1", 0, "A")
    with index.write() as connection:
        rows = Rows(connection, tmp_path)
        for name in ("accepted", "unread"):
            rows.result("1.1", name, XR_MODEL, JobState.DONE)
        rows.accepted("1.1", "accepted", XR_MODEL, "Weiss^Anna", 60)
    [study] = client.get("/api/v1/patients/A/history").json()
    said = {
        one["route"]: (one["review_state"], one["reviewer"], one["reviewed_at"], one["current"])
        for one in study["results"]
    }
    assert said == {
        "accepted": ("ACCEPTED", "Weiss^Anna", "2026-03-14T09:29:00Z", True),
        "unread": ("UNREVIEWED", "", None, True),
    }


def test_who_asks_is_written_down_and_nothing_is_told_where_that_fails(
    index: Database, client: Client, trail: Trail
) -> None:
    came(index, "1.1", 0, "A", CLINIC)
    told(client, "A", issuer=CLINIC)
    [event] = trail.events
    assert (event.act, event.actor.name, event.address) == (AuditedAct.HISTORY_READ, "api-token", "127.0.0.1")
    assert (event.patient_id, event.issuer_of_patient_id) == ("A", CLINIC)
    trail.is_broken = True
    assert client.get("/api/v1/patients/A/history").status_code == 503
    assert client.stranger().get("/api/v1/patients/A/history").status_code == 401

"""Analyses on their way, as the API tells of them: listed, looked at, and followed while they go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from dicom_node.api.parts import ApiParts
from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.entities import JobStage, JobState
from dicom_node.core.principal import NODE
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.decided.actions import rerun_study
from dicom_node.index.jobs import ClaimedJob, claim, finish, note_stage
from dicom_node.index.views.jobs import job_line
from tests.support.api_client import TOKEN, Client, client_of, parts_over, seeded_database
from tests.support.results.arrivals import STUDY, arrive, cut_study, instance
from tests.support.results.rows import NOW, key_of
from tests.support.results.seeded import CHEST_CT

LEASE_S = 60.0


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[ApiParts]:
    database = seeded_database(tmp_path)
    yield parts_over(database, tmp_path)
    database.close()


@pytest.fixture
def client(parts: ApiParts) -> Client:
    return client_of(parts)


def claimed(connection: Connection) -> ClaimedJob:
    """Claim the job that waits, as a worker does."""
    job = claim(connection, "w", datetime.now(UTC), LEASE_S)
    assert job is not None
    return job


def test_jobs_are_listed_by_pages_that_a_link_joins(client: Client) -> None:
    everything = client.get("/api/v1/jobs").json()
    assert len(everything) > 2
    assert "link" not in client.get("/api/v1/jobs").headers
    paged, answer = [], client.get("/api/v1/jobs", params={"limit": 2})
    while answer.links:
        paged += answer.json()
        answer = client.get(answer.links["next"]["url"])
    assert paged + answer.json() == everything
    assert [one["id"] for one in everything] == sorted((one["id"] for one in everything), reverse=True)


def test_jobs_are_listed_of_one_state_and_of_one_study(client: Client) -> None:
    assert {one["state"] for one in client.get("/api/v1/jobs", params={"state": "DONE"}).json()} == {"DONE"}
    [of_ct] = client.get("/api/v1/jobs", params={"study": CHEST_CT}).json()
    assert of_ct["job_key"] == key_of("chest-ct")
    assert client.get("/api/v1/jobs", params={"study": "1.2.3"}).json() == []
    assert client.get("/api/v1/jobs", params={"study": "x"}).status_code == 422


def test_a_job_whose_result_is_owed_is_on_its_way_to_the_destinations(client: Client) -> None:
    [line] = client.get("/api/v1/jobs", params={"study": CHEST_CT}).json()
    job = client.get(f"/api/v1/jobs/{line['id']}").json()
    assert (job["state"], job["stage"], job["route"], job["model"]) == (
        "DONE", "delivering", "chest-ct", "ct-lung-density",
    )  # fmt: skip
    assert job["progress"] == {"step": 6, "steps": 7, "settled": 3, "deliveries": 4}
    assert client.get("/api/v1/jobs/999").status_code == 404


def test_the_stages_of_a_job_are_told_while_it_runs(index: Database) -> None:
    arrive(index, instance())
    cut_study(index)
    with index.write() as connection:
        job = claimed(connection)
        seen = [job_line(connection, job.id).stage]
        for stage in (JobStage.LOADING, JobStage.RUNNING, JobStage.BUILDING, JobStage.SAVING):
            note_stage(connection, job, stage)
            seen.append(job_line(connection, job.id).stage)
        finish(connection, job, JobState.DONE, ("k", "", ""), NOW)
        note_stage(connection, job, JobStage.RUNNING)  # too late: it is nobody's job any more
        seen.append(job_line(connection, job.id).stage)
    assert seen == ["planning", "loading", "running", "building", "saving", "finished"]


def test_jobs_of_before_stages_were_told_are_shown_and_go_on(index: Database) -> None:
    arrive(index, instance())
    cut_study(index)
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        job = claimed(connection)
        config.attributes["connection"] = connection
        command.downgrade(config, "0014")
    assert index.schema_version() == "0014"
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    with index.write() as connection:
        line = job_line(connection, job.id)
        assert (line.study_instance_uid, line.state, line.stage) == (STUDY, JobState.RUNNING, JobStage.PLANNING)
        note_stage(connection, job, JobStage.SAVING)
        assert job_line(connection, job.id).stage is JobStage.SAVING


# --- followed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(parts: ApiParts) -> Iterator[ApiServer]:
    server = ApiServer(create_app(parts), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def told(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield id and content of each `job` event."""
    known = ""
    for line in lines:
        if line.startswith("id: "):
            known = line.removeprefix("id: ")
        if line == "event: job":
            yield known, json.loads(next(lines).removeprefix("data: "))


def test_a_job_is_followed_to_its_end_and_not_told_twice(server: ApiServer, parts: ApiParts) -> None:
    database = parts.database
    with database.write() as connection:
        rerun_study(connection, CHEST_CT, None, NODE, datetime.now(UTC))
        job = claimed(connection)
    address = f"/api/v1/jobs/{job.id}/events"
    base, bearer = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=base, headers=bearer, timeout=60) as client:
        with client.stream("GET", address) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            heard = told(stream.iter_lines())
            first_id, first = next(heard)
            with database.write() as connection:
                note_stage(connection, job, JobStage.RUNNING)
            _, second = next(heard)
            with database.write() as connection:
                finish(connection, job, JobState.DONE, ("", "", ""), NOW)
            last_id, last = next(heard)
            assert list(heard) == []
        assert [(one["state"], one["stage"]) for one in (first, second, last)] == [
            ("RUNNING", "planning"), ("RUNNING", "running"), ("DONE", "finished"),
        ]  # fmt: skip
        assert last == client.get(f"/api/v1/jobs/{job.id}").json()
        assert client.get(address, headers={"Last-Event-ID": last_id}).status_code == 204
        with client.stream("GET", address, headers={"Last-Event-ID": first_id}) as stream:
            assert [id_ for id_, _ in told(stream.iter_lines())] == [last_id]
        assert client.get("/api/v1/jobs/999/events").status_code == 404

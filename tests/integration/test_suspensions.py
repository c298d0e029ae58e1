"""Destinations and routes that a person suspends: what is due waits, is told why, and goes on when a person says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select

from dicom_node.core.entities import DeliveryState, JobState, Route, StudyState
from dicom_node.core.errors import CredentialsRefused, IllegalTransition
from dicom_node.index import jobs
from dicom_node.index.database import Database
from dicom_node.index.decided import actions, suspensions
from dicom_node.index.outbox import destinations
from dicom_node.index.tables import deliveries, events, held_studies, studies
from dicom_node.index.tables import jobs as jobs_table
from dicom_node.roles.settings import SiteSettings
from tests.integration.test_index_sweeps import CHEST, aged, bring, rows, sweep
from tests.integration.test_index_work import EHR, PACS, queued, save
from tests.integration.test_outbox import KINDS as KINDS_OWED
from tests.integration.test_outbox import Owed, Switch, owed, uid
from tests.support.api_client import client_of, parts_over, seeded_database
from tests.support.results.rows import SOMEBODY

__all__ = ["owed"]

OTHER = Route(name="other", model="m", destinations=(), when=({"modality": "CT"},), quiet_period_s=30)


def now() -> datetime:
    return datetime.now(UTC)


def lines(index: Database, kind: str) -> list[str]:
    return [row.text for row in rows(index, events) if row.kind == kind]


# --- destinations ------------------------------------------------------------------------------------------------


def suspend(one: Owed) -> None:
    with one.database.write() as connection:
        suspensions.suspend_destination(connection, "pacs", "maintenance", SOMEBODY, now())


def test_what_a_person_has_suspended_is_not_even_asked_and_goes_on_by_a_person_only_the_urgent_first(
    owed: Owed,
) -> None:
    owed.add("s000", "s001")
    owed.add("urgent", urgency=0)
    suspend(owed)
    pacs = Switch()
    worker = owed.worker(pacs, pacs.reach)
    for _ in range(3):
        assert not worker._step()
    assert (pacs.tried, pacs.asked, owed.states()) == (0, 0, {DeliveryState.PENDING: 6})
    with owed.database.write() as connection:
        assert not destinations.resume(connection, "pacs", now())  # what the node does when something was taken
        assert not destinations.suspend(connection, "pacs", "HTTP 401.", now())
        with pytest.raises(IllegalTransition, match=r"suspended by .* maintenance\. .*resume pacs"):
            actions.retry_destination(connection, "pacs", SOMEBODY, now())
        found = destinations.suspension_of(connection, "pacs")
    assert found is not None
    assert (found.by, found.reason) == (SOMEBODY.name, "maintenance")

    with owed.database.write() as connection:
        suspensions.resume_destination(connection, "pacs", SOMEBODY, now())
        with pytest.raises(IllegalTransition, match="is not suspended"):
            suspensions.resume_destination(connection, "pacs", SOMEBODY, now())
    while worker._step():
        pass
    assert owed.states() == {DeliveryState.SENT: 6}
    with owed.database.read() as connection:
        query = select(deliveries.c.artifact_uid).order_by(deliveries.c.sent_at, deliveries.c.id)
        assert set(connection.execute(query).scalars().all()[:2]) == {uid("urgent", kind) for kind in KINDS_OWED}
    told = lines(owed.database, suspensions.SUSPENDED)
    assert [text.count("suspended destination pacs") for text in told] == [1, 1, 1, 0, 0, 0]


def test_a_persons_suspension_takes_the_place_of_the_nodes_own_and_is_kept_by_a_start(owed: Owed) -> None:
    owed.add("s000")
    refusing = Switch(CredentialsRefused("HTTP 401."))
    assert not owed.worker(refusing).deliver_once()
    suspend(owed)
    good = Switch()
    started = owed.worker(good, good.reach)  # as after a start: one that the node itself suspended is asked at once
    assert not started._step()
    assert good.tried == 0
    with owed.database.read() as connection:
        found = destinations.suspension_of(connection, "pacs")
    assert found is not None
    assert found.by == SOMEBODY.name


def test_a_result_that_is_made_meanwhile_says_who_does_not_get_it_yet(index: Database) -> None:
    queued(index)
    with index.write() as connection:
        suspensions.suspend_destination(connection, "pacs", "maintenance", SOMEBODY, now())
        job = jobs.claim(connection, "me", now(), 60)
        assert job is not None
    assert save(index, job, "a", PACS, EHR)
    [told] = lines(index, suspensions.SUSPENDED)
    assert f"pacs is suspended by {SOMEBODY.name}" in told
    assert told.endswith("maintenance. What is owed to it waits.")


# --- routes ------------------------------------------------------------------------------------------------------


def set_route(index: Database, name: str, *, goes_on: bool) -> None:
    with index.write() as connection:
        if goes_on:
            suspensions.resume_route(connection, name, SOMEBODY, now())
        else:
            suspensions.suspend_route(connection, name, "too many false alerts", SOMEBODY, now())


def test_a_study_that_only_a_suspended_route_wants_waits_and_is_analysed_when_it_goes_on(index: Database) -> None:
    bring(index, aged(60))
    set_route(index, CHEST.name, goes_on=False)
    sweep(index)
    sweep(index)
    [study] = rows(index, studies)
    assert (study.state, rows(index, jobs_table)) == (StudyState.COMPLETE, [])
    assert f"suspended by {SOMEBODY.name}" in study.reason
    assert "too many false alerts" in study.reason
    assert len(lines(index, suspensions.SUSPENDED)) == 1  # said once, however often the sweep looks

    set_route(index, CHEST.name, goes_on=True)
    assert sweep(index) == 1
    [job] = rows(index, jobs_table)
    assert (job.route, job.state, rows(index, held_studies)) == (CHEST.name, JobState.QUEUED, [])
    assert "Suspended no more: chest-ct" in " ".join(lines(index, "decided-anew"))


def test_other_routes_go_on_and_their_answer_is_not_made_twice(index: Database) -> None:
    bring(index, aged(60))
    set_route(index, CHEST.name, goes_on=False)
    sweep(index, CHEST, OTHER)
    with index.write() as connection:
        job = jobs.claim(connection, "me", now(), 60)
        assert job is not None
        assert job.route == OTHER.name
        assert jobs.finish(connection, job, JobState.NOT_ANALYSABLE, ("", "X", "no answer"), now())
    [study] = rows(index, studies)
    assert (study.state, study.reason) == (StudyState.ANALYSING, "Waits for a suspended route: chest-ct.")

    set_route(index, CHEST.name, goes_on=True)
    sweep(index, CHEST, OTHER)
    assert {row.route: row.state for row in rows(index, jobs_table)} == {
        OTHER.name: JobState.NOT_ANALYSABLE, CHEST.name: JobState.QUEUED,
    }  # fmt: skip


def test_what_a_route_had_queued_waits_and_what_it_had_begun_ends(index: Database) -> None:
    bring(index, aged(60))
    sweep(index)
    set_route(index, CHEST.name, goes_on=False)
    with index.write() as connection:
        assert jobs.claim(connection, "me", now(), 60) is None
    assert "its analysis waits" in lines(index, suspensions.SUSPENDED)[0]
    set_route(index, CHEST.name, goes_on=True)
    with index.write() as connection:
        job = jobs.claim(connection, "me", now(), 60)
        assert job is not None
    set_route(index, CHEST.name, goes_on=False)
    with index.write() as connection:
        assert jobs.finish(connection, job, JobState.DONE, ("k", "", ""), now())


def test_a_late_image_of_a_held_study_is_held_with_it(index: Database) -> None:
    bring(index, aged(60))
    set_route(index, CHEST.name, goes_on=False)
    sweep(index)
    bring(index, aged(40, "2"))
    sweep(index)
    [study] = rows(index, studies)
    assert (study.revision, study.state) == (2, StudyState.COMPLETE)
    set_route(index, CHEST.name, goes_on=True)
    sweep(index)
    assert [(row.revision, row.route) for row in rows(index, jobs_table)] == [(2, CHEST.name)]


def test_a_study_held_for_a_route_that_is_gone_from_the_settings_is_let_go(index: Database) -> None:
    bring(index, aged(60))
    set_route(index, CHEST.name, goes_on=False)
    sweep(index)
    sweep(index, OTHER)
    assert [row.route for row in rows(index, jobs_table)] == [OTHER.name]


def test_a_route_is_suspended_and_resumed_once_and_with_a_reason(index: Database) -> None:
    with index.write() as connection:
        with pytest.raises(IllegalTransition, match="reason"):
            suspensions.suspend_route(connection, "chest-ct", " ", SOMEBODY, now())
        with pytest.raises(IllegalTransition, match="not suspended"):
            suspensions.resume_route(connection, "chest-ct", SOMEBODY, now())
    set_route(index, "chest-ct", goes_on=False)
    with pytest.raises(IllegalTransition, match=r"suspended by .* too many false alerts"):
        set_route(index, "chest-ct", goes_on=False)


# --- by the API --------------------------------------------------------------------------------------------------


def test_the_api_suspends_with_a_reason_says_who_did_and_resumes(tmp_path: Path) -> None:
    database, woken = seeded_database(tmp_path), []
    parts = parts_over(database, tmp_path, wake=lambda: woken.append(None))
    pacs = {"name": "pacs", "kind": "folder", "path": "out"}
    settings = SiteSettings.model_validate({"node": parts.settings.node, "destination": [pacs]})
    client = client_of(replace(parts, settings=settings))
    try:
        for what, name in (("destinations", "pacs"), ("routes", "chest-ct")):
            at = f"/api/v1/{what}/{name}"
            assert client.post(f"{at}/suspend", json={}).status_code == 422
            assert client.post(f"/api/v1/{what}/nobody/suspend", json={"reason": "x"}).status_code == 404
            assert client.post(f"{at}/resume").status_code == 409
            [present] = [one for one in client.get(f"/api/v1/{what}").json() if one["name"] == name]
            seen = {"If-Match": f'"{present["version"]}"'}
            told = client.post(f"{at}/suspend", json={"reason": "maintenance"}, headers=seen).json()
            assert [told[key] for key in ("state", "suspended_by", "reason")] == [
                "SUSPENDED", "api-token", "maintenance",
            ]  # fmt: skip
            assert "maintenance" in client.post(f"{at}/suspend", json={"reason": "again"}).json()["detail"]
            late = client.post(f"{at}/suspend", json={"reason": "x"}, headers=seen)
            assert (late.status_code, "api-token suspended it" in late.json()["detail"]) == (412, True)
            assert "maintenance" in late.json()["detail"]
            assert client.get(f"/api/v1/{what}").json()[0]["since"]
            late = client.post(f"{at}/resume", headers=seen)
            assert (late.status_code, late.json()["title"]) == (412, "Changed meanwhile")
            assert client.post(f"{at}/resume").json()["state"] == "ACTIVE"
        assert client.post("/api/v1/destinations/pacs/suspend", json={"reason": "x"}).status_code == 200
        assert client.post("/api/v1/destinations/pacs/retry").status_code == 409
    finally:
        database.close()
    assert len(woken) == 2


# --- from before -------------------------------------------------------------------------------------------------


def test_a_destination_that_an_older_version_suspended_is_the_nodes_own_after_the_upgrade(index: Database) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        assert destinations.suspend(connection, "pacs", "HTTP 401.", now())
        config.attributes["connection"] = connection
        command.downgrade(config, "0018")
    assert index.schema_version() == "0018"
    index.migrate()
    with index.write() as connection:
        found = destinations.suspension_of(connection, "pacs")
        assert found is not None
        assert (found.by, found.reason) == ("", "HTTP 401.")
        assert destinations.resume(connection, "pacs", now())

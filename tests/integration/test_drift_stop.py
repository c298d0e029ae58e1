"""The stop rule: a route that drifts runs on and delivers nothing, until a named person restores it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from dicom_node.__main__ import main
from dicom_node.config.running import DriftSettings
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import IllegalTransition
from dicom_node.core.principal import NODE
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.drift.stops import restore_route, route_stops, stop_route
from dicom_node.index.drift.streams import drift_views
from dicom_node.index.shadows import shadow_reports
from dicom_node.index.tables import deliveries, jobs, results, stopped_routes
from dicom_node.operate.drift.looks import DriftLooks
from tests.integration.step_by_step_node import Site
from tests.integration.step_by_step_node import site as step_by_step_site
from tests.integration.test_drift_looks import BEGAN, REFERENCE, new_kernel
from tests.integration.test_retention import KeptAudit
from tests.integration.test_retention_shown import press
from tests.integration.test_status_page import browser, serving, shared_browser, sign_in
from tests.peers.browser import Browser
from tests.support.api_client import client_of, parts_over
from tests.support.results import analysis_examples as examples
from tests.support.results.arrivals import opened_database
from tests.support.results.drifted import ROUTE, fill
from tests.support.results.rows import SOMEBODY

__all__ = ["browser", "shared_browser"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    destinations = [{"kind": "folder", "name": "archive", "path": str(tmp_path / "archive")}]
    with step_by_step_site(tmp_path / "node", destinations) as one:
        yield one


def stop(database: Database, route: str = "chest") -> None:
    with database.write() as connection:
        assert stop_route(connection, route, ("It drifted.", {}), NODE, datetime.now(UTC))
        assert not stop_route(connection, route, ("It drifted again.", {}), NODE, datetime.now(UTC))


def restore(database: Database, route: str = "chest") -> None:
    with database.write() as connection:
        restore_route(connection, route, ("Dr. Ada", "new protocol validated"), datetime.now(UTC))


def archived(site: Site) -> set[str]:
    return {path.name for path in (site.folder.parent / "archive").glob("*")}


def rerun(site: Site, uid: str) -> None:
    with site.database.write() as connection:
        actions.rerun_study(connection, uid, None, SOMEBODY, datetime.now(UTC))
    site.settle()


def first_half() -> tuple[Dataset, ...]:
    images = examples.ct_volume()
    return images[: len(images) // 2]


def test_a_route_in_shadow_runs_and_keeps_its_results_and_delivers_nothing_until_it_is_restored(site: Site) -> None:
    stop(site.database)
    site.run(examples.ct_volume())
    (result,), (job,) = site.rows(results), site.rows(jobs)
    assert (result.standing, result.shadow_of, job.shadow_of, job.state) == ("CURRENT", "chest", "chest", "DONE")
    assert site.rows(deliveries) == []
    assert archived(site) == set()
    assert "nothing of it is delivered" in site.told("shadow")[0]
    with site.database.read() as connection:
        assert shadow_reports(connection) == [], "it is not compared with itself"
    rerun(site, result.study_instance_uid)
    assert archived(site) == set()
    restore(site.database)
    assert archived(site) == set(), "only what is asked for again goes out"
    rerun(site, result.study_instance_uid)
    (result,), (job,) = site.rows(results), site.rows(jobs)
    assert (result.standing, result.shadow_of, job.shadow_of) == ("CURRENT", "", "")
    assert archived(site)
    assert {row.state for row in site.rows(deliveries)} == {"SENT"}


def test_a_result_in_shadow_does_not_take_the_place_of_one_that_was_delivered_before(site: Site) -> None:
    site.run(first_half())
    delivered = archived(site)
    stop(site.database)
    site.run(examples.ct_volume()[len(first_half()) :])
    before, after = sorted(site.rows(results), key=lambda one: one.revision)
    assert (before.standing, before.shadow_of) == ("CURRENT", "")
    assert (after.standing, after.shadow_of, after.revision) == ("CURRENT", "chest", 2)
    assert archived(site) == delivered
    restore(site.database)
    rerun(site, after.study_instance_uid)
    before, after = sorted(site.rows(results), key=lambda one: one.revision)
    assert (before.standing, after.standing, after.shadow_of) == ("SUPERSEDED", "CURRENT", "")
    assert archived(site) > delivered


def test_what_is_queued_when_a_route_is_stopped_is_not_delivered_and_what_ends_after_it_was_restored_is(
    site: Site,
) -> None:
    site.receive(examples.ct_volume())
    stop(site.database)
    with site.database.write() as connection:
        connection.execute(update(jobs).values(shadow_of="chest"))
    restore(site.database)
    site.settle()
    assert archived(site)
    assert [row.shadow_of for row in site.rows(results)] == [""]


# --- the rule ------------------------------------------------------------------------------------------------------


def drifted_for_days(database: Database, **settings: object) -> KeptAudit:
    """Let a scanner drift, and look on seven days."""
    with database.write() as connection:
        fill(connection, BEGAN, range(REFERENCE + 7))
        fill(connection, BEGAN, range(REFERENCE + 7, REFERENCE + 14), new_kernel)
    given = {"reference_days": 28, "reference_results": 100, "stop": (ROUTE,), **settings}
    audit = KeptAudit()
    looks = DriftLooks(database, DriftSettings.model_validate(given), audit)
    for day in (REFERENCE, *range(REFERENCE + 7, REFERENCE + 14)):
        looks.run(BEGAN + timedelta(days=day, hours=1))
    return audit


def test_a_route_that_the_settings_name_is_stopped_on_the_third_day_of_drift_in_a_row(index: Database) -> None:
    audit = drifted_for_days(index)
    with index.read() as connection:
        (found,) = route_stops(connection)
        (view,) = drift_views(connection)
    began = min(one.since for one in view.drifting if one.since is not None)
    assert (found.route, found.since.date()) == (ROUTE, (began + timedelta(days=2)).date())
    assert "tag.ConvolutionKernel" in found.reason
    assert found.detail["features"] == ["tag.ConvolutionKernel"]
    (event,) = audit.events.values()
    assert (event.act, event.actor, event.detail["to"]) == (AuditedAct.ROUTE_CHANGED, NODE, "shadow")


@pytest.mark.parametrize("given", [{"stop": ()}, {"stop": ("another",)}, {"stop_on": "outputs"}])
def test_a_route_is_not_stopped_that_is_not_named_or_whose_outputs_do_not_drift(
    tmp_path: Path, given: dict[str, object]
) -> None:
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        drifted_for_days(database, **given)
        with database.read() as connection:
            assert route_stops(connection, every=True) == []


def test_a_restored_route_is_compared_anew_and_with_a_new_reference_if_the_change_was_meant(index: Database) -> None:
    drifted_for_days(index)
    restored_at = BEGAN + timedelta(days=REFERENCE + 14, hours=9)
    with index.write() as connection:
        restore_route(connection, ROUTE, ("Dr. Ada", "scanner repaired"), restored_at)
        (view,) = drift_views(connection, every=True)
        assert (view.comparisons, view.compared_from) == ((), BEGAN + timedelta(days=REFERENCE + 15))
        with pytest.raises(IllegalTransition, match="not in shadow"):
            restore_route(connection, ROUTE, ("Dr. Ada", "twice"), restored_at)
        assert stop_route(connection, ROUTE, ("Again.", {}), NODE, restored_at)
        with pytest.raises(IllegalTransition, match="eason"):
            restore_route(connection, ROUTE, ("Dr. Ada", " "), restored_at)
        restore_route(connection, ROUTE, ("Dr. Ada", "new kernel"), restored_at, new_reference=True)
        (view,) = drift_views(connection, every=True)
        assert (view.began_at, view.compared_from) == (BEGAN + timedelta(days=REFERENCE + 15), None)
        first, second = route_stops(connection, every=True)
        assert (first.restored_by, first.restored_reason, second.restored_reason) == (
            "Dr. Ada", "scanner repaired", "new kernel",
        )  # fmt: skip


# --- people --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Database]:
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        stop(database, ROUTE)
        yield database


def test_a_named_person_restores_a_route_by_the_command_line(
    stopped: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}"\n', encoding="utf-8")
    assert main(["drift", "--config", str(config)]) == 0
    assert f"dicom-node drift restore {ROUTE}" in capsys.readouterr().out
    arguments = ["drift", "restore", ROUTE, "--by", "Dr. Ada", "--reason", "validated", "--config", str(config)]
    assert main(arguments) == 0
    assert f"Restored: {ROUTE}" in capsys.readouterr().out
    with stopped.read() as connection:
        (row,) = connection.execute(select(stopped_routes)).all()
    assert row.restored_by.startswith("Dr. Ada (cli:")
    assert main(arguments) == 1
    assert "not in shadow" in capsys.readouterr().err
    assert main(["drift", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"streams": [], "stops": []}


def test_a_route_is_restored_by_the_api_with_a_reason(stopped: Database, tmp_path: Path) -> None:
    api = client_of(parts_over(stopped, tmp_path))
    (found,) = api.get("/api/v1/drift/stops").json()
    assert (found["route"], found["stopped_by"], found["reason"]) == (ROUTE, NODE.name, "It drifted.")
    at = f"/api/v1/drift/stops/{ROUTE}/restore"
    assert api.post(at, json={"reason": " "}).status_code == 422
    assert api.post(at, json={"reason": "validated", "new_reference": True}).json() == []
    assert api.post(at, json={"reason": "validated"}).status_code == 409
    (before,) = api.get("/api/v1/drift/stops", params={"every": True}).json()
    assert (before["restored_by"], before["restored_reason"]) == ("api-token", "validated")


def test_a_route_is_restored_on_the_page(stopped: Database, tmp_path: Path, browser: Browser) -> None:
    with serving(parts_over(stopped, tmp_path)) as address:
        sign_in(browser, address)
        browser.run("location.hash = '#/node'")
        browser.wait_for(f"document.querySelector('#restore-{ROUTE}')")
        assert "It drifted." in browser.run("document.querySelector('#drift').textContent")
        press(browser, f"restore-{ROUTE}", "validated")
        browser.wait_for(f"!document.querySelector('#restore-{ROUTE}')")
    with stopped.read() as connection:
        assert route_stops(connection) == []

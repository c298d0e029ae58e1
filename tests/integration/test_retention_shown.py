"""Retention as people meet it: by the command line, the API, the page and the doctor; and an index from before it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select

from dicom_node.__main__ import main
from dicom_node.core.entities import KeptKind
from dicom_node.core.errors import SettingsError
from dicom_node.doctor.machine import check_forecast
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.retention import deletions as steps
from dicom_node.index.retention.disk import keep_sample
from dicom_node.index.retention.facts import facts_of
from dicom_node.index.tables import artifacts, audit_records, deletions, disk_samples, results, studies
from dicom_node.index.transitions import mark_deletion
from dicom_node.operate.retention.orphans import find_orphans, remove_orphans
from dicom_node.roles.settings import load_settings
from tests.integration.step_by_step_node import Site, site
from tests.integration.test_retention import IMAGES, UID, arrive
from tests.integration.test_status_page import all_listed, browser, serving, shared_browser, show, sign_in
from tests.peers.browser import Browser
from tests.support.api_client import client_of, parts_over, seeded_database
from tests.support.results.seeded import CHEST_CT, seed

__all__ = ["browser", "shared_browser"]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Site]:
    """A node's folder with a study of 91 days ago, which no route wanted."""
    with site(tmp_path / "data", []) as one:
        arrive(one)
        yield one


@pytest.fixture
def config(tmp_path: Path, kept: Site) -> str:
    file = tmp_path / "node.toml"
    text = f'[node]\ndata_dir = "{kept.folder}"\nmin_free_mb = 0\n[retention]\nimages_days = 90\n'
    file.write_text(text, encoding="utf-8")
    return str(file)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


# --- the command line ---------------------------------------------------------------------------------------------


def test_a_study_is_held_released_and_purged_and_status_says_what_became_of_it(
    kept: Site, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Held" in said(capsys, "hold", UID, "--config", config, "--reason", "a teaching case")
    assert "a teaching case" in said(capsys, "status", UID, "--config", config)
    (stays,) = json.loads(said(capsys, "purge", "--dry-run", "--json", "--config", config))["studies"]
    assert (stays["goes"], stays["stays"], stays["why"].endswith("a teaching case")) == (False, "HELD", True)
    assert "0 deleted" in said(capsys, "purge", "--config", config)
    assert "Released" in said(capsys, "release", UID, "--config", config)
    plan = said(capsys, "purge", "--dry-run", "--config", config)
    assert "images_days = 90" in plan
    assert "1 would go" in plan
    assert len(list(kept.spool.keys(".dcm"))) == len(IMAGES)
    assert "1 deleted" in said(capsys, "purge", "--config", config)
    assert list(kept.spool.keys(".dcm")) == []
    status = said(capsys, "status", UID, "--config", config)
    assert "Its images were deleted on" in status
    assert "by rule images_days = 90, asked for by" in status
    acts = [row.act for row in kept.rows(audit_records)]
    assert [acts.count(one) for one in ("hold", "release", "purge", "deletion")] == [1, 1, 4, 1]
    assert main(["hold", "1.2.3", "--config", config, "--reason", "nobody's"]) == 1


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("results_days = 30", "images go first"),
        ("images_days = 90\nresults_days = 30", "images go first"),
        ("keep_free_mb = 1024", "must be larger than node.min_free_mb"),
        ("images_days = -1", "images_days"),
    ],
)
def test_settings_that_would_delete_in_the_wrong_order_are_refused(tmp_path: Path, section: str, told: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f"[retention]\n{section}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=told):
        load_settings(file)


# --- files that no row knows ---------------------------------------------------------------------------------------


def test_files_that_no_row_knows_are_told_and_only_needless_ones_go(kept: Site) -> None:
    old = time.time() - 8 * 86400
    received, made, young = (kept.spool.put([name.encode()], suffix).key for name, suffix in
                             (("received", ".dcm"), ("made", ".png"), ("young", ".json")))  # fmt: skip
    for key in (received, made):
        os.utime(kept.spool.path(key), (old, old))
    found = {one.key: one.is_needless for one in find_orphans(kept.database, kept.spool)}
    assert found == {received: False, made: True}
    assert len(remove_orphans(kept.database, kept.spool)) == 2
    assert [kept.spool.path(key).exists() for key in (received, made, young)] == [True, False, True]
    assert len(list(kept.spool.keys(".dcm"))) == len(IMAGES) + 1  # those of rows stay, however old


# --- API, page, doctor ---------------------------------------------------------------------------------------------


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Database]:
    database = seeded_database(tmp_path)
    yield database
    database.close()


def delete(database: Database, uid: str, kind: KeptKind) -> None:
    """Go through the steps; the files are the test's affair."""
    now = datetime.now(UTC)
    with database.write() as connection:
        facts = facts_of(connection, [uid])[uid]
        detail = {"rule": "images_days = 90", "actor": "node", "objects": 500, "size_bytes": 262_000_000, "detail": {}}
        number = mark_deletion(connection, facts.study_instance_uid, kind, now, **detail)
        deletion = next(one for one in steps.deletions_of(connection, uid) if one.number == number)
        assert steps.shrink(connection, deletion, now)


def test_the_api_holds_and_releases_and_says_what_is_gone(seeded: Database, tmp_path: Path) -> None:
    client = client_of(parts_over(seeded, tmp_path))
    address = f"/api/v1/studies/{CHEST_CT}"
    assert client.post(f"{address}/hold", json={}).status_code == 422
    held = client.post(f"{address}/hold", json={"reason": "a teaching case"})
    assert (held.status_code, held.json()["hold"]["reason"]) == (200, "a teaching case")
    assert client.post(f"{address}/hold", json={"reason": "again"}).status_code == 409
    assert client.get(address).json()["hold"]["held_by"] == "api-token"
    assert client.post(f"{address}/release").json()["hold"] is None
    assert client.post(f"{address}/release").status_code == 409
    assert client.post("/api/v1/studies/1.2.3/hold", json={"reason": "x"}).status_code == 404

    delete(seeded, CHEST_CT, KeptKind.IMAGES)
    (gone,) = client.get(address).json()["deletions"]
    assert gone["text"].startswith("Its images were deleted on ")
    assert gone["text"].endswith(" by rule images_days = 90: 500 objects, 262.0 MB.")
    assert client.post(f"{address}/rerun").status_code == 409


def test_of_deleted_results_the_api_says_that_there_were_some(seeded: Database, tmp_path: Path) -> None:
    client = client_of(parts_over(seeded, tmp_path))
    with seeded.read() as connection:
        uid = connection.execute(select(artifacts.c.uid).where(artifacts.c.kind == "SR")).scalars().first()
    assert client.get(f"/api/v1/artifacts/{uid}").status_code == 200
    study = next(one for one in owners_of(seeded, str(uid)))
    delete(seeded, study, KeptKind.IMAGES)
    delete(seeded, study, KeptKind.RESULTS)
    answer = client.get(f"/api/v1/artifacts/{uid}")
    assert (answer.status_code, "was deleted here" in answer.text) == (404, True)
    told = client.get(f"/api/v1/studies/{study}").json()["results"]
    assert told
    assert all(one["summary"]["findings"] == [] and one["model"] for one in told)


def owners_of(database: Database, uid: str) -> list[str]:
    with database.read() as connection:
        query = select(results.c.study_instance_uid).join(artifacts, artifacts.c.job_key == results.c.job_key)
        return [str(one) for one in connection.execute(query.where(artifacts.c.uid == uid)).scalars()]


def fill(database: Database, grows_mb: int) -> None:
    now = datetime.now(UTC)
    with database.write() as connection:
        for day in range(10):
            used = (1000 + (9 - day) * grows_mb) << 20
            keep_sample(connection, used, 1 << 40, now - timedelta(days=day))


@pytest.mark.parametrize(("grows_mb", "state"), [(0, "NOT_GROWING"), (1 << 20, "GROWING")])
def test_the_day_on_which_the_disk_is_full_is_told_by_api_and_doctor(
    seeded: Database, tmp_path: Path, grows_mb: int, state: str
) -> None:
    client = client_of(parts_over(seeded, tmp_path))
    assert client.get("/api/v1/waiting").json()["disk"]["forecast"]["growth"] == "TOO_FEW_DAYS"
    fill(seeded, grows_mb)
    told = client.get("/api/v1/waiting").json()["disk"]["forecast"]
    assert (told["growth"], told["samples"], told["full_on"] is None) == (state, 10, state == "NOT_GROWING")
    file = tmp_path / "node.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path}"\nmin_free_mb = 0\n', encoding="utf-8")
    (check,) = check_forecast(load_settings(file))
    assert check.ok == (state == "NOT_GROWING")  # a terabyte a day fills any disk within two weeks
    assert check.text == told["text"]


def test_samples_of_long_ago_are_forgotten_and_each_day_has_one(index: Database) -> None:
    now = datetime.now(UTC)
    with index.write() as connection:
        for days, used in ((100, 1), (1, 2), (0, 3), (0, 4)):
            keep_sample(connection, used, 10, now - timedelta(days=days))
    with index.read() as connection:
        found = [row.used_bytes for row in connection.execute(select(disk_samples).order_by(disk_samples.c.day))]
    assert found == [2, 4]


def press(browser: Browser, button: str, reason: str = "") -> None:
    browser.click(f"#{button}")
    browser.wait_for("document.querySelector('#ask').open")
    browser.run(f"document.querySelector('#ask-reason').value = {json.dumps(reason)}")
    browser.click("#ask-yes")


def test_the_page_holds_a_study_says_what_is_gone_and_when_the_disk_is_full(
    browser: Browser, seeded: Database, tmp_path: Path
) -> None:
    delete(seeded, CHEST_CT, KeptKind.IMAGES)
    fill(seeded, 1 << 20)
    with serving(parts_over(seeded, tmp_path)) as address:
        sign_in(browser, address)
        all_listed(browser)
        text = show(browser, CHEST_CT)
        assert "Its images were deleted on" in text
        assert "by rule images_days = 90: 500 objects" in text
        press(browser, "hold-study", "a teaching case")
        browser.wait_for(
            "document.querySelector('#held')?.textContent.startsWith('Held by api-token: a teaching case')"
        )
        press(browser, "release-study")
        browser.wait_for("document.querySelector('#hold-study') && !document.querySelector('#held')")
        browser.run("location.hash = '#/node'")
        browser.wait_for("document.querySelector('#forecast')?.textContent.startsWith('Full on ')")
        # The first is the browser's own, of the question whether somebody is signed in.
        assert [one for one in browser.complaints if "401" not in one] == []


# --- an index from before -------------------------------------------------------------------------------------------


def test_of_an_index_from_before_everything_is_kept(index: Database, tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        seed(connection, tmp_path)
        config.attributes["connection"] = connection
        command.downgrade(config, "0022")
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    with index.read() as connection:
        kept = connection.execute(select(studies.c.deleting, studies.c.images_deleted_at)).all()
        assert {tuple(row) for row in kept} == {("", None)}
        assert set(connection.execute(select(artifacts.c.state)).scalars()) == {"STORED"}
        assert connection.execute(select(deletions)).all() == []

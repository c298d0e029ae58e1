"""Alarms as people meet them: by the command line, the API, the page and the metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.__main__ import main
from dicom_node.core.alarms.rules import DISK_FULL, RESULTS_PARKED, RULES
from dicom_node.core.alarms.standing import Alarm, Fault, first_seen
from dicom_node.core.metrics import table
from dicom_node.core.principal import UserRole
from dicom_node.index.alarms.standing import keep
from dicom_node.index.database import Database
from dicom_node.index.tables import audit_records
from dicom_node.index.views.gauges import gauges
from tests.integration.test_retention_shown import press
from tests.integration.test_status_page import all_listed, browser, serving, shared_browser, sign_in
from tests.peers.browser import Browser
from tests.peers.certificates import make_certificates
from tests.peers.mail_server import running_mail_server
from tests.support.api_client import client_of, parts_over, seeded_database
from tests.support.results.rows import NOW

__all__ = ["browser", "shared_browser"]


def raised(database: Database) -> list[Alarm]:
    """Raise two alarms."""
    full = first_seen(DISK_FULL, Fault(subject="data", text="3 MB are free."), NOW).alarm
    parked = first_seen(RESULTS_PARKED, Fault(subject="pacs", text="2 objects are parked."), NOW).alarm
    assert full is not None
    assert parked is not None
    with database.write() as connection:
        return [keep(connection, full), keep(connection, parked)]


@pytest.fixture
def seeded(tmp_path: Path) -> Database:
    database = seeded_database(tmp_path)
    raised(database)
    return database


def test_alarms_are_listed_and_acknowledged_on_the_command_line(
    seeded: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}"\n', encoding="utf-8")
    assert main(["alarms", "list", "--config", str(config)]) == 0
    assert "disk" in capsys.readouterr().out
    assert main(["alarms", "acknowledge", "--config", str(config), "1", "--reason", "a new disk comes"]) == 0
    assert main(["alarms", "acknowledge", "--config", str(config), "1"]) == 1
    capsys.readouterr()
    assert main(["alarms", "list", "--json", "--config", str(config)]) == 0
    told = {one["rule"]: one for one in json.loads(capsys.readouterr().out)}
    assert (told["disk_full"]["standing"], told["disk_full"]["note"]) == ("ACKNOWLEDGED", "a new disk comes")
    with seeded.read() as connection:
        acts = list(connection.execute(select(audit_records.c.act)).scalars())
    assert acts.count("alarm-acknowledged") >= 1


def test_a_test_alarm_reaches_each_receiver_and_one_that_does_not_take_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, certificates = tmp_path / "node.toml", make_certificates(tmp_path / "tls")
    config.write_text("", encoding="utf-8")
    assert main(["alarms", "test", "--config", str(config)]) == 1
    with running_mail_server(None) as server:
        server.offers_starttls = False
        own = (
            f'kind = "email"\nhost = "127.0.0.1"\nport = {server.port}\nsender = "a@a.example"\nto = ["b@a.example"]\n'
        )
        config.write_text(f'[[alarm]]\nname = "it"\ntls = "none"\n{own}', encoding="utf-8")
        assert main(["alarms", "test", "--config", str(config)]) == 0
        assert "ok    it" in capsys.readouterr().out
        assert "test: A test of the alarms" in server.taken[0].message["Subject"]
        config.write_text(f'[[alarm]]\nname = "it"\nca = "{certificates.ca}"\n{own}', encoding="utf-8")
        assert main(["alarms", "test", "--config", str(config)]) == 1
        assert "FAIL  it" in capsys.readouterr().out
        assert len(server.taken) == 1


def test_the_api_tells_what_stands_by_which_rules_and_who_knows(seeded: Database, tmp_path: Path) -> None:
    client = client_of(parts_over(seeded, tmp_path))
    listed = client.get("/api/v1/alarms", params={"limit": 1})
    assert "cursor=2" in listed.headers["Link"]
    assert [one["rule"] for one in listed.json()] == ["results_parked"]
    assert client.with_role(UserRole.VIEWER).post("/api/v1/alarms/1/acknowledge", json={}).status_code == 403
    known = client.with_role(UserRole.OPERATOR).post("/api/v1/alarms/1/acknowledge", json={"reason": "a new disk"})
    assert (known.status_code, known.json()["standing"], known.json()["note"]) == (200, "ACKNOWLEDGED", "a new disk")
    assert client.post("/api/v1/alarms/1/acknowledge", json={}).status_code == 409
    assert client.post("/api/v1/alarms/99/acknowledge", json={}).status_code == 404
    rules = client.get("/api/v1/alarms/rules").json()
    assert [one["code"] for one in rules] == [one.code for one in RULES]
    assert all(one["is_on"] for one in rules)
    with seeded.read() as connection:
        told = {
            one.labels: one.amount for one in gauges(connection, NOW, [], []) if one.metric == table.ALARMS_OPEN.name
        }
    assert (told["disk_full",], told["backup_failed",]) == (1, 0)


def test_the_page_shows_what_stands_and_takes_who_knows(seeded: Database, tmp_path: Path, browser: Browser) -> None:
    with serving(parts_over(seeded, tmp_path)) as address:
        sign_in(browser, address)
        all_listed(browser)
        browser.run("location.hash = '#/node'")
        browser.wait_for("document.querySelector('#alarms')?.textContent.includes('The disk is full')")
        press(browser, "acknowledge-1", "a new disk comes")
        browser.wait_for("document.querySelector('#alarms').textContent.includes('api-token: a new disk comes')")

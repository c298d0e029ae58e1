"""What models and reports say of the same studies, told by API, command and page."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.__main__ import main
from dicom_node.api.server import ApiServer, create_app
from dicom_node.assist.reports.reading import ReadingOptions, ReportSweep
from dicom_node.assist.texts.reader import TextToRead, read
from dicom_node.core.entities import OrderNumber, PatientNumber, ReportStatus, StatedReport
from dicom_node.index.database import Database
from dicom_node.index.received.patients import note_whose
from dicom_node.index.reports.kept import keep_report
from dicom_node.index.tables import results
from tests.peers.browser import Browser, running_browser
from tests.peers.node import to_toml
from tests.support.api_client import TOKEN, Client, client_of, parts_over, seeded_database
from tests.support.results.seeded import CHEST_CT, CHEST_XR

ANNA = PatientNumber("4711", "HOSP")


@dataclass(frozen=True)
class Shown:
    """An index with three reports, and where its folder is."""

    database: Database
    folder: Path
    client: Client


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("concordance")
    database = seeded_database(folder, datetime.now(UTC))
    told = {
        "F1": (CHEST_XR, "Befund: Keine Infiltrate. Beurteilung: Kein Anhalt für eine Pneumonie."),
        "F2": (CHEST_CT, "IMPRESSION: Severe emphysema."),
        "F3": ("1.2.3", "IMPRESSION: Pneumonia."),
    }
    with database.write() as connection:
        note_whose(connection, {CHEST_XR: ANNA, CHEST_CT: ANNA})
        for number, (study, text) in told.items():
            keep_report(connection, StatedReport(
                source="hl7", number=OrderNumber(value=number), status=ReportStatus.FINAL, text=text,
                stated_at=datetime(2026, 11, 20, tzinfo=UTC), patients=(ANNA,), study_instance_uid=study,
            ), datetime.now(UTC))  # fmt: skip
    ReportSweep(database, lambda text: read(TextToRead(text)), ReadingOptions(patient_authority="HOSP")).run()
    (folder / "node.toml").write_text(to_toml({"node": {"data_dir": str(folder)}, "database": {"url": _url(database)}}))
    yield Shown(database, folder, client_of(parts_over(database, folder)))
    database.close()


def _url(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def test_groups_say_who_said_what_and_how_many_reports_have_no_study(shown: Shown) -> None:
    answer = shown.client.get("/api/concordance").json()
    assert answer["by"] == ["model", "finding"]
    found = {(one["group"]["model"], one["group"]["finding"]): one for one in answer["groups"]}
    pneumonia = found["cxr-pneumonia", "Pneumonia"]
    assert (pneumonia["compared"], pneumonia["model_only"], pneumonia["silent"]) == (1, 1, 0)
    assert pneumonia["kappa"] is None
    assert pneumonia["kappa_not_told"]
    assert (answer["reports"]["MATCHED"], answer["reports"]["UNMATCHED"]) == (2, 1)
    assert shown.client.get("/api/concordance", params={"model": "other"}).json()["groups"] == []
    assert shown.client.get("/api/concordance", params={"by": "weather"}).status_code == 422


def test_what_differs_is_listed_for_a_person_to_look_at_again(shown: Shown) -> None:
    listed = shown.client.get("/api/concordance/studies").json()["findings"]
    assert (CHEST_XR, "Pneumonia", "model_only") in {
        (one["study_instance_uid"], one["finding"], one["verdict"]) for one in listed
    }
    assert shown.client.get("/api/concordance/studies", params={"verdict": "unsure"}).json() == {"findings": []}


def test_a_report_without_a_study_says_why_and_none_of_its_words(shown: Shown) -> None:
    answer = shown.client.get("/api/concordance/unmatched")
    (one,) = answer.json()["reports"]
    assert (one["stated_study_uid"], one["reason"]) == ("1.2.3", "The study that it names is not here.")
    assert "neumonia" not in answer.text
    assert ANNA.value not in answer.text


def test_whoever_has_not_signed_in_sees_nothing_and_who_looks_is_written_down(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    for address in ("", "/studies", "/unmatched"):
        assert shown.client.stranger().get(f"/api/concordance{address}").status_code == 401
        caplog.clear()
        with caplog.at_level(logging.INFO):
            shown.client.get(f"/api/concordance{address}")
        assert [one.act for one in caplog.records if one.getMessage() == "audited"] == ["export"]


def test_the_command_tells_the_same(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(shown.folder / "node.toml")]
    assert main(["concordance", *config, "--json", "--discordant", "5", "--unmatched", "5"]) == 0
    told = json.loads(capsys.readouterr().out)
    asked = shown.client.get("/api/concordance").json()
    assert [one["model_only"] for one in told["groups"]] == [one["model_only"] for one in asked["groups"]]
    assert told["reports"] == asked["reports"]
    assert len(told["unmatched"]) == 1
    assert main(["concordance", *config, "--discordant", "5", "--unmatched", "5"]) == 0
    text = capsys.readouterr().out
    assert "model_only" in text
    assert "To look at again" in text
    assert main(["concordance", *config, "--model", "other"]) == 1


def test_looking_changes_no_result(shown: Shown) -> None:
    def everything() -> list[object]:
        with shown.database.read() as connection:
            return [tuple(row) for row in connection.execute(select(results).order_by(results.c.job_key))]

    before = everything()
    for address in ("", "/studies", "/unmatched"):
        assert shown.client.get(f"/api/concordance{address}").status_code == 200
    assert everything() == before


# --- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    server = ApiServer(create_app(parts_over(shown.database, shown.folder)), "127.0.0.1", 0)
    server.start()
    with running_browser(tmp_path_factory.mktemp("browser")) as one:
        one.open(f"http://127.0.0.1:{server.port}/")
        one.wait_for("!document.querySelector('#login').hidden")
        one.run(f"document.getElementById('token').value = {json.dumps(TOKEN)}")
        one.run("document.getElementById('by-key').open = true")
        one.click("#login-form button")
        one.wait_for("!document.querySelector('#app').hidden")
        one.complaints.clear()  # of the look before anybody had signed in
        yield one
    server.stop()


def test_the_page_shows_groups_studies_that_differ_and_reports_without_a_study(browser: Browser) -> None:
    browser.run("location.hash = '#/concordance'")
    browser.wait_for("document.querySelector('#detail h1')?.textContent === 'Concordance with reports'")
    titles = browser.run("[...document.querySelectorAll('#detail h2')].map((one) => one.textContent)")
    assert titles == ["To look at again", "Reports without a study"]
    heads = "[...document.querySelectorAll('#detail th')].map((one) => one.textContent)"
    assert browser.run(heads)[:4] == ["Model", "Finding", "Compared", "Both: there"]
    links = browser.run("[...document.querySelectorAll('#detail td a')].map((one) => one.getAttribute('href'))")
    assert f"#/study/{CHEST_XR}" in links
    browser.click("#detail input[value=scanner]")
    browser.wait_for("document.querySelectorAll('#detail th')[2].textContent === 'Scanner'")
    assert browser.complaints == []

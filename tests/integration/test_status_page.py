"""The status page in a real browser: sign-in, live list, a study, hostile texts, and a phone's width."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from dicom_node.api.page_files import page_version
from dicom_node.api.parts import ApiParts
from dicom_node.api.routes import events as event_routes
from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.incoming import ViewerSettings
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.entities import (
    DeliveryState,
    JobState,
    OrderContext,
    OrderNumber,
    PatientNumber,
    ResultState,
    StatedRequest,
    StudyState,
)
from dicom_node.index.database import Database
from dicom_node.index.received.orders import keep_order
from dicom_node.index.received.patients import note_whose
from dicom_node.index.received.stated_requests import state_request
from dicom_node.index.tables import deliveries, results
from dicom_node.index.transitions import Change, move_delivery, move_result
from dicom_node.operate.backup.outcome import BackupOutcome, note_failed, note_made
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import TOKEN, first_look, parts_over, seeded_database, work_out
from tests.support.results.rows import SOMEBODY, Rows, key_of
from tests.support.results.seeded import ALL_STUDIES, CHEST_CT, CHEST_XR, GAP_CT, HOSTILE, SCRIPT, XR_MODEL


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = seeded_database(tmp_path, datetime.now(UTC))
    work_out(database, tmp_path)
    yield database
    database.close()


@pytest.fixture
def address(database: Database, tmp_path: Path) -> Iterator[str]:
    with serving(parts_over(database, tmp_path)) as address:
        yield address


@contextmanager
def serving(parts: ApiParts) -> Iterator[str]:
    server = ApiServer(create_app(parts), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.stop()


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """The browser of the module: each test has a server, and with it an origin and its storage, of its own."""
    shared_browser.open("about:blank")
    shared_browser.complaints.clear()
    return shared_browser


def sign_in(browser: Browser, address: str, token: str = TOKEN) -> None:
    browser.open(address)
    browser.wait_for("!document.querySelector('#login').hidden")
    browser.run(f"document.querySelector('#token').value = {json.dumps(token)}")
    browser.click("#login-form button")


def show(browser: Browser, study: str) -> str:
    browser.run(f"location.hash = '#/study/{study}'")
    browser.wait_for(f"document.querySelector('#detail .uid')?.textContent == '{study}'")
    return browser.text()


def see_node(browser: Browser, address: str) -> None:
    """Sign in and look at the node itself."""
    sign_in(browser, address)
    all_listed(browser)
    browser.run("location.hash = '#/node'")


def all_listed(browser: Browser, number: int = len(ALL_STUDIES)) -> None:
    """Wait until so many studies are listed and shown: the list is filled before the sign-in gives way to it."""
    listed = f"document.querySelectorAll('#studies .study').length == {number}"
    browser.wait_for(f"!document.querySelector('#app').hidden && {listed}")


def note_what_is_said(browser: Browser) -> None:
    """Keep what the page says in passing: it takes it away after some seconds."""
    browser.run(
        """void (() => {
            const toast = document.querySelector('#toast');
            window.said = [];
            new MutationObserver(() => toast.hidden || window.said.push(toast.innerText))
                .observe(toast, {attributes: true, childList: true});
        })()"""
    )


def test_a_wrong_token_is_told_and_shows_nothing(browser: Browser, address: str) -> None:
    sign_in(browser, address, "wrong")
    browser.wait_for("document.querySelector('#login-error').textContent.includes('token is wrong')")
    assert browser.run("document.querySelector('#app').hidden")
    assert browser.run("document.cookie") == ""


def test_the_page_shows_a_study_s_way_and_arrivals_live(
    browser: Browser, address: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_routes, "HEARTBEAT_S", 3600)  # only a change that is told makes the page look again
    has_looked = first_look(monkeypatch)
    sign_in(browser, address)
    all_listed(browser)
    browser.wait_for("document.querySelector('#live').textContent == 'live'")
    assert "AI results – not verified unless a reader is named" in browser.text()

    seen = show(browser, CHEST_CT)
    for words in (
        "Left lung",
        "2,412",
        "Why this series",
        "Thorax 1.0 Br40",
        "two patients match",
        "1 other version",
        "1 image in more than one version",
    ):
        assert words in seen
    browser.wait_for("document.querySelector('.gallery img').naturalWidth == 512")
    assert browser.run("document.querySelector('#open-viewer')") is None, "no viewer is served"

    assert has_looked.wait(60)
    with database.write() as connection:
        rows = Rows(connection, Path(), datetime.now(UTC))
        rows.study("1.2.3.4", StudyState.RECEIVING, 1)
        rows.series("1.2.3.4", "1.2.3.4.1", 1, modality="MR", study_description="Arrived just now")
    browser.wait_for("document.querySelector('#studies').innerText.includes('Arrived just now')")
    assert not [complaint for complaint in browser.complaints if "401" not in complaint]


def test_scores_declined_studies_and_failures_are_told(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    seen = show(browser, CHEST_XR)
    assert "Score (uncalibrated)" in seen
    assert "87.0 %" in seen
    assert "Connection refused by pacs.local:104" in seen
    assert "Slices 41 to 44" in show(browser, GAP_CT)


def test_a_node_that_takes_no_studies_says_so_above_everything_else(
    browser: Browser, database: Database, tmp_path: Path
) -> None:
    full = Settings(node=NodeSettings(data_dir=tmp_path, min_free_mb=10**9))
    with serving(replace(parts_over(database, tmp_path), settings=full)) as address:
        sign_in(browser, address)
        all_listed(browser)
        assert "images are refused until there is more" in browser.text()
        assert "images are refused until there is more" in show(browser, CHEST_XR)


def test_the_last_backup_is_told_and_why_one_failed_since(browser: Browser, address: str, tmp_path: Path) -> None:
    note_made(tmp_path, BackupOutcome(made_at=datetime.now(UTC), folder="/mnt/backup", snapshot="s", faults=2))
    note_failed(tmp_path, "There is no room.")
    sign_in(browser, address)
    all_listed(browser)
    assert ", which lacks 2 objects" in browser.run("document.querySelector('#last-backup').textContent")
    assert "There is no room." in browser.run("document.querySelector('#failed-backup').textContent")


def test_a_model_that_may_not_run_is_told_with_what_to_do(browser: Browser, address: str) -> None:
    see_node(browser, address)
    browser.wait_for("document.body.innerText.includes('Not run: nobody has accepted it.')")
    assert "Model not accepted" in browser.text()
    assert "Live" in browser.text()


def test_what_peers_cannot_send_here_is_shown(browser: Browser, address: str) -> None:
    see_node(browser, address)
    browser.wait_for("document.body.innerText.includes('SPECT1 at 10.1.2.3')")
    assert "the node takes no objects of this SOP class" in browser.text()


def test_a_shadow_is_told_apart_and_its_disagreement_is_counted(
    browser: Browser, address: str, database: Database
) -> None:
    summary = {"notes": [], "findings": [
        {"key": "pneumonia", "label": "Pneumonia", "presence": "ABSENT", "probability": 0.2, "measurements": []}
    ]}  # fmt: skip
    with database.write() as connection:
        rows = Rows(connection, Path(), datetime.now(UTC))
        shadow = {"shadow_of": "chest-radiograph", "job_key": key_of("next")}
        rows.job(CHEST_XR, "next", XR_MODEL.name, JobState.DONE, 5, **shadow)
        rows.result(CHEST_XR, "next", XR_MODEL, JobState.DONE, summary=summary, shadow_of="chest-radiograph")
    see_node(browser, address)

    browser.wait_for("document.body.innerText.includes('Shadow routes')")
    assert "next (cxr-pneumonia)" in browser.text()
    assert "ABSENT (0.20) in the shadow" in browser.text()
    assert "shadow of chest-radiograph, not delivered" in show(browser, CHEST_XR)


def test_a_study_says_why_it_is_wanted_what_was_rejected_and_opens_in_the_viewer_that_the_node_serves(
    browser: Browser, database: Database, tmp_path: Path
) -> None:
    with database.write() as connection:
        move_result(
            connection, results.c.study_instance_uid == CHEST_XR, ResultState.REJECTED, "Motion.",
            Change(datetime.now(UTC)),
        )  # fmt: skip
        patient = PatientNumber("PAT-1", "HOSP")
        note_whose(connection, {CHEST_XR: patient})
        order = OrderContext(accession_number="A", placer=OrderNumber(value="1"), study_instance_uid=CHEST_XR,
                             reason="Cough <b>", priority="urgent", requested_at="2026-03-14")  # fmt: skip
        keep_order(connection, order, [patient], datetime.now(UTC))
        for route, stated in ((None, StatedRequest("Fever", "follow-up")), ("chest-radiograph", StatedRequest("Fall"))):
            state_request(connection, CHEST_XR, route, stated, datetime.now(UTC))
    ohif = tmp_path / "ohif"
    ohif.mkdir()
    (ohif / "index.html").write_text("<html><head><title>OHIF</title></head></html>")
    settings = Settings(node=NodeSettings(data_dir=tmp_path), viewer=ViewerSettings(ohif=ohif))
    with serving(replace(parts_over(database, tmp_path), settings=settings)) as address:
        sign_in(browser, address)
        all_listed(browser)
        seen = show(browser, CHEST_XR)
        wanted = ("Cough <b>", "urgent", "2026-03-14", "Fever", "follow-up", "Indication, route chest-radiograph\nFall")
        for words in ("rejected: Motion.", "Why it is wanted", *wanted):
            assert words in seen
        link = browser.run("document.querySelector('#open-viewer').href")
        assert link == f"{address}viewer?StudyInstanceUIDs={CHEST_XR}"
        browser.open(link)
        assert browser.run("document.title") == "OHIF"


def test_every_module_is_asked_for_once_because_head_and_document_name_them(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    browser.open("about:blank")
    browser.complaints.clear()
    browser.open(address)
    all_listed(browser)
    of = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('.js'))"
    at = f"/page/{page_version()}-en/"
    later = browser.run("document.documentElement.dataset.later.split(' ')")
    links = "document.querySelectorAll('link[rel=modulepreload]').length"
    browser.wait_for(f"{links} > {len(later)} && {of}.length > {links}")
    asked = browser.run(f"{of}.map((one) => [new URL(one.name).pathname, one.initiatorType])")
    named = browser.run(
        "[...document.querySelectorAll('link[rel=modulepreload]')].map((one) => new URL(one.href).pathname)"
    )
    assert len(named) > 20
    assert set(later) < set(named)
    assert sorted(path for path, _ in asked) == sorted([*named, f"{at}app.js"])
    found_by_a_script = [path for path, kind in asked if kind == "script" and path not in later]
    assert found_by_a_script == [f"{at}app.js"]  # the one that the page itself names as a script
    begun = browser.run(f"Object.fromEntries({of}.map((one) => [new URL(one.name).pathname, one.startTime]))")
    first_come = browser.run(f"{of}.find((one) => one.name.endsWith('/views.js')).responseEnd")
    assert max(begun[path] for path in later) <= first_come, "one behind the other, as they name each other"
    assert browser.complaints == [], "a module that is named and not used is complained of"


def test_a_page_opened_again_asks_for_none_of_its_files(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    files = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/page/'))"
    later = browser.run("document.documentElement.dataset.later.split(' ').length")
    browser.wait_for(f"{files}.length > {later} && !document.querySelector('#app').hidden")
    browser.open("about:blank")
    browser.open(address)
    all_listed(browser)
    assert browser.run(f"{files}.length") > 5
    assert browser.run(f"{files}.filter((one) => one.transferSize > 0).map((one) => one.name)") == []


def test_what_another_version_of_the_page_would_load_is_not_there(address: str) -> None:
    here, gone = f"/page/{page_version()}-en/app.js", f"/page/{'0' * 16}-en/app.js"
    with httpx.Client(base_url=address) as client:
        assert client.get(here).headers["cache-control"] == "private, max-age=31536000, immutable"
        for path in (gone, f"/page/{page_version()}-xx/app.js", f"/page/{page_version()}-en/nothing.js"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store"), path
        assert client.get("/").headers["cache-control"] == "no-cache"


def test_hostile_texts_are_shown_as_text(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    assert SCRIPT in show(browser, HOSTILE)
    assert browser.run("document.title") == "DICOM AI node"
    assert browser.run("document.querySelectorAll('#app script, #app img[src=x]').length") == 0


def test_a_parked_delivery_is_sent_again_from_the_page(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    browser.run("location.hash = '#/deliveries/PARKED'")
    browser.wait_for("document.querySelector('#detail button')")
    note_what_is_said(browser)
    browser.click("#detail button")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask-yes")
    browser.wait_for("document.querySelector('#detail').innerText.includes('None.')")
    assert "Sending again." in browser.run("window.said")


def test_what_a_person_discarded_is_neither_waiting_nor_delivered_nor_offered_to_be_sent(
    browser: Browser, address: str, database: Database
) -> None:
    with database.write() as connection:
        parked = deliveries.c.state == DeliveryState.PARKED
        move_delivery(connection, parked, DeliveryState.DISCARDED, Change(datetime.now(UTC), actor=SOMEBODY))
    sign_in(browser, address)
    all_listed(browser)
    shown = show(browser, CHEST_CT)
    assert "Discarded: 1 object" in shown
    assert "Delivered: pacs took 3 objects, 3 proved to be there" in shown
    assert browser.run("document.querySelectorAll('#detail button[id^=retry-]').length") == 0


def test_an_analysis_is_run_again_and_a_search_finds_it(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    show(browser, CHEST_CT)
    browser.click("#rerun-study")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask-yes")
    browser.wait_for("document.querySelector('.study-head .chip').textContent == 'Analysing'")
    browser.wait_for("document.body.innerText.includes('The operator asked to analyse again: chest-ct. by api-token')")
    browser.run("document.querySelector('#query').value = 'nativ'")
    browser.run("void document.querySelector('#query').dispatchEvent(new Event('input', {bubbles: true}))")
    all_listed(browser, 1)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_of_the_window(browser: Browser, address: str, width: int) -> None:
    sign_in(browser, address)
    all_listed(browser)
    browser.open(f"{address}?width", width)
    all_listed(browser)
    for study in (CHEST_CT, HOSTILE):
        show(browser, study)
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_signing_out_ends_the_session(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    browser.click("#logout")
    browser.wait_for("!document.querySelector('#login').hidden")
    assert browser.run("fetch('/api/status').then(answer => answer.status)") == 401


def test_the_api_is_drawn_from_its_description_without_another_host(browser: Browser, address: str) -> None:
    browser.open(f"{address}api/v1/docs")
    browser.wait_for("document.querySelectorAll('#operations details').length > 30")
    asked = "performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(location.origin)).length"
    assert browser.run(asked) == 0
    browser.run("location.hash = '#get_result'")
    browser.wait_for("document.querySelector('#get_result').open")
    drawn = browser.run("document.querySelector('#get_result').innerText")
    for words in ("/api/v1/results/{job_key}", "AnalysedResult | DeclinedResult", "404", "curl -s", "118565006"):
        assert words in drawn
    browser.run("document.querySelector('#filter').value = '/withdraw'")
    browser.run("void document.querySelector('#filter').dispatchEvent(new Event('input'))")
    shown = "[...document.querySelectorAll('#operations details')].filter((one) => !one.hidden).map((one) => one.id)"
    assert browser.run(shown) == ["withdraw_study"]
    assert browser.complaints == []

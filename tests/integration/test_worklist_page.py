"""The worklist, a patient's history and the administrator's view in a real browser, by keyboard; and axe on all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.entities import PatientNumber, ResultState
from dicom_node.headers.demographics import Demographics
from dicom_node.index.database import Database
from dicom_node.index.received.patients import note_whose
from dicom_node.index.tables import results
from dicom_node.index.transitions import Change, move_result
from tests.peers.axe import violations
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import TOKEN, parts_over, seeded_database, work_out
from tests.support.results.rows import Rows, key_of
from tests.support.results.seeded import ALL_STUDIES, CHEST_CT, CHEST_XR, CT_MODEL, GAP_CT, HOSTILE
from tests.support.studies.headers import portrait

ANNA = Demographics(name="Sommer^Anna", patient_id="PAT/47 11", birth_date="19580412", sex="F", accession_number="A-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[Database]:
    database = seeded_database(folder, datetime.now(UTC))
    yield database
    database.close()


@pytest.fixture(scope="module")
def address(folder: Path, database: Database) -> Iterator[str]:
    with database.write() as connection:
        note_whose(connection, {uid: PatientNumber(ANNA.patient_id) for uid in (CHEST_CT, GAP_CT)})
    for image in (f"{CHEST_CT}.3.1", f"{GAP_CT}.1.1"):
        portrait(folder / hashlib.sha256(f"{image}True".encode()).hexdigest(), ANNA)
    work_out(database, folder)
    server = ApiServer(create_app(parts_over(database, folder)), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.stop()


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[Browser]:
    """One browser that has signed in; the first look at the sign-in is axe's."""
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.open(address)
        browser.wait_for("!document.querySelector('#login').hidden")
        assert violations(browser) == []
        browser.run(f"document.querySelector('#token').value = {json.dumps(TOKEN)}")
        browser.click("#login-form button")
        listed(browser)
        yield browser


@pytest.fixture
def browser(shared_browser: Browser, address: str) -> Browser:
    shared_browser.open("about:blank")
    shared_browser.open(address)
    listed(shared_browser)
    return shared_browser


def listed(browser: Browser, number: int = len(ALL_STUDIES)) -> None:
    shown = f"document.querySelectorAll('#studies .study').length == {number}"
    browser.wait_for(f"!document.querySelector('#app').hidden && {shown}")


def press(browser: Browser, *keys: str) -> None:
    """Press keys as a hand does; a word of more than a letter that names no key is typed."""
    for key in keys:
        if len(key) > 1 and key not in {"Enter", "ArrowDown", "ArrowUp"}:
            browser.send("Input.insertText", text=key)
            continue
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = {"windowsVirtualKeyCode": 13} if key == "Enter" else {}
        browser.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
        browser.send("Input.dispatchKeyEvent", type="keyUp", key=key, **code)


def go(browser: Browser, view: str, holds: str) -> str:
    """Show a view and return its text when an expression holds of it."""
    browser.run(f"location.hash = {json.dumps(view)}")
    browser.wait_for(holds)
    return browser.text()


_EARLIER = "document.querySelector('#history').innerText"


def earlier(browser: Browser) -> str:
    """What is said of the earlier studies of the patient."""
    return str(browser.run(_EARLIER))


def of_study(uid: str) -> str:
    return f"document.querySelector('#detail .uid')?.textContent == '{uid}'"


def test_by_keyboard_alone_an_accession_number_leads_to_why_there_is_no_result(browser: Browser) -> None:
    press(browser, "/", "PAT/47 11")
    listed(browser, 2)
    press(browser, "ArrowDown", "j", "k")
    assert browser.run(f"document.activeElement.id == 'line-{CHEST_CT}'")
    press(browser, "/", "nativ", "Enter", "z")
    browser.wait_for("document.querySelector('#cause')")
    assert browser.run("document.querySelector('#query').value") == "nativ", "what is typed later is no part of it"
    assert browser.run("document.querySelector('#cause').textContent").startswith("ehr has refused 1 object: 412")
    assert "Sommer, Anna" in browser.run("document.querySelector('#case').innerText")
    assert "CT Chest follow-up" in browser.run("document.querySelector('#history').innerText")
    assert browser.complaints == [] or all("401" in one for one in browser.complaints)


def test_the_history_says_who_reviewed_an_earlier_result_and_when(browser: Browser, database: Database) -> None:
    go(browser, f"#/study/{GAP_CT}", f"{of_study(GAP_CT)} && document.querySelector('#history li')")
    assert "AI result – not verified" in earlier(browser)
    with database.write() as connection:
        rows = Rows(connection, Path(), datetime.now(UTC))
        rows.accepted(CHEST_CT, "chest-ct", CT_MODEL, "Weiss^Anna", 60)
    browser.wait_for(f"{_EARLIER}.includes('AI result – accepted by Weiss, Anna')")
    at = datetime.fromisoformat(browser.run("document.querySelector('#history li time').dateTime"))
    assert timedelta(0) < datetime.now(UTC) - at < timedelta(minutes=10)
    assert str(at.year) in earlier(browser)
    assert "Volume 2,412" in earlier(browser)
    with database.write() as connection:
        held = results.c.job_key == key_of("chest-ct")
        move_result(connection, held, ResultState.REJECTED, "No.", Change(datetime.now(UTC), ("withdrawn", "No.")))
    browser.wait_for(f"{_EARLIER}.includes('ct-lung-density: taken back')")
    assert "Volume" not in earlier(browser), "what was taken back is no finding"


def test_a_line_says_who_what_and_what_is_missing_and_filters_narrow_the_list(browser: Browser) -> None:
    line = browser.run(f"document.getElementById('line-{CHEST_XR}').innerText")
    for words in ("Routine", "Patient not known", "Chest pa", "Pneumonia (score 87 %)", "not reviewed", "pacs has not"):
        assert words in line
    browser.run("document.querySelector('#filters').open = true")
    browser.run("document.querySelector('#modality').value = 'dx'")
    browser.run("void document.querySelector('#modality').dispatchEvent(new Event('input', {bubbles: true}))")
    listed(browser, 1)
    browser.click("#clear")
    listed(browser)


def test_what_waits_says_how_often_it_was_tried_and_when_it_is_tried_again(browser: Browser) -> None:
    shown = go(browser, f"#/study/{CHEST_XR}", f"{of_study(CHEST_XR)} && document.querySelector('#retry-study')")
    assert re.search(r"tried 3 times; next try (at \S+:\d\d|when the destination takes objects)", shown)
    assert "attempt" not in shown.lower()


def test_who_runs_the_node_sees_one_row_for_each_cause_and_can_have_it_sent_again(browser: Browser) -> None:
    shown = go(browser, "#/node", "document.querySelector('#waits tbody tr')")
    for words in ("two patients match", "Send again: ehr", "GAP_IN_SERIES", "free of", "In 24 hours", "DR2"):
        assert words in shown
    tried = browser.run("[...document.querySelectorAll('#waits .tries')].map((one) => one.innerText.trim())")
    assert sorted(one[:14] for one in tried) == ["tried 3 times;", "tried once"], "what was refused is tried no more"
    browser.click("[id^='again-DELIVERY-PARKED-ehr']")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask button[value=no]")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_everybody_can_use_every_screen(browser: Browser, address: str, width: int, *, dark: bool) -> None:
    browser.open(f"{address}?{width}{dark}", width, dark=dark)
    listed(browser)
    browser.run("document.querySelector('#filters').open = true")
    for view, holds in (
        ("#/", "document.body.dataset.view == 'list'"),
        (f"#/study/{CHEST_CT}", of_study(CHEST_CT)),
        (f"#/study/{HOSTILE}", of_study(HOSTILE)),
        ("#/deliveries/PARKED", "document.querySelector('#detail h1')?.textContent == 'Parked deliveries'"),
        ("#/node", "document.querySelector('#senders')"),
    ):
        go(browser, view, holds)
        assert violations(browser) == [], view
        assert browser.run("document.documentElement.scrollWidth") <= width, view

"""Agreement with readers in a real browser, and the buttons by which results are kept as files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dicom_node.api.server import ApiServer, create_app
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import TOKEN, parts_over, seeded_database
from tests.support.results.rows import key_of
from tests.support.results.seeded import CHEST_CT


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser in which somebody has signed in on a page over three results."""
    folder = tmp_path_factory.mktemp("page")
    database = seeded_database(folder, datetime.now(UTC))
    server = ApiServer(create_app(parts_over(database, folder)), "127.0.0.1", 0)
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
    database.close()


def test_groups_are_shown_with_their_intervals_and_told_apart_as_one_chooses(browser: Browser) -> None:
    browser.run("location.hash = '#/agreement'")
    browser.wait_for("document.querySelector('#detail h1')?.textContent === 'Agreement with readers'")
    heads = "[...document.querySelectorAll('#detail th')].map((one) => one.textContent)"
    assert browser.run(heads)[:4] == ["Model", "Version", "Month", "Reviewed"]
    assert browser.run("document.querySelector('#detail td.number').textContent") == "0 of 1, 0 % (0 to 79 %)"
    browser.run(
        "{ const model = document.querySelector('#detail select'); model.value = 'cxr-pneumonia';"
        " model.dispatchEvent(new Event('change', { bubbles: true })); }"
    )
    browser.wait_for("document.querySelectorAll('#detail tbody tr').length === 1")
    browser.click("#detail input[value=month]")
    browser.wait_for("document.querySelectorAll('#detail th')[2].textContent === 'Reviewed'")
    assert browser.run(heads)[:3] == ["Model", "Version", "Reviewed"]
    links = browser.run("[...document.querySelectorAll('#detail a.button')].map((one) => one.getAttribute('href'))")
    assert links == [
        "/api/v1/agreement.csv?by=model&by=version&model=cxr-pneumonia",
        "/api/v1/agreement/cases.csv?model=cxr-pneumonia",
    ]


def test_a_result_and_a_study_offer_the_forms_in_which_they_leave(browser: Browser) -> None:
    names = browser.run(
        "(async () => { const { exportButtons } = await import('/page/exports.js');"
        f" const study = await (await fetch('/api/v1/studies/{CHEST_CT}')).json();"
        " const named = (links, about) => [...exportButtons(links, about).children]"
        "   .map((one) => [one.getAttribute('aria-label'), one.getAttribute('href')]);"
        " return [...named(study.results[0].links, 'result'), ...named(study.links, 'study')]; })()"
    )
    address = f"/api/v1/results/{key_of('chest-ct')}"
    assert names == [
        ["Export result: PDF", f"{address}.pdf"],
        ["Export result: DICOM SR", f"{address}.dcm"],
        ["Export result: JSON", f"{address}.json"],
        ["Export result: CSV", f"{address}.csv"],
        ["Export study: ZIP", f"/api/v1/studies/{CHEST_CT}.zip"],
        ["Export study: ZIP without patient", f"/api/v1/studies/{CHEST_CT}.zip?deidentified=true"],
    ]
    browser.run(f"location.hash = '#/study/{CHEST_CT}'")
    browser.wait_for("document.querySelectorAll('#detail a.button[download]').length === 6")
    assert browser.complaints == []

"""The pages of rules, destinations and models in a real browser: suspended and resumed, tried, looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.roles.settings import SiteSettings
from tests.integration.test_rules_tried import CT, XR
from tests.integration.test_status_page import all_listed, browser, serving, shared_browser, sign_in
from tests.peers.browser import Browser
from tests.support.api_client import TOKEN, parts_over, seeded_database

__all__ = ["browser", "shared_browser"]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    database = seeded_database(tmp_path, datetime.now(UTC))
    parts = parts_over(database, tmp_path)
    pacs = {"name": "pacs", "kind": "folder", "path": "out"}
    values = {"node": parts.settings.node, "route": [CT, XR], "destination": [pacs]}
    settings = SiteSettings.model_validate(values)
    with serving(replace(parts, settings=settings, routes=RoutesInForce(settings, parts.cards, database))) as address:
        yield address
    database.close()


def show(browser: Browser, view: str, title: str) -> None:
    browser.run(f"location.hash = '#/{view}'")
    browser.wait_for(f"document.querySelector('#detail h1')?.textContent.startsWith({json.dumps(title)})")


def press(browser: Browser, button: str, reason: str = "") -> None:
    browser.click(f"#{button}")
    browser.wait_for("document.querySelector('#ask').open")
    if reason:
        browser.run(f"document.querySelector('#ask-reason').value = {json.dumps(reason)}")
    browser.click("#ask-yes")


def test_an_administrator_suspends_tries_and_looks_at_models(browser: Browser, address: str) -> None:
    sign_in(browser, address)
    all_listed(browser)
    show(browser, "rules", "Rules")
    press(browser, "suspend-routes-chest-ct", "too many false alerts")
    browser.wait_for("document.querySelector('#resume-routes-chest-ct')")
    assert "Suspended by api-token: too many false alerts" in browser.text()

    stricter = (
        "[[route]]\nname = 'chest-ct'\nmodel = 'ct-lung-density'\nwhen = { modality = 'CT', station_name = 'X' }\n"
    )
    browser.run(f"document.querySelector('#rule-text').value = {json.dumps(stricter)}")
    browser.click("#try-rule button")
    browser.wait_for("document.querySelector('#trial').textContent.includes('Nothing ran')")
    assert "Route chest-ct: studies that change" in browser.text()
    browser.run("document.querySelector('#rule-reason').value = 'as tried'")
    browser.click("#save-rule")
    browser.wait_for("document.querySelector('#ask').open")
    browser.click("#ask-yes")
    browser.wait_for("document.querySelector('#revert-chest-ct')")
    assert "Edited by api-token: as tried" in browser.text()
    press(browser, "revert-chest-ct", "as before")
    browser.wait_for("!document.querySelector('#revert-chest-ct')")
    browser.run("document.querySelector('#rule-text').value = 'route ='")
    browser.click("#try-rule button")
    browser.wait_for("document.querySelector('#trial').textContent.includes('TOML')")

    press(browser, "resume-routes-chest-ct")
    browser.wait_for("document.querySelector('#suspend-routes-chest-ct')")
    browser.run("location.hash = '#/node'")
    browser.wait_for("document.querySelector('#suspend-destinations-pacs')")
    press(browser, "suspend-destinations-pacs", "maintenance")
    browser.wait_for("document.querySelector('#resume-destinations-pacs')")

    show(browser, "models", "Models")
    show(browser, "models/cxr-pneumonia", "cxr-pneumonia")
    assert "0.5189" in browser.text()
    assert "operating_point · threshold" in browser.text()
    assert [one for one in browser.complaints if "Failed to load resource" not in one] == []


THEIRS = {"route": {**CT, "quiet_period_s": 60.0}, "reason": "slow scanner"}


def change_behind(browser: Browser, address: str, body: dict[str, object]) -> None:
    """Write chest-ct anew by another session than the page's form."""
    at = f"{address}api/v1/routes/chest-ct"
    answer = httpx.put(at, json=body, headers={"Authorization": f"Bearer {TOKEN}", "If-Match": "*"}, trust_env=False)
    assert answer.status_code == 200, answer.text


def test_the_page_says_who_changed_a_route_meanwhile_keeps_what_was_typed_and_shows_what_is(
    browser: Browser, address: str
) -> None:
    sign_in(browser, address)
    all_listed(browser)
    show(browser, "rules", "Rules")
    browser.run("document.querySelector('#rule-text').value += '# mine'")
    browser.run("document.querySelector('#rule-reason').value = 'as I like it'")
    change_behind(browser, address, THEIRS)
    press(browser, "save-rule")
    browser.wait_for("document.querySelector('#revert-chest-ct')")
    assert "api-token wrote it anew" in browser.run("document.querySelector('#trial').textContent")
    assert "Edited by api-token: slow scanner" in browser.text()
    assert "# mine" in browser.run("document.querySelector('#rule-text').value")
    assert browser.run("document.querySelector('#rule-reason').value") == "as I like it"
    press(browser, "save-rule")
    browser.wait_for("document.body.innerText.includes('Edited by api-token: as I like it')")
    assert browser.run("document.querySelector('#trial').textContent") == ""

    change_behind(browser, address, THEIRS)
    press(browser, "suspend-routes-chest-ct", "alerts")
    browser.wait_for("document.querySelector('#toast').textContent.includes('slow scanner')")
    browser.wait_for("document.body.innerText.includes('Edited by api-token: slow scanner')")
    assert browser.run("Boolean(document.querySelector('#suspend-routes-chest-ct'))")


def test_the_route_that_the_form_begins_with_is_one_that_the_node_takes_on_a_phone_too(
    browser: Browser, address: str
) -> None:
    sign_in(browser, address)
    all_listed(browser)
    browser.open(f"{address}?narrow", 390)
    browser.wait_for("!document.querySelector('#app').hidden")
    show(browser, "rules", "Rules")
    browser.run("document.querySelector('#rule-begin').value = '1'")
    browser.run("document.querySelector('#rule-begin').dispatchEvent(new Event('change'))")
    assert 'name = "chest-radiograph"' in browser.run("document.querySelector('#rule-text').value")
    browser.click("#try-rule button")
    browser.wait_for("document.querySelector('#trial').textContent.includes('Nothing ran')")
    assert "studies that change" not in browser.text()
    assert browser.run("document.documentElement.scrollWidth") <= 390

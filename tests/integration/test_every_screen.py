"""Every screen of the page in a real browser: usable by everybody at each width, light and dark, and whole on paper."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.principal import UserRole
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.people.directory import People
from dicom_node.roles.settings import SiteSettings
from dicom_node.viewing.readers import ImageReaders
from tests.integration.test_rules_tried import CT, XR
from tests.peers.axe import violations
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import parts_over, seeded_database, work_out
from tests.support.results import analysis_examples as examples
from tests.support.results.kept_study import ct_images, keep_study
from tests.support.results.seeded import CHEST_CT, HOSTILE

_NAME, _PASSWORD = "somebody.with.a.name.of.some.length", "seven blue herons"
WIDTHS = (390, 1280, 3840)
_PAPER_PX = 718  # of A4, less its margins
_HEAD = "document.querySelector('#detail h1')?.textContent.startsWith({title})"
_STUDY = "document.querySelector('#detail .uid')?.textContent == '{uid}'"
#: Of what the screen shows as text: what is cut off at the edge of its box or of the paper.
_CUT_OFF = """[...document.querySelectorAll('body *')].filter((one) => one.checkVisibility() && one.innerText?.trim()
    && !one.closest('.unseen, .skip, select, textarea')
    && !['visible', 'clip'].includes(getComputedStyle(one).overflowX)
    && one.scrollWidth > one.clientWidth + 1).map((one) => `${one.tagName}.${one.className}#${one.id}`)"""


@dataclass(frozen=True)
class Screen:
    """One screen: its address, when it is there, and what is pressed then to come to it."""

    name: str
    view: str
    holds: str
    pressed: tuple[str, ...] = ()


def titled(name: str, view: str, title: str) -> Screen:
    return Screen(name, view, _HEAD.format(title=json.dumps(title)))


SCREENS = (
    Screen("worklist with its filters", "#/", "document.body.dataset.view == 'list'", ("#filters summary",)),
    Screen("study, history, exports", f"#/study/{CHEST_CT}", _STUDY.format(uid=CHEST_CT)),
    Screen("study with hostile texts", f"#/study/{HOSTILE}", _STUDY.format(uid=HOSTILE)),
    titled("parked deliveries", "#/deliveries/PARKED", "Parked deliveries"),
    titled("deliveries under way", "#/deliveries/PENDING", "Deliveries under way"),
    Screen("overview, node, destinations", "#/node", "document.querySelector('#senders')"),
    titled("rules", "#/rules", "Rules"),
    titled("models", "#/models", "Models"),
    titled("one model", "#/models/cxr-pneumonia", "cxr-pneumonia"),
    titled("agreement", "#/agreement", "Agreement with readers"),
    titled("people and keys", "#/people", "People and keys"),
    titled("account", "#/account", "My account"),
    Screen("a question with a reason", "#/rules", _HEAD.format(title='"Rules"'), ("#suspend-routes-chest-ct",)),
)
_SHOWN = "document.querySelector('.viewport')?.dataset.shown"
READING = (
    Screen("viewer", "", _SHOWN),
    Screen("its keys", "", _SHOWN, ("#reading-help",)),
    Screen("review", "", "document.querySelector('#review-accept')"),
    Screen("modify form", "", "document.querySelector('#review-modify')", ("#review-modify",)),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a page over seeded studies, and the study that has images."""
    folder = tmp_path_factory.mktemp("screens")
    database = seeded_database(folder, datetime.now(UTC))
    images = tuple(ct_images("screens", slices=8))
    answer = examples.ct_analysis(images, histogram=None, key_slices=())
    study = keep_study(database, folder, "screens", answer=answer, study_date="20260314")
    work_out(database, folder)
    readers = ImageReaders(folder / "readers", folder)
    parts = parts_over(database, folder)
    destination = {"name": "pacs", "kind": "folder", "path": "out"}
    settings = SiteSettings.model_validate(
        {"node": parts.settings.node, "route": [CT, XR], "destination": [destination]}
    )
    routes = RoutesInForce(settings, parts.cards, database)
    kept = replace(parts, settings=settings, routes=routes, images=readers, open_object=lambda key: folder / key)
    app = create_app(kept)
    people: People = app.state.access.people
    people.accounts.add(_NAME, [UserRole.ADMIN, UserRole.REVIEWER], _PASSWORD)
    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/", study.study_uid
    server.stop()
    readers.close()
    database.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def faults(browser: Browser) -> list[str]:
    """Return what somebody could not use or read of what is shown, at every width, light and dark, and on paper."""
    found = []
    for width in WIDTHS:
        for dark in (False, True):
            browser.show_at(width, dark=dark)
            # What is dark differs from what is light in its colours alone.
            found += [f"{width} px, dark {dark}: {one}" for one in violations(browser, only_contrast=dark)]
        if browser.run("document.documentElement.scrollWidth") > width:
            found.append(f"{width} px: wider than the window")
    browser.show_at(_PAPER_PX, media="print")
    found += [f"printed, cut off: {one}" for one in browser.run(_CUT_OFF)]
    if browser.run("document.documentElement.scrollWidth") > _PAPER_PX:
        found.append("printed: wider than the paper")
    browser.show_at(1280)
    return found


def looked_at(browser: Browser, screens: tuple[Screen, ...]) -> dict[str, list[str]]:
    """Walk through screens, and return what is wrong with each."""
    found = {}
    for screen in screens:
        if screen.view:
            browser.run("document.querySelector('#ask').close()")
            browser.run(f"location.hash = {json.dumps(screen.view)}")
        browser.wait_for(screen.holds)
        for selector in screen.pressed:
            browser.wait_for(f"document.querySelector({json.dumps(selector)})")
            browser.click(selector)
        found[screen.name] = faults(browser)
    return {name: told for name, told in found.items() if told}


def test_everybody_can_use_every_screen_and_print_it(browser: Browser, site: tuple[str, str]) -> None:
    address, study = site
    browser.open(address)
    browser.wait_for("!document.querySelector('#login').hidden")
    assert faults(browser) == []
    for field, text in (("name", _NAME), ("password", _PASSWORD)):
        browser.run(f"document.getElementById('{field}').value = {json.dumps(text)}")
    browser.click("#login-form button")
    browser.wait_for("!document.querySelector('#app').hidden && document.querySelector('#studies .study')")
    found = looked_at(browser, SCREENS)
    browser.run("document.querySelector('#ask').close()")
    browser.run(f"location.hash = {json.dumps(f'#/study/{urllib.parse.quote(study)}')}")
    browser.wait_for(_STUDY.format(uid=study))
    browser.wait_for("document.querySelector('[id^=review-]')")
    browser.click("[id^=review-]")
    found |= looked_at(browser, READING)
    assert found == {}, json.dumps(found, indent=1)

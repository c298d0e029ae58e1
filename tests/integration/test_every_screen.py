"""Every screen of the page in a real browser: usable by everybody at each width, light and dark, and whole on paper."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.incoming import ApiSettings
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.principal import UserRole
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.people.directory import People
from dicom_node.roles.settings import SiteSettings
from dicom_node.viewing.readers import ImageReaders
from tests.integration.test_rules_tried import CT, XR
from tests.peers.axe import violations
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import client_of, parts_over, seeded_database, work_out
from tests.support.page_words import PAGE, said_by
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
    titled("concordance", "#/concordance", "Concordance with reports"),
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


def come_to(browser: Browser, screen: Screen) -> None:
    if screen.view:
        browser.run("document.querySelector('#ask').close()")
        browser.run(f"location.hash = {json.dumps(screen.view)}")
    browser.wait_for(screen.holds)
    for selector in screen.pressed:
        browser.wait_for(f"document.querySelector({json.dumps(selector)})")
        browser.click(selector)


def looked_at(browser: Browser, screens: tuple[Screen, ...]) -> dict[str, list[str]]:
    """Walk through screens, and return what is wrong with each."""
    found = {}
    for screen in screens:
        come_to(browser, screen)
        found[screen.name] = faults(browser)
    return {name: told for name, told in found.items() if told}


def sign_in(browser: Browser) -> None:
    for field, text in (("name", _NAME), ("password", _PASSWORD)):
        browser.run(f"document.getElementById('{field}').value = {json.dumps(text)}")
    browser.click("#login-form button")
    browser.wait_for("!document.querySelector('#app').hidden && document.querySelector('#studies .study')")


def begin_review(browser: Browser, study: str) -> None:
    """Open the images of a study with what is asked there."""
    browser.run("document.querySelector('#ask').close()")
    browser.run(f"location.hash = {json.dumps(f'#/study/{urllib.parse.quote(study)}')}")
    browser.wait_for(_STUDY.format(uid=study))
    browser.wait_for("document.querySelector('[id^=review-]')")
    browser.click("[id^=review-]")


def test_everybody_can_use_every_screen_and_print_it(browser: Browser, site: tuple[str, str]) -> None:
    address, study = site
    browser.open(address)
    browser.wait_for("!document.querySelector('#login').hidden")
    assert faults(browser) == []
    sign_in(browser)
    found = looked_at(browser, SCREENS)
    begin_review(browser, study)
    found |= looked_at(browser, READING)
    assert found == {}, json.dumps(found, indent=1)


# --- in another language

#: What the screen says: every text, and what is said of fields and buttons.
_SAID = """(() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), said = [];
    while (walker.nextNode()) said.push([walker.currentNode.parentElement, walker.currentNode.data]);
    for (const name of ['aria-label', 'placeholder', 'title', 'alt'])
        for (const one of document.querySelectorAll(`[${name}]`)) said.push([one, one.getAttribute(name)]);
    return said.filter(([one]) => one.checkVisibility()).map(([, words]) => words.trim()).filter(Boolean);
})()"""


def _english() -> list[re.Pattern[str]]:
    """Return patterns of all that strings.js says and the German words do not: with any values in it."""
    english, german = (said_by((PAGE / name).read_text(encoding="utf-8")) for name in ("strings.js", "strings_de.js"))
    both = {text for _, text in german.values()}
    own = {text.strip() for _, text in english.values() if text and text not in both}
    patterns = [re.sub("⟦[0-9]⟧", ".+", re.escape(text)) for text in own]
    # "(some value) of (another)" would be found in all that the API says.
    return [re.compile(one) for one in patterns if ".+" not in one or len(re.sub(r"[^A-Za-z]", "", one)) > 7]


def _left_in_english(browser: Browser, patterns: list[re.Pattern[str]]) -> list[str]:
    said = browser.run(_SAID)
    left = {text for text in said for pattern in patterns if pattern.fullmatch(text)}
    found = [f"in English: {text}" for text in sorted(left - _FROM_THE_API)]
    browser.show_at(390)
    found += [f"390 px: {one}" for one in violations(browser)]
    if browser.run("document.documentElement.scrollWidth") > 390:
        found.append("390 px: wider than the window")
    browser.show_at(1280)
    return found


#: What comes from the API, and happens to be words of the page, too.
_FROM_THE_API = frozenset({"sent", "Segmentation", "Lung"})
_GERMAN = {
    "Parked deliveries": "Angehaltene Zustellungen", "Deliveries under way": "Zustellungen unterwegs",
    "Rules": "Regeln", "Models": "Modelle", "Agreement with readers": "Übereinstimmung mit Beurteilenden",
    "Concordance with reports": "Übereinstimmung mit Befunden",
    "People and keys": "Personen und Schlüssel", "My account": "Mein Konto",
}  # fmt: skip


def _in_german(screen: Screen) -> Screen:
    holds = screen.holds
    for english, german in _GERMAN.items():
        holds = holds.replace(json.dumps(english), json.dumps(german))
    return replace(screen, holds=holds)


def test_whoever_chooses_german_reads_no_english_words_of_the_page(browser: Browser, site: tuple[str, str]) -> None:
    address, study = site
    browser.open("about:blank")
    browser.send("Network.clearBrowserCookies")
    browser.open(address)
    browser.wait_for("!document.querySelector('#login').hidden")
    assert browser.run("[...document.querySelectorAll('#language option')].map((one) => one.textContent)") == [
        "English", "Deutsch",
    ]  # fmt: skip
    browser.run("document.getElementById('language').value = 'de'")
    browser.run("void document.getElementById('language').dispatchEvent(new Event('change'))")
    browser.wait_for("document.documentElement?.lang == 'de' && document.querySelector('#login')?.hidden === false")
    patterns = _english()
    assert any(one.fullmatch("Search studies") for one in patterns)
    found = {"sign-in": _left_in_english(browser, patterns)}
    sign_in(browser)
    for screen in map(_in_german, (*SCREENS, *READING)):
        if screen.name == READING[0].name:
            begin_review(browser, study)
        come_to(browser, screen)
        found[screen.name] = _left_in_english(browser, patterns)
    assert {name: told for name, told in found.items() if told} == {}, json.dumps(found, indent=1, ensure_ascii=False)
    browser.run("document.querySelector('dialog[open]').close()")
    browser.open(address)
    browser.wait_for("document.querySelector('#studies .study')")
    assert browser.run("document.documentElement.lang") == "de", "the browser keeps it"
    browser.send("Network.clearBrowserCookies")


def test_a_site_says_in_which_language_its_page_begins(tmp_path: Path) -> None:
    settings = Settings(node=NodeSettings(data_dir=tmp_path), api=ApiSettings(language="de"))
    database = seeded_database(tmp_path, datetime.now(UTC))
    client = client_of(replace(parts_over(database, tmp_path), settings=settings))
    for path in ("/", "/api/v1/docs"):
        assert '<html lang="de"' in client.get(path).text
        chosen = client.get(path, headers={"Cookie": "language=en"})
        assert '<html lang="en"' in chosen.text
        assert chosen.headers["vary"] == "Cookie"
        assert '<html lang="de"' in client.get(path, headers={"Cookie": 'language="><script>'}).text
    words = re.search(r'"(/page/[^"]+/strings\.js)"', client.get("/").text)
    assert words is not None
    assert client.get(words[1]).text == (PAGE / "strings_de.js").read_text(encoding="utf-8")
    database.close()

"""The reading window in a real browser: images, overlays, what is put beside, and a review by mouse and by keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fastapi import FastAPI

from dicom_node.analysis.answer import Analysis
from dicom_node.api.parts import ApiParts
from dicom_node.api.server import ApiServer, create_app
from dicom_node.core import codes
from dicom_node.core.entities import Measurement, Presence, Region, ReviewState
from dicom_node.core.principal import UserRole
from dicom_node.index.database import Database
from dicom_node.index.decided.reviews import claim_review, give_review_up
from dicom_node.index.due import now_in
from dicom_node.people.directory import People
from dicom_node.viewing.readers import ImageReaders
from tests.peers.axe import violations
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import Client, client_of, parts_over
from tests.support.results import analysis_examples as examples
from tests.support.results.kept_study import KeptStudy, ct_images, keep_study

PASSWORD = "seven blue herons"
#: On every screen of a reader, wherever the zoom puts it: the middle of the first viewport, red green blue.
MIDDLE = """(() => { const c = document.querySelector('.viewport canvas'), x = Math.floor(c.width / 2);
    return [...c.getContext('2d').getImageData(x, Math.floor(c.height / 2), 1, 1).data].slice(0, 3); })()"""
_SHOWN = "document.querySelector('.viewport')?.dataset.shown"
_SAID = "document.querySelector('.review-said').textContent"
#: Where a key goes in the moment in which the page is shown.
_NOTE_WHERE_KEYS_GO = """void new MutationObserver(() => { window.keysGoTo = document.activeElement.tagName; })
    .observe(document.getElementById('app'), { attributeFilter: ['hidden'] })"""
_KEYS = {"Enter": ("\r", 13), "Escape": ("", 27), "ArrowDown": ("", 40), "ArrowUp": ("", 38), "ArrowLeft": ("", 37)}


@dataclass(frozen=True)
class Site:
    """A page with studies of one patient, newest first, and a person of each role."""

    address: str
    #: The same node where two readers must agree.
    strict_address: str
    studies: tuple[KeptStudy, ...]
    client: Client
    database: Database


def test_keys_reach_the_page_as_soon_as_it_is_shown(site: Site, browser: Browser) -> None:
    Reader(browser, site.address, "reader")
    assert browser.run("window.keysGoTo") == "BODY", "and not a field of the sign-in, which is hidden"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("reading")
    objects = folder / "objects"
    objects.mkdir()
    database = Database(f"sqlite:///{folder / 'node.sqlite'}")
    database.migrate()
    kept = [
        keep_study(database, objects, name, answer=_answer(name), study_date=date)
        for name, date in (("now", "20260314"), ("before", "20250301"), ("oldest", "20240301"), ("failing", "20230301"))
    ]
    readers = ImageReaders(folder / "readers", objects)
    parts = replace(parts_over(database, folder), open_object=lambda key: objects / key, images=readers)
    two_agree = parts.settings.review.model_copy(update={"second_reader": True})
    strict = replace(parts, settings=parts.settings.model_copy(update={"review": two_agree}))
    servers = [ApiServer(app, "127.0.0.1", 0) for app in (_app_with_people(parts), create_app(strict))]
    for server in servers:
        server.start()
    first, second = (f"http://127.0.0.1:{server.port}/" for server in servers)
    yield Site(first, second, tuple(kept), client_of(parts), database)
    for server in servers:
        server.stop()
    readers.close()
    database.close()


def _app_with_people(parts: ApiParts) -> FastAPI:
    app = create_app(parts)
    people: People = app.state.access.people
    for name, role in (("viewer", UserRole.VIEWER), ("reader", UserRole.REVIEWER), ("second", UserRole.REVIEWER)):
        people.accounts.add(name, [role], PASSWORD)
    return app


def _answer(name: str) -> Analysis:
    """Both lungs, and a nodule outlined in the middle of one image."""
    images = tuple(ct_images(name, slices=8))
    answer = examples.ct_analysis(images, histogram=None, key_slices=())
    right, left = answer.findings
    corners = ((54.0, 54.0), (74.0, 54.0), (74.0, 74.0), (54.0, 74.0), (54.0, 54.0))
    nodule = replace(
        right, key="nodule", label="Nodule", presence=Presence.PRESENT, segment_number=None, probability=0.8,
        measurements=(Measurement(codes.DIAMETER, 7.0, codes.MILLIMETER),),
        region=Region(sop_instance_uid=str(images[2].SOPInstanceUID), points_xy_px=corners),
    )  # fmt: skip
    first, second = answer.segments
    whole = replace(first, mask=first.mask | True)  # over all of every image: its middle is never missed
    return replace(answer, findings=(nodule, right, left), segments=(whole, second))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


class Reader:
    """Somebody at the page, who counts the keys that they press."""

    def __init__(self, browser: Browser, address: str, name: str) -> None:
        self.browser, self.keys = browser, 0
        browser.open("about:blank")
        browser.send("Network.clearBrowserCookies")
        browser.open(address)
        browser.wait_for("!document.querySelector('#login').hidden")
        for field, text in (("name", name), ("password", PASSWORD)):
            browser.run(f"document.getElementById('{field}').value = {json.dumps(text)}")
        browser.run(_NOTE_WHERE_KEYS_GO)
        browser.click("#login-form button")
        browser.wait_for("!document.querySelector('#app').hidden && document.querySelector('#studies a')")
        browser.complaints.clear()  # of having asked before anybody had signed in

    def press(self, *keys: str) -> None:
        for key in keys:
            self.keys += 1
            text, code = _KEYS.get(key, (key, ord(key.upper()) if len(key) == 1 and key.isalnum() else 0))
            about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
            self.browser.send("Input.dispatchKeyEvent", type="keyDown", **about)
            self.browser.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def choose(self, study: KeptStudy) -> None:
        """Put the focus on a study of the list, as the keys of the list do."""
        self.browser.run(f"document.getElementById('line-{study.study_uid}').focus()")

    def open(self, study: KeptStudy) -> None:
        """Go from the list into the images of a study."""
        self.choose(study)
        self.press("Enter")
        self.wait_for(f"document.querySelector('#detail .uid')?.textContent == '{study.study_uid}'")
        self.press("v")
        self.wait_for(_SHOWN)

    def wait_for(self, script: str) -> None:
        self.browser.wait_for(script)

    def drag(self, right: int, down: int) -> None:
        """Drag from the middle of the images with the left button, so many pixels of the screen."""
        x, y = self._middle()
        places = [("mousePressed", x, y), ("mouseMoved", x + right, y + down), ("mouseReleased", x + right, y + down)]
        for kind, at_x, at_y in places:
            self.browser.send(
                "Input.dispatchMouseEvent", type=kind, x=at_x, y=at_y, button="left", buttons=1, clickCount=1
            )

    def wheel(self) -> None:
        """Turn the wheel by one notch over the images."""
        x, y = self._middle()
        self.browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=120)

    def _middle(self) -> tuple[float, float]:
        box = "document.querySelector('.viewport').getBoundingClientRect()"
        x, y = self.browser.run(f"(() => {{ const b = {box}; return [b.x + b.width / 2, b.y + b.height / 2]; }})()")
        return float(x), float(y)

    def drawn(self) -> list[int]:
        """What is seen in the middle of the images, when the next picture of the screen is drawn."""
        self.browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return list(self.browser.run(MIDDLE))

    def fill(self, field: str, text: str) -> None:
        self.browser.run(f"document.querySelector('{field}').value = {json.dumps(text)}")
        self.browser.run(f"void document.querySelector('{field}').dispatchEvent(new Event('input', {{bubbles: true}}))")


def _decisions(site: Site, study: KeptStudy) -> list[dict[str, Any]]:
    return list(site.client.get(f"/api/v1/results/{study.job_key}/reviews").json())


def test_a_reader_scrolls_windows_and_compares(browser: Browser, site: Site) -> None:
    now = site.studies[0]
    reader = Reader(browser, site.address, "reader")
    reader.open(now)
    assert browser.run(_SHOWN).startswith(str(now.answer.sources[2].SOPInstanceUID))  # the one with the region
    reader.wait_for("document.querySelector('.loaded').textContent == '8 loaded'")
    reader.wait_for(f"{MIDDLE}[0] != {MIDDLE}[1]")  # the mask has come

    reader.press("s")
    red, green, blue = reader.drawn()
    assert red == green == blue
    reader.press("2")
    soft = reader.drawn()
    assert browser.run("document.querySelector('.viewport').dataset.width") == "400"
    reader.drag(50, 0)
    reader.drawn()
    assert float(browser.run("document.querySelector('.viewport').dataset.width")) > 400
    reader.press("1")
    assert reader.drawn() != soft
    reader.wheel()
    reader.wait_for(f"{_SHOWN}?.startsWith('{now.answer.sources[3].SOPInstanceUID}')")
    reader.press("ArrowDown", "ArrowUp")
    reader.wait_for(f"{_SHOWN}?.startsWith('{now.answer.sources[3].SOPInstanceUID}')")
    assert "4 / 8" in browser.text()

    reader.press("h")
    reader.wait_for("document.querySelectorAll('.viewport')[1].dataset.shown?.startsWith('2.25')")
    reader.wait_for("document.querySelector('#reading-beside').options.length > 2")
    reader.press("p")
    beside = [str(one.SOPInstanceUID) for one in site.studies[1].answer.sources]
    reader.wait_for(f"document.querySelectorAll('.viewport')[1].dataset.shown == '{beside[3]}/1'")
    reader.press("ArrowDown")
    reader.wait_for(f"document.querySelectorAll('.viewport')[1].dataset.shown == '{beside[4]}/1'")
    assert not browser.complaints


def test_a_viewer_sees_the_images_as_they_are_and_decides_nothing(browser: Browser, site: Site) -> None:
    before = site.studies[1]
    reader = Reader(browser, site.address, "viewer")
    reader.open(before)
    assert not browser.run("document.querySelector('.undrawn').textContent")
    reader.press("s", "o", "2", "+", "+", "+", "+", "+", "+", "+", "+")
    image = before.answer.sources[2]
    near = image.pixel_array[62:67, 62:67].astype(float) * float(image.RescaleSlope) + float(image.RescaleIntercept)
    darkest, lightest = (255 * min(1.0, max(0.0, (hu - 39.5) / 399 + 0.5)) for hu in (near.min(), near.max()))
    assert darkest < lightest
    assert darkest - 1 <= reader.drawn()[0] <= lightest + 1

    reader.wait_for("document.querySelector('.review').innerText.includes('You may look, but not review.')")
    reader.press("a", "m", "r")
    assert browser.run("document.querySelectorAll('.review form, .review .choice').length") == 0
    assert "Nodule" in browser.text()
    reader.press("Escape")
    reader.wait_for("!document.querySelector('dialog[open]')")
    assert browser.run("document.querySelectorAll('[id^=review-]').length") == 0
    assert _decisions(site, before) == []


#: The page gets other headers of segmentations, and no images of grey, than the node sends.
_ALTERED = """void (() => { const fetched = window.fetch; window.fetch = async (path, options) => {
    const answer = await fetched(path, options);
    if (!String(path).endsWith('/metadata')) return answer;
    const headers = await answer.json();
    for (const one of headers) {
        if (one['00080060'].Value[0] === 'SEG') one['00280010'].Value = [32];
        else one['00280004'].Value = ['PALETTE COLOR'];
    }
    return new Response(JSON.stringify(headers), { headers: answer.headers });
}; })()"""


def test_a_segmentation_of_another_size_and_a_picture_with_colours_of_its_own_are_told(
    browser: Browser, site: Site
) -> None:
    reader = Reader(browser, site.address, "viewer")
    browser.run(_ALTERED)
    reader.open(site.studies[2])
    reader.wait_for("document.querySelector('.undrawn').textContent.includes('× 32 pixels')")
    assert "Segmentation not drawn: " in browser.text()
    reader.press("2")
    contrast = browser.run("document.querySelector('.viewport .at-window').textContent")
    assert contrast == "Contrast as stored; it cannot be changed here"


#: Headers of segmentations come when the test lets them.
_HELD = """void (() => { const fetched = window.fetch, held = new Promise((done) => { window.release = done; });
    window.fetch = async (path, options) => {
        const answer = await fetched(path, options);
        if (!String(path).endsWith('/metadata')) return answer;
        const [first] = await answer.clone().json();
        if (first['00080060'].Value[0] === 'SEG') await held;
        return answer;
    };
})()"""
_SHOWN_LUNG = "document.querySelector('.review [aria-label=\"Show Right lung on the images\"]')"


def test_a_finding_is_led_to_when_its_mask_has_come_later_than_the_findings(browser: Browser, site: Site) -> None:
    reader = Reader(browser, site.address, "viewer")
    browser.run(_HELD)
    reader.open(site.studies[2])
    reader.wait_for("document.querySelector('.review').innerText.includes('You may look, but not review.')")
    reader.wait_for("document.querySelector('.review .findings button')")
    browser.run("document.querySelector('.review .findings button').focus()")
    assert not browser.run(f"Boolean({_SHOWN_LUNG})")
    browser.run("void release()")
    reader.wait_for(_SHOWN_LUNG)
    assert browser.run("document.activeElement.textContent") == "Show", "and the focus stays where it was"


def test_a_measurement_and_a_region_are_corrected_and_the_decision_is_kept(browser: Browser, site: Site) -> None:
    now = site.studies[0]
    reader = Reader(browser, site.address, "reader")
    reader.open(now)
    reader.wait_for("document.querySelector('#review-modify')")
    assert violations(browser) == []
    reader.press("r")
    assert violations(browser) == []
    reader.press("Enter")
    assert browser.run(_SAID) == "Choose a reason."
    reader.press("Escape", "m")
    assert violations(browser) == []
    reader.fill("#f0-m0", "6,5")
    browser.click("#f0-region")
    browser.run("document.querySelector('.viewport').focus()")
    reader.press("ArrowLeft", "ArrowLeft")
    reader.drag(0, 40)
    browser.click("#f0-done")
    reader.press("Escape")
    assert "Diameter 7 mm" in browser.text()  # who goes back decides on what the model said
    reader.press("m")
    assert browser.run("document.querySelector('#f0-m0').value") == "6.5"
    assert browser.run("[...document.querySelectorAll('.reasons input:checked')].map((one) => one.value)") == [
        "WRONG_MEASUREMENT", "WRONG_REGION",
    ]  # fmt: skip
    browser.click("#review-save")
    reader.wait_for(f"{_SAID} == 'Corrections saved.'")
    panel = browser.run("document.querySelector('.review').innerText")
    assert "Modified by reader" in panel
    assert "Diameter 6.5 mm" in panel
    assert "Diameter 7 mm" not in panel

    [decision] = _decisions(site, now)
    nodule = next(one["finding"] for one in decision["findings"] if one["finding"]["key"] == "nodule")
    assert decision["decision"] == ReviewState.MODIFIED
    assert nodule["measurements"][0]["value"] == 6.5
    size_px = browser.run(
        "(({clientWidth: w, clientHeight: h}) => Math.min(w, h))(document.querySelector('.viewport'))"
    )
    assert nodule["region"]["points_xy_px"][0] == pytest.approx([52.0, 54.0 + 40 * 128 / size_px], abs=0.01)
    assert not browser.complaints


def test_from_the_list_to_accepted_by_keys_and_nobody_else_decides_meanwhile(browser: Browser, site: Site) -> None:
    before = site.studies[1]
    locked = f"/api/v1/results/{before.job_key}/review/lock"
    second = site.client.with_role(UserRole.REVIEWER)
    assert second.post(locked).status_code == 200
    reader = Reader(browser, site.address, "reader")
    reader.open(before)
    reader.wait_for(f"{_SAID}.includes('is reviewing this result')")
    assert not browser.run("Boolean(document.querySelector('#review-accept'))")
    reader.press("a")
    assert not browser.run("Boolean(document.querySelector('#review-send'))")
    reader.press("Escape")
    assert second.request("DELETE", locked).status_code == 204

    browser.run("location.hash = '#/'")
    reader.wait_for("document.body.dataset.view == 'list'")
    browser.complaints.clear()
    reader.choose(before)
    reader.keys = 0
    reader.press("Enter")
    reader.wait_for(f"document.querySelector('#detail .uid')?.textContent == '{before.study_uid}'")
    reader.press("a")
    reader.wait_for("document.activeElement.id == 'review-send'")
    reader.press("Enter")
    reader.wait_for(f"{_SAID} == 'Accepted.'")
    assert reader.keys <= 12
    assert browser.run("document.querySelector('.reading-head .tag').textContent") == "AI result – accepted by reader"
    reader.press("Escape")
    reader.wait_for("document.querySelector('.gallery img').alt.includes('accepted by reader')")
    alts = browser.run("[...document.querySelectorAll('.gallery img')].map((one) => one.alt)")
    assert not any("not verified" in one for one in alts)
    assert [one["decision"] for one in _decisions(site, before)] == [ReviewState.ACCEPTED]
    assert not browser.complaints


def test_a_second_reader_confirms_what_another_has_decided(browser: Browser, site: Site) -> None:
    oldest = site.studies[2]
    reader = Reader(browser, site.strict_address, "reader")
    reader.open(oldest)
    reader.wait_for("document.querySelector('#review-accept')")
    reader.press("a", "Enter")
    reader.wait_for(f"{_SAID} == 'Accepted.'")
    assert "A second reader must confirm it." in browser.text()
    assert "Another person must confirm what you decided." in browser.text()

    second = Reader(browser, site.strict_address, "second")
    second.open(oldest)
    second.wait_for("document.querySelector('#review-confirm')")
    second.press("a", "Enter")
    second.wait_for(f"{_SAID} == 'Confirmed.'")
    [decision] = _decisions(site, oldest)
    assert (decision["reviewer"], decision["second_reader"]) == ("reader", "second")


def test_a_reader_is_told_that_the_report_of_a_decision_failed_and_decides_again(browser: Browser, site: Site) -> None:
    study = site.studies[3]
    reader = Reader(browser, site.address, "reader")
    reader.open(study)
    reader.wait_for("document.querySelector('#review-accept')")
    reader.press("a", "Enter")
    reader.wait_for(f"{_SAID} == 'Accepted.'")
    _fails(site, study, "An image is damaged.")

    again = Reader(browser, site.address, "reader")
    again.open(study)
    again.wait_for("document.querySelector('#review-trouble')?.innerText.includes('An image is damaged.')")
    again.wait_for("document.querySelector('#review-accept')")
    assert not violations(browser)
    again.press("a", "Enter")
    again.wait_for(f"{_SAID} == 'Accepted.'")
    assert not browser.run("Boolean(document.querySelector('#review-trouble'))")
    assert [one["state"] for one in _decisions(site, study)] == ["FAILED", "DECIDED"]
    assert not browser.complaints


def _fails(site: Site, study: KeptStudy, why: str) -> None:
    """Give the decision on a study's result up, as the node does when its report cannot be made."""
    with site.database.write() as connection:
        now = now_in(connection)
        while (claim := claim_review(connection, "here", now, 60.0)) is not None:
            if claim.review.of_job_key == study.job_key:
                assert give_review_up(connection, claim, why, now)
                return
    pytest.fail("Nobody has decided on it.")

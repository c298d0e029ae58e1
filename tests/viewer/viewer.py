"""OHIF as a person uses it: open a study, double-click a series, answer its questions, look."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.peers.browser import Browser

#: The machine that draws has no graphics card and other tests to run.
_PATIENCE_S = 90.0
#: How long what is to be clicked may move, or lie under something else.
_REST_S = 15.0
_SERIES = "[data-cy^=study-browser-thumbnail]"
_VIEWPORT = (
    "services.cornerstoneViewportService.getCornerstoneViewport(services.viewportGridService.getActiveViewportId())"
)
#: Instance number, place and count of images: `I: 24 (25/48)`, or `1/1` for an image without a number.
_PLACE = r"/^I:.*\(\d+\/\d+\)$|^\d+\/\d+$/"
_WORDS = "button, span, div, a, p"


class Viewer:
    """One tab with the viewer in it; `folder` keeps the screenshots."""

    def __init__(self, browser: Browser, url: str, folder: Path) -> None:
        self.browser, self._url, self.folder = browser, url, folder

    def open(self, study_uid: str) -> None:
        """Show a study and wait until its first image is drawn."""
        self.browser.open(f"{self._url}/viewer?StudyInstanceUIDs={study_uid}", 1400, 900)
        self._wait(f"document.querySelector('{_SERIES}') && {_texts()}.some(t => {_PLACE}.test(t))")
        # Its tour is offered once in the life of a browser profile.
        self.browser.run("new Promise(done => setTimeout(done, 1000))")
        if "Skip all" in self.browser.text():
            self.press("Skip all")
        self._wait("!document.body.innerText.includes('Loading')")

    def series(self) -> list[tuple[str, str]]:
        """Return (modality, description) of all entries of the list of series, in order."""
        script = f"""[...document.querySelectorAll('{_SERIES}')].map(e => [
            e.querySelector('[data-cy=series-modality-label]').innerText.trim(),
            e.querySelector('[data-cy=series-description-label]').innerText.trim()])"""
        return [(modality, description) for modality, description in self.browser.run(script)]

    def show(self, modality: str) -> None:
        """Double-click the series of this modality, as soon as it is listed."""
        self.wait_for_series(modality)
        self._click(_series_of(modality), times=2)

    def wait_for_series(self, *modalities: str) -> None:
        """Wait until a series of each of these modalities is listed: they come one by one."""
        for one in modalities:
            self._wait(_series_of(one))

    def press(self, words: str) -> None:
        """Click what shows exactly these words, as soon as it is there."""
        shows = f"[...document.querySelectorAll('{_WORDS}')].filter(e => e.innerText?.trim() === {json.dumps(words)})"
        self._wait(f"{shows}.length")
        self._click(f"{shows}.at(-1)")

    def wait_for_text(self, *words: str) -> str:
        """Wait until the page shows all these words; return all it shows."""
        for one in words:
            self._wait(f"document.body.innerText.includes({json.dumps(one)})")
        return self.browser.text()

    def instance_number(self) -> int:
        """Return the instance number that the viewport gives for the image it shows."""
        return self._numbers()[0]

    def wait_for_instance(self, number: int) -> None:
        """Wait until the viewport gives this instance number for the image it shows."""
        self._wait(f"{_texts()}.some(t => t.replaceAll(' ', '').startsWith('I:{number}('))")

    def image_count(self) -> int:
        """Return the number of images that the viewport can scroll through."""
        return self._numbers()[2]

    def scroll_to(self, number: int) -> None:
        """Show this image of the viewport's series, counted from 1."""
        self.browser.run(f"cornerstone.utilities.jumpToSlice({_VIEWPORT}.element, {{imageIndex: {number - 1}}})")
        self._wait(f"{_texts()}.some(t => {_PLACE}.test(t) && t.includes('({number}/'))")

    def hide_player(self) -> None:
        """Take away the controls of the film player, which the viewer lays over some series of pictures."""
        self.browser.run("void services.cineService.setIsCineEnabled(false)")

    def image_in(self, page: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
        """Return what `page`, a screenshot, shows at each pixel of the image in the viewport: (rows, columns, RGB)."""
        corners = [[0, 0], [columns, rows]]
        script = f"""(() => {{ const v = {_VIEWPORT}, r = v.canvas.getBoundingClientRect();
            return {corners}.map(p => {{
                const c = v.worldToCanvas(cornerstone.utilities.imageToWorldCoords(v.getCurrentImageId(), p));
                return [c[0] + r.x, c[1] + r.y]; }}); }})()"""
        (left, top), (right, bottom) = self.browser.run(script)
        x = left + (np.arange(columns) + 0.5) * (right - left) / columns
        y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
        return page[np.ix_(y.astype(int), x.astype(int))]

    def segments(self) -> list[str]:
        """Wait until a segmentation is loaded; return the labels of its segments, in order."""
        self._wait("services.segmentationService.getSegmentations().length")
        script = "Object.values(services.segmentationService.getSegmentations()[0].segments).map(s => s.label)"
        return list(self.browser.run(script))

    def document(self) -> tuple[str, bytes]:
        """Return media type and content of the document that is handed to the browser's own reader."""
        self._wait("document.querySelector('object[data]')")
        script = """(async () => {
            const element = document.querySelector('object[data]');
            const bytes = new Uint8Array(await (await fetch(element.data)).arrayBuffer());
            return [element.type, Array.from(bytes, b => String.fromCharCode(b)).join('')]; })()"""
        media_type, content = self.browser.run(script)
        return media_type, content.encode("latin-1")

    def settle(self) -> None:
        """Wait until two looks at the page, half a second apart, are the same."""
        before = self._png()
        for _ in range(int(_PATIENCE_S)):
            self.browser.run("new Promise(done => setTimeout(done, 500))")
            now = self._png()
            if now == before:
                return
            before = now

    def screenshot(self, name: str, *, once: Callable[[NDArray[np.uint8]], bool] = lambda _: True) -> NDArray[np.uint8]:
        """Save the page as ``name.png`` when it has come to rest; return its pixels, (rows, columns, RGB).

        A busy machine may rest before all is drawn: the page is looked at again until it is as `once` says, and
        returned as it is when that takes too long.
        """
        give_up_at = time.monotonic() + _PATIENCE_S
        while True:
            self.settle()
            data = self._png()
            page = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            if once(page) or time.monotonic() > give_up_at:
                (self.folder / f"{name}.png").write_bytes(data)
                return page

    def _numbers(self) -> tuple[int, int, int]:
        """Return what the viewport says of the image it shows: instance number, place in the series, images in all."""
        said = self.browser.run(f"{_texts()}.find(t => {_PLACE}.test(t))")
        instance, place, count = re.findall(r"\d+", said)
        return int(instance), int(place), int(count)

    def _wait(self, script: str) -> None:
        self.browser.wait_for(script, _PATIENCE_S)

    def _png(self) -> bytes:
        path = self.folder / ".now.png"
        self.browser.screenshot(path)
        data = path.read_bytes()
        path.unlink()
        return data

    def _middle(self, element: str) -> tuple[float, float]:
        """Return the middle of an element, as soon as that lies still and nothing covers it."""
        script = f"""(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}});
            const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
            const hit = document.elementFromPoint(x, y);
            return [x, y, Boolean(hit) && (e.contains(hit) || hit.contains(e))]; }})()"""
        give_up_at, before = time.monotonic() + _REST_S, None
        while (now := self.browser.run(script)) != before or not now[2]:
            if time.monotonic() > give_up_at:
                break
            before = now
            time.sleep(0.1)
        return float(now[0]), float(now[1])

    def _click(self, element: str, times: int = 1) -> None:
        x, y = self._middle(element)
        self.browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)


def _series_of(modality: str) -> str:
    """Return a script for the entry of this modality in the list of series."""
    return f"""[...document.querySelectorAll('{_SERIES}')].find(e =>
        e.querySelector('[data-cy=series-modality-label]')?.innerText.trim() === {json.dumps(modality)})"""


def _texts() -> str:
    """Return a script for the texts of the shown viewport's corners, each without blanks at its start."""
    return (
        "[...document.querySelectorAll('[data-cy^=viewport-overlay] *')]"
        ".map(e => e.innerText?.replace(/\\s+/g, ' ').trim() ?? '')"
    )

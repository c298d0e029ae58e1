"""OHIF as a person uses it: open a study, double-click a series, answer its questions, look."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.browser import Browser

#: The machine that draws has no graphics card and other tests to run.
_PATIENCE_S = 90.0
_SERIES = "[data-cy^=study-browser-thumbnail]"
_WORDS = "button, span, div, a, p"


class Viewer:
    """One tab with the viewer in it; `folder` keeps the screenshots."""

    def __init__(self, browser: Browser, url: str, folder: Path) -> None:
        self.browser, self._url, self.folder = browser, url, folder

    def open(self, study_uid: str) -> None:
        """Show a study and wait until its first image is drawn."""
        self.browser.open(f"{self._url}/viewer?StudyInstanceUIDs={study_uid}", 1400, 900)
        self._wait(f"document.querySelector('{_SERIES}') && {_texts()}.some(t => /^I:/.test(t))")
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
        """Double-click the series of this modality."""
        self._click(
            f"""[...document.querySelectorAll('{_SERIES}')].find(e =>
            e.querySelector('[data-cy=series-modality-label]').innerText.trim() === {json.dumps(modality)})""",
            times=2,
        )

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
        self._wait(f"{_texts()}.some(t => /^I:/.test(t))")
        return int(self.browser.run(rf"{_texts()}.find(t => /^I:/.test(t)).match(/\d+/)[0]"))

    def settle(self) -> None:
        """Wait until two looks at the page, half a second apart, are the same."""
        before = self._png()
        for _ in range(int(_PATIENCE_S)):
            self.browser.run("new Promise(done => setTimeout(done, 500))")
            now = self._png()
            if now == before:
                return
            before = now

    def screenshot(self, name: str) -> NDArray[np.uint8]:
        """Save the page as ``name.png`` when it has come to rest; return its pixels, (rows, columns, RGB)."""
        self.settle()
        data = self._png()
        (self.folder / f"{name}.png").write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def _wait(self, script: str) -> None:
        self.browser.wait_for(script, _PATIENCE_S)

    def _png(self) -> bytes:
        path = self.folder / ".now.png"
        self.browser.screenshot(path)
        data = path.read_bytes()
        path.unlink()
        return data

    def _middle(self, element: str) -> tuple[float, float]:
        script = f"""(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}});
            const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"""
        x, y = self.browser.run(script)
        return float(x), float(y)

    def _click(self, element: str, times: int = 1) -> None:
        x, y = self._middle(element)
        self.browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.browser.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)


def _texts() -> str:
    """Return a script for the texts of the shown viewport's corners, each without blanks at its start."""
    return (
        "[...document.querySelectorAll('[data-cy^=viewport-overlay] *')]"
        ".map(e => e.innerText?.replace(/\\s+/g, ' ').trim() ?? '')"
    )

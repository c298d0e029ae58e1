"""What a person at the page waits for, in Chromium: from a key to the painted answer. Part of `benchmarks.worklist`.

By keys alone from the worklist to an accepted result: `/`, the accession number, Enter, `a`, Enter. A frame counts when
it has been painted; the page, the node and whoever presses the keys share one machine.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select, update

from dicom_node.api.parts import ApiParts
from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.principal import UserRole
from dicom_node.index.database import Database
from dicom_node.index.tables import instances
from dicom_node.people.directory import People
from dicom_node.viewing.readers import ImageReaders
from tests.peers.browser import Browser, running_browser
from tests.support.results import analysis_examples as examples
from tests.support.results.kept_study import ct_images, keep_study

_KEYS = {"\r": ("Enter", 13), "\b": ("Backspace", 8)}
_NAME, _PASSWORD = "reader", "seven blue herons"
#: Resolves when all that is wanted has been painted, to the milliseconds that each took since the last key.
_ARMED = """void (window.painted = new Promise((done) => {
  const wanted = %s, took = {};
  let pressed = 0;
  const note = (event) => { pressed = event.timeStamp; };
  addEventListener('keydown', note, true);
  const look = () => {
    const seen = Object.keys(wanted).filter((name) => pressed && !(name in took) && wanted[name]());
    for (const name of seen) took[name] = 0;
    const { port1, port2 } = new MessageChannel(); // heard when this frame has been painted
    port1.onmessage = () => {
      for (const name of seen) took[name] = performance.now() - pressed;
      if (Object.keys(took).length < Object.keys(wanted).length) return requestAnimationFrame(look);
      removeEventListener('keydown', note, true);
      done(took);
    };
    port2.postMessage(0);
  };
  requestAnimationFrame(look);
}))"""
#: The same for a page that is opened: milliseconds since it was asked for.
_OPENED = """window.opened = new Promise((done) => {
  const look = () => {
    const lines = document.querySelectorAll('#studies .study');
    if (lines.length < %d || !lines[0].checkVisibility()) return requestAnimationFrame(look);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => done(performance.now());
    port2.postMessage(0);
  };
  requestAnimationFrame(look);
})"""


@dataclass(frozen=True, slots=True)
class Readable:
    """A study with images and a result that nobody has reviewed."""

    study_uid: str
    accession_number: str


def is_there() -> bool:
    """Tell whether this machine has a Chromium."""
    return shutil.which("chromium") is not None


def add_readable(database: Database, folder: Path, count: int) -> Sequence[Readable]:
    """Enter studies that can be read and accepted; their files go into `folder`."""
    return [_readable(database, folder, number) for number in range(count)]


def _readable(database: Database, folder: Path, number: int) -> Readable:
    answer = examples.ct_analysis(tuple(ct_images(f"read-{number}", slices=8)), histogram=None, key_slices=())
    kept = keep_study(database, folder, f"read-{number}", answer=answer, study_date="20260314")
    one = Readable(kept.study_uid, f"READ-{number}")
    with database.write() as connection:
        mine = instances.c.study_instance_uid == one.study_uid
        for row in connection.execute(select(instances.c.id, instances.c.attributes).where(mine)).all():
            told = {**row.attributes, "accession_number": one.accession_number}
            connection.execute(update(instances).where(instances.c.id == row.id).values(attributes=told))
    return one


def measure(parts: ApiParts, folder: Path, readable: Sequence[Readable], shown: int) -> dict[str, float]:
    """Return figures by name, in milliseconds but for the keystrokes; the first study only warms the programs up.

    `shown` is how many studies the first page has.
    """
    waits: defaultdict[str, list[float]] = defaultdict(list)
    keys = 0
    with _served(parts, folder) as address, running_browser(folder / "browser") as browser:
        person = _Person(browser, address)
        person.sign_in()
        for number, one in enumerate(readable):
            told, keys = person.accepts(one, shown)
            for what, wait_ms in told.items() if number else ():
                waits[what].append(wait_ms)
    found = {"in Chromium, keystrokes to accepted": float(keys)}
    for what, all_ms in waits.items():
        found[f"in Chromium: {what}, ms"] = statistics.median(all_ms)
        found[f"in Chromium: {what}, longest of {len(all_ms)}, ms"] = max(all_ms)
    return found


@contextmanager
def _served(parts: ApiParts, folder: Path) -> Iterator[str]:
    (folder / "browser").mkdir()
    readers = ImageReaders(folder / "readers", folder)
    app = create_app(replace(parts, images=readers))
    people: People = app.state.access.people
    people.accounts.add(_NAME, [UserRole.REVIEWER], _PASSWORD)
    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        server.stop()
        readers.close()


class _Person:
    """Somebody at the page, with a keyboard alone."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser, self._address = browser, address

    def sign_in(self) -> None:
        self._browser.open(self._address)
        self._browser.wait_for("!document.querySelector('#login').hidden")
        for field, text in (("name", _NAME), ("password", _PASSWORD)):
            self._browser.run(f"document.getElementById('{field}').value = {json.dumps(text)}")
        self._browser.click("#login-form button")
        self._browser.wait_for("document.querySelector('#studies .study')")

    def accepts(self, one: Readable, shown: int) -> tuple[Mapping[str, float], int]:
        """Go from the worklist to an accepted result; return each wait, and how many keys that took."""
        told = {"page opened": self._opens(shown)}
        self._browser.send("Network.clearBrowserCache")
        told["page opened, none of its files here"] = self._opens(shown)
        lines = "document.querySelectorAll('#studies .study').length"
        only = f"[...document.querySelectorAll('#studies .study')].map((one) => one.id) == 'line-{one.study_uid}'"
        steps: list[tuple[str, dict[str, str]]] = [
            ("/", {"search begun": "document.activeElement.id == 'query'"}),
            (one.accession_number, {"search by accession, from its last letter": only}),
            ("\r", {"study": f"document.querySelector('#detail .uid')?.textContent == '{one.study_uid}'"}),
            ("a", {
                "question": "document.activeElement.id == 'review-send'",
                "its image": "document.querySelector('.viewport')?.dataset.shown",
            }),
            ("\r", {"accepted": "document.querySelector('.review-said')?.textContent == 'Accepted.'"}),
        ]  # fmt: skip
        self._painted("/#", {"nothing found": f"{lines} == 0"})
        told |= self._painted("\b", {"first page, when a search is cleared": f"{lines} >= {shown}"})
        self._browser.run("document.activeElement.blur()")
        for keys, wanted in steps:
            told |= self._painted(keys, wanted)
        return told, sum(len(keys) for keys, _ in steps)

    def _opens(self, shown: int) -> float:
        script = self._browser.send("Page.addScriptToEvaluateOnNewDocument", source=_OPENED % shown)
        self._browser.open("about:blank")
        self._browser.open(self._address)
        wait_ms = float(self._browser.run("window.opened"))
        self._browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
        return wait_ms

    def _painted(self, keys: str, wanted: Mapping[str, str]) -> Mapping[str, float]:
        tests = ", ".join(f"{json.dumps(name)}: () => {test}" for name, test in wanted.items())
        self._browser.run(_ARMED % f"{{{tests}}}")
        for key in keys:
            name, code = _KEYS.get(key, (key, ord(key.upper()) if key.isalnum() else 0))
            about = {"key": name, "windowsVirtualKeyCode": code}
            text = {} if key == "\b" else {"text": key}
            self._browser.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self._browser.send("Input.dispatchKeyEvent", type="keyUp", **about)
        return dict(self._browser.run("window.painted"))

"""Makes the pictures of the page in docs/images: `python -m tests.viewer.page_pictures`. No patient is in them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from sqlalchemy import update

from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.running import NodeSettings
from dicom_node.core.entities import PatientNumber
from dicom_node.core.principal import UserRole
from dicom_node.core.priority import Priority
from dicom_node.headers.demographics import Demographics
from dicom_node.index.database import Database
from dicom_node.index.received.patients import note_whose
from dicom_node.index.tables import jobs
from dicom_node.people.directory import People
from dicom_node.viewing.readers import ImageReaders
from tests.peers.browser import Browser, running_browser
from tests.support.api_client import parts_over, seeded_database, work_out
from tests.support.results.kept_study import keep_study
from tests.support.results.seeded import ANALYSING, CHEST_CT, CHEST_XR, GAP_CT, RECEIVING
from tests.support.studies.headers import portrait
from tests.viewer.pictures import IMAGES
from tests.viewer.studies import marked_answer

_NAME, _PASSWORD = "r.lindqvist", "seven blue herons"
_PEOPLE = {
    CHEST_CT: Demographics(
        name="Sommer^Anna", patient_id="PAT-4711", birth_date="19580412", sex="F", accession_number="ACC-1001"
    ),
    CHEST_XR: Demographics(
        name="Lindgren^Olaf", patient_id="PAT-5120", birth_date="19710901", sex="M", accession_number="ACC-1002"
    ),
    GAP_CT: Demographics(
        name="Okafor^Chidi", patient_id="PAT-6004", birth_date="19851120", sex="M", accession_number="ACC-1003"
    ),
    RECEIVING: Demographics(
        name="Tanaka^Yuki", patient_id="PAT-6150", birth_date="19640229", sex="F", accession_number="ACC-1004"
    ),
    ANALYSING: Demographics(
        name="Moreau^Luc", patient_id="PAT-6233", birth_date="19490717", sex="M", accession_number="ACC-1005"
    ),
}
_URGENT = {CHEST_CT: Priority.STAT, CHEST_XR: Priority.HIGH}
_LOADED = "document.querySelector('.loaded')?.textContent == '48 loaded'"


def main() -> None:
    """Write each picture at the size at which it is shown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "browser").mkdir()
        with _site(folder) as (address, study), running_browser(folder / "browser") as browser:
            _sign_in(browser, address)
            _keep(browser, "worklist", 1280, 760)
            _go(browser, "#/node", "document.querySelector('#senders')")
            _keep(browser, "node-page", 1280, 900)
            shown = f"document.querySelector('#detail .uid')?.textContent == '{study}'"
            _go(browser, f"#/study/{study}", f"{shown} && document.querySelector('[id^=review-]')")
            browser.wait_for("[...document.querySelectorAll('#detail img')].every((one) => one.complete)")
            _keep(browser, "status-page", 1280, 980)
            browser.click("[id^=review-]")
            browser.wait_for(f"{_LOADED} && document.querySelector('#review-modify')")
            _choose(browser, "reading-beside", "pictures")
            browser.wait_for("document.querySelectorAll('.viewport')[1].dataset.shown")
            _keep(browser, "viewer", 1400, 860)
            _choose(browser, "reading-beside", "")
            browser.click("#review-modify")
            browser.wait_for("document.querySelector('#f0-region')")
            browser.click("#f0-region")
            _keep(browser, "review", 1400, 860)


@contextmanager
def _site(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a page; yield its address, and the study whose images are there."""
    database = seeded_database(folder, datetime.now(UTC))
    _name(database, folder)
    kept = keep_study(database, folder, "shown", answer=marked_answer(), study_date="20260314")
    work_out(database, folder)
    readers = ImageReaders(folder / "readers", folder)
    parts = parts_over(database, folder)
    settings = parts.settings.model_copy(update={"node": NodeSettings(data_dir=folder)})
    parts = replace(parts, settings=settings, images=readers, open_object=lambda key: folder / key)
    app = create_app(parts)
    people: People = app.state.access.people
    people.accounts.add(_NAME, [UserRole.REVIEWER, UserRole.ADMIN], _PASSWORD)
    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/", kept.study_uid
    finally:
        server.stop()
        readers.close()
        database.close()


def _name(database: Database, folder: Path) -> None:
    """Give the studies of the list people who do not exist."""
    with database.write() as connection:
        note_whose(connection, {uid: PatientNumber(one.patient_id) for uid, one in _PEOPLE.items()})
        for uid, priority in _URGENT.items():
            connection.execute(update(jobs).where(jobs.c.study_instance_uid == uid).values(priority=priority.value))
    for uid, one in _PEOPLE.items():
        for image in (f"{uid}.1.1", f"{uid}.3.1"):
            portrait(folder / hashlib.sha256(f"{image}True".encode()).hexdigest(), one)


def _sign_in(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.wait_for("!document.querySelector('#login').hidden")
    for field, text in (("name", _NAME), ("password", _PASSWORD)):
        browser.run(f"document.getElementById('{field}').value = {json.dumps(text)}")
    browser.click("#login-form button")
    browser.wait_for("!document.querySelector('#app').hidden && document.querySelector('#studies .study')")


def _go(browser: Browser, view: str, holds: str) -> None:
    browser.run(f"location.hash = {json.dumps(view)}")
    browser.wait_for(holds)


def _choose(browser: Browser, field: str, value: str) -> None:
    browser.run(f"document.getElementById('{field}').value = {json.dumps(value)}")
    browser.run(f"void document.getElementById('{field}').dispatchEvent(new Event('change'))")


def _keep(browser: Browser, name: str, width: int, height: int) -> None:
    browser.show_at(width, height)
    browser.run("window.scrollTo(0, 0)")
    browser.wait_for("document.querySelector('#live').dataset.state == 'on'")
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    path = IMAGES / f"{name}.png"
    browser.screenshot(path)
    # A page has few colours: as many are a third of the bytes.
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()

"""A radiologist at a node, in a browser: finds, reads, corrects, accepts, rejects; and what all others then have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hl7
import pytest
from pydicom.dataset import Dataset

from dicom_node.core.principal import UserRole
from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.fhir.hl7.grammar import value
from tests.acceptance.nodule_model import CARD, DIAMETER_MM, FEWEST_IMAGES, MARKED, NAME
from tests.acceptance.site import PATIENT_SYSTEM, Site
from tests.integration.test_reading_page import MIDDLE, PASSWORD, Reader
from tests.peers.browser import Browser, running_browser
from tests.peers.dcmtk import dcmsend
from tests.peers.fhir_server import running_fhir_server
from tests.peers.mllp import Hl7Receiver, running_receiver
from tests.peers.node import Node
from tests.peers.orthanc import running_orthanc
from tests.peers.process import wait_until
from tests.support.needs import REPOSITORY

pytestmark = pytest.mark.timeout(600)

SLICES = 8
#: By accession number: patient, date of the study, and how many images come.
SENT = {
    "A-1": ("PAT-7", "20250301", SLICES),
    "A-2": ("PAT-7", "20260314", SLICES),
    "B-3": ("PAT-8", "20260315", SLICES),
    "C-4": ("PAT-9", "20260316", FEWEST_IMAGES - 1),
    "D-5": ("PAT-9", "20260317", SLICES),
}
MEASURED_MM = 6.5
_SAID = "document.querySelector('.review-said').textContent"
_ACCEPT = """{method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"decision": "ACCEPTED"}'}"""
_MAIN, _BESIDE = (f"document.querySelectorAll('.viewport')[{place}].dataset" for place in (0, 1))


@dataclass(frozen=True, slots=True)
class Hospital:
    """The node between PACS, EHR and RIS, and by accession number the images of each study that came."""

    site: Site
    ris: Hl7Receiver
    images: Mapping[str, Sequence[Dataset]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.site.node.api_port}/"

    def study(self, accession: str) -> str:
        return str(self.images[accession][0].StudyInstanceUID)

    def objects(self, accession: str, modality: str) -> list[Dataset]:
        """What the PACS has of a study."""
        return [one for one in self.site.pacs.datasets(modality) if one.StudyInstanceUID == self.study(accession)]

    def report(self, accession: str) -> dict[str, Any]:
        """The report of a study in the EHR."""
        reports = self.site.ehr.all("DiagnosticReport")
        (mine,) = (one for one in reports if one["basedOn"][0]["identifier"]["value"] == accession)
        return mine

    def message(self, accession: str) -> hl7.Message:
        """What the RIS shows of a study: the message that came last."""
        return next(one for one in self.ris.chart().values() if value(one.segment("OBR"), 18) == accession)

    def acts(self, accession: str, actor: str) -> set[str]:
        """What somebody did with a study, as the audit trail has it."""
        with self.site.node.api() as api:
            records = (
                api.get("/api/v1/audit", params={"actor": actor, "limit": 1000}).raise_for_status().json()["records"]
            )
        return {one["act"] for one in records if one["study_instance_uid"] == self.study(accession)}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with ExitStack() as stack:
        pacs = stack.enter_context(running_orthanc(tmp_path_factory.mktemp("orthanc")))
        ehr = stack.enter_context(running_fhir_server())
        ris = stack.enter_context(running_receiver())
        for patient in {patient for patient, _, _ in SENT.values()}:
            ehr.add_patient(PATIENT_SYSTEM, patient)
        node = Node(folder / "node", {
            "inference": {"models_dirs": [str(_models(folder))], "require_activation": "none"},
            "fhir": {"patient_system": PATIENT_SYSTEM, "accession_system": "urn:oid:2.25.78"},
            "destination": [
                {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port,
                 "outputs": {"rejection_note": True}},
                {"name": "ehr", "kind": "fhir", "url": ehr.url},
                {"name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": ris.port, "withdrawal": "W"},
            ],
            "route": [{"name": "ct", "model": NAME, "quiet_period_s": 0.5, "when": {"modality": "CT"}}],
        })  # fmt: skip
        accept = [sys.executable, "-m", "dicom_node", "models", "accept", NAME, "--config", str(node.config)]
        subprocess.run(accept, cwd=REPOSITORY, check=True, capture_output=True)
        stack.callback(node.kill9)
        node.start()
        _hire(node)
        hospital = Hospital(Site(node, pacs, ehr), ris, {one: _images(one) for one in SENT})
        _send(hospital, folder / "sent")
        yield hospital


def _models(folder: Path) -> Path:
    model = folder / "models" / NAME
    model.mkdir(parents=True)
    (model / "model_card.toml").write_text(CARD, encoding="utf-8")
    return model.parent


def _hire(node: Node) -> None:
    """Add somebody of each role, named after it."""
    with node.api() as api:
        for role in UserRole:
            api.post("/api/v1/users", json={"name": role, "roles": [role], "password": PASSWORD}).raise_for_status()
        named = {"display_name": "Weiss^Anna", "identifier": "PRV-1042"}
        api.patch("/api/v1/users/reviewer", json={"named": named}).raise_for_status()


def _images(accession: str) -> list[Dataset]:
    patient, date, count = SENT[accession]
    images, _ = chest_ct_phantom(accession, slices=SLICES, rows=128, slice_spacing_mm=39)
    for one in images:
        one.PatientID, one.PatientName, one.AccessionNumber = patient, "Sommer^Anna", accession
        one.StudyDate, one.StudyDescription = date, "CT chest"
    return images[:count]


def _send(hospital: Hospital, folder: Path) -> None:
    folder.mkdir()
    for image in (one for images in hospital.images.values() for one in images):
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = dcmsend(hospital.site.node.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout[-400:]
    for accession in hospital.images:
        hospital.site.finished(hospital.study(accession))
        wait_until(lambda one=accession: _is_findable(hospital, one), 60, f"{accession} to be found")


def _is_findable(hospital: Hospital, accession: str) -> bool:
    with hospital.site.node.api() as api:
        found = api.get("/api/v1/worklist", params={"accession_number": accession}).raise_for_status().json()
    return bool(found["studies"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def find(reader: Reader, hospital: Hospital, accession: str) -> None:
    """Go to a study by its accession number, with keys alone."""
    reader.press("/", *accession, "Enter")
    reader.wait_for(f"document.querySelector('#detail .uid')?.textContent == '{hospital.study(accession)}'")


def test_a_corrected_measurement_is_told_everywhere_in_the_name_of_who_read_the_images(
    hospital: Hospital, browser: Browser
) -> None:
    images, prior = hospital.images["A-2"], hospital.images["A-1"]
    heat_map = _heat_map(hospital, "A-2")
    reader = Reader(browser, hospital.address, "reviewer")
    find(reader, hospital, "A-2")
    reader.press("v")
    reader.wait_for(f"document.querySelector('.viewport') && {_MAIN}.shown == '{images[MARKED].SOPInstanceUID}/1'")
    _look(reader, images, heat_map, prior)
    reader.wait_for("document.querySelector('#review-modify')")
    reader.press("m")
    assert browser.run("document.querySelector('#f0-m0').value") == f"{DIAMETER_MM:g}"
    reader.fill("#f0-m0", str(MEASURED_MM))
    browser.click("#review-save")
    reader.wait_for(f"{_SAID} == 'Corrections saved.'")
    reader.press("Escape")
    reader.wait_for("document.querySelector('#studies').innerText.includes('modified by Weiss, Anna')")
    _compares_with_what_the_model_saw(reader, images, heat_map)
    assert not browser.complaints

    wait_until(lambda: hospital.report("A-2")["status"] == "final", 60, "the final report")
    assert hospital.report("A-2")["resultsInterpreter"][0]["display"] == "Anna Weiss"
    wait_until(lambda: value(hospital.message("A-2").segment("OBR"), 25) == "F", 60, "the final message")
    assert {value(one, 11) for one in hospital.message("A-2").segments("OBX")} == {"F"}
    wait_until(lambda: len(hospital.objects("A-2", "SR")) == 2, 60, "the verified report")
    original, verified = sorted(hospital.objects("A-2", "SR"), key=lambda one: one.InstanceNumber)
    assert (original.VerificationFlag, verified.VerificationFlag) == ("UNVERIFIED", "VERIFIED")
    assert verified.VerifyingObserverSequence[0].VerifyingObserverName == "Weiss^Anna"
    assert [DIAMETER_MM in _numbers(one) for one in (original, verified)] == [True, False]
    assert MEASURED_MM in _numbers(verified)
    assert hospital.acts("A-2", "reviewer") >= {"result-read", "images-read", "review"}
    assert "images-read" in hospital.acts("A-1", "reviewer"), "a prior is looked at, too"


def _look(reader: Reader, images: Sequence[Dataset], heat_map: str, prior: Sequence[Dataset]) -> None:
    """Scroll, change the window, take the masks away, and put heat map and prior beside the images."""
    reader.wait_for(f"document.querySelector('.loaded').textContent == '{len(images)} loaded'")
    reader.wheel()
    reader.wait_for(f"{_MAIN}.shown == '{images[MARKED + 1].SOPInstanceUID}/1'")
    reader.wait_for(f"{MIDDLE}[0] != {MIDDLE}[1]")  # the mask has come
    reader.press("s")
    bare = reader.drawn()
    assert len(set(bare)) == 1, "grey alone"
    reader.press("2")
    assert reader.drawn() != bare
    assert reader.browser.run(f"{_MAIN}.width") == "400"
    reader.press("h")
    reader.wait_for(f"{_BESIDE}.shown?.startsWith('{heat_map}')")
    reader.wait_for("document.querySelector('#reading-beside').innerText.includes('Prior')")
    reader.press("p")
    reader.wait_for(f"{_BESIDE}.shown == '{prior[MARKED + 1].SOPInstanceUID}/1'")


def _compares_with_what_the_model_saw(reader: Reader, images: Sequence[Dataset], heat_map: str) -> None:
    """The verified result is read beside the pictures of the one that was reviewed: it has none of its own."""
    reader.wait_for("document.querySelector('#detail').innerText.includes('Verified by Weiss, Anna')")
    reader.press("v")
    reader.wait_for(f"document.querySelector('.viewport') && {_MAIN}.shown == '{images[MARKED].SOPInstanceUID}/1'")
    assert "Diameter 6.5 mm" in reader.browser.run("document.querySelector('.review').innerText")
    reader.press("h")
    reader.wait_for(f"{_BESIDE}.shown?.startsWith('{heat_map}')")
    reader.press("Escape")


def _heat_map(hospital: Hospital, accession: str) -> str:
    (result,) = hospital.site.study(hospital.study(accession))["results"]
    return next(one["uid"] for one in result["artifacts"] if one["description"].startswith("Influence map"))


def _numbers(report: Dataset) -> set[float]:
    return {float(one.value) for one in report.iterall() if one.keyword == "NumericValue"}


def test_a_result_is_accepted_from_the_worklist_in_twelve_keystrokes(hospital: Hospital, browser: Browser) -> None:
    reader = Reader(browser, hospital.address, "reviewer")
    find(reader, hospital, "B-3")
    reader.press("a")
    reader.wait_for("document.activeElement.id == 'review-send'")
    reader.press("Enter")
    reader.wait_for(f"{_SAID} == 'Accepted.'")
    assert reader.keys <= 12
    wait_until(lambda: hospital.report("B-3")["status"] == "final", 60, "the final report")
    wait_until(lambda: len(hospital.objects("B-3", "SR")) == 2, 60, "the verified report")
    assert {one.VerificationFlag for one in hospital.objects("B-3", "SR")} == {"UNVERIFIED", "VERIFIED"}


def test_a_rejected_result_is_withdrawn_everywhere(hospital: Hospital, browser: Browser) -> None:
    reader = Reader(browser, hospital.address, "reviewer")
    find(reader, hospital, "A-1")
    reader.press("r")
    reader.wait_for("document.activeElement.id == 'reason-FALSE_POSITIVE'")
    reader.press(" ")
    reader.fill("#reason-text", "A vessel.")
    browser.click("#review-send")
    reader.wait_for(f"{_SAID} == 'Rejected.'")
    reader.press("Escape")
    why = "Rejected in review by Anna Weiss. Something was reported that is not there. A vessel."
    reader.wait_for(f"document.querySelector('#detail').innerText.includes({json.dumps(f'rejected: {why}')})")

    wait_until(lambda: hospital.report("A-1")["status"] == "entered-in-error", 60, "the report to be taken back")
    assert why in hospital.report("A-1")["conclusion"]
    wait_until(lambda: "ai-withdrawn" in str(hospital.message("A-1")), 60, "the message to be taken back")
    assert why in str(hospital.message("A-1"))
    wait_until(lambda: hospital.objects("A-1", "KO"), 60, "the rejection note")
    (note,) = hospital.objects("A-1", "KO")
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037", "Rejected for Patient Safety Reasons"
    original = min(hospital.objects("A-1", "SR"), key=lambda one: one.InstanceNumber)
    sent = [original, *hospital.objects("A-1", "OT"), *hospital.objects("A-1", "SEG")]
    named = {one.value for one in note.iterall() if one.keyword == "ReferencedSOPInstanceUID"}
    assert named == {one.SOPInstanceUID for one in sent}


def test_each_role_learns_in_two_steps_why_there_is_no_result_and_reviewers_alone_may_review(
    hospital: Hospital, browser: Browser
) -> None:
    (waits,) = hospital.site.study(hospital.study("D-5"))["results"]
    decided = f"fetch('/api/v1/results/{waits['job_key']}/review', {_ACCEPT}).then((answer) => answer.status)"
    for role in UserRole:
        reader = Reader(browser, hospital.address, role)
        find(reader, hospital, "C-4")
        assert f"The series has {FEWEST_IMAGES - 1} images" in browser.run("document.querySelector('#cause').innerText")
        assert _is_offered(browser, "#rerun-study") is (role in {UserRole.OPERATOR, UserRole.ADMIN})
        find(reader, hospital, "D-5")
        assert _is_offered(browser, "[id^=images-]")
        assert _is_offered(browser, "[id^=review-]") is (role is UserRole.REVIEWER)
        if role is not UserRole.REVIEWER:
            assert browser.run(decided) == 403


def _is_offered(browser: Browser, selector: str) -> bool:
    return bool(browser.run(f"Boolean(document.querySelector({json.dumps(selector)}))"))

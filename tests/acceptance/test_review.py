"""Results reviewed at a node between DCMTK, a PACS and an EHR: accepted by one of two, replaced meanwhile, rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset

from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers.dcmtk import dcmsend
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

ACCEPTED = {"decision": "ACCEPTED"}
REJECTED = {"decision": "REJECTED", "reasons": ["UNSUITABLE_IMAGES"], "text": "Motion in every slice."}
PEOPLE = ("anna", "bert")


@pytest.fixture
def site(node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer) -> Site:
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    return open_site(node, orthanc, fhir_server, route=[route], inference={"lease_s": 5})


def test_reviewed_results_are_told_once_and_everywhere(site: Site, tmp_path: Path) -> None:
    with site.node.api() as admin:
        reviewers = [_reviewer(site, admin, name) for name in PEOPLE]
    _is_accepted_by_one_of_two(site, reviewers, tmp_path / "accepted")
    _is_rejected_after_a_late_image(site, reviewers[0], tmp_path / "rejected")


def _is_accepted_by_one_of_two(site: Site, reviewers: Sequence[str], folder: Path) -> None:
    images = small_chest_ct("accepted")[0]
    site.ehr.add_patient(PATIENT_SYSTEM, str(images[0].PatientID))
    study = _sent(site.node, images, folder)
    (result,) = site.finished(study)["results"]
    (first,) = _reports(site, study)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda key: _decided(site, key, result["job_key"], ACCEPTED), reviewers))
    site.node.kill9()
    site.node.start()

    assert sorted(one.status_code for one in answers) == [200, 409]
    wait_until(lambda: len(_reports(site, study)) == 2, 90, "the verified report at the PACS")
    site.finished(study)
    told = {one["sequence"]: one for one in site.study(study)["results"]}
    assert [(told[n]["standing"], told[n]["review_state"]) for n in (1, 2)] == [
        ("SUPERSEDED", "ACCEPTED"), ("CURRENT", "ACCEPTED"),
    ]  # fmt: skip
    assert (told[1]["successor"], told[2]["review_of"]) == (told[2]["job_key"], told[1]["job_key"])
    (verified,) = (one for one in _reports(site, study) if one.SOPInstanceUID != first.SOPInstanceUID)
    assert (first.VerificationFlag, verified.VerificationFlag) == ("UNVERIFIED", "VERIFIED")
    (observer,) = verified.VerifyingObserverSequence
    assert str(observer.VerifyingObserverName) == told[2]["reviewer"]
    assert told[2]["reviewer"].removeprefix("key:") in PEOPLE
    _is_final_in_the_ehr(site, told[2]["reviewer"])
    assert verified.SeriesInstanceUID == first.SeriesInstanceUID
    (named,) = verified.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert site.timeline(study).count("accepted the result.") == 1


def _is_final_in_the_ehr(site: Site, reviewer: str) -> None:
    (report,) = site.ehr.all("DiagnosticReport")
    assert (report["status"], [one["display"] for one in report["resultsInterpreter"]]) == ("final", [reviewer])
    statuses = {one["status"] for one in site.ehr.all("Observation")}
    assert statuses == {"final"}


def _is_rejected_after_a_late_image(site: Site, reviewer: str, folder: Path) -> None:
    *images, late = small_chest_ct("rejected")[0]
    study = _sent(site.node, images, folder)
    (result,) = site.finished(study)["results"]
    _sent(site.node, [late], folder / "late")
    # What was acknowledged this moment is filed in the next; a decision in between is about the images before it.
    wait_until(lambda: site.study(study)["study"]["revision"] == 2, 60, "the late image to be filed", 0.01)
    refused = _decided(site, reviewer, result["job_key"], REJECTED)
    assert (refused.status_code, refused.json()["type"]) == (409, "/api/v1/problems/not-reviewable")

    wait_until(lambda: len(site.study(study)["results"]) == 2, 90, "the result of all images")
    site.finished(study)
    current = next(one for one in site.study(study)["results"] if one["current"])
    before = len(_reports(site, study))
    assert _decided(site, reviewer, current["job_key"], REJECTED).status_code == 200
    wait_until(lambda: len(_reports(site, study)) > before, 90, "the withdrawal at the PACS")
    site.finished(study)
    newest = max(_reports(site, study), key=lambda one: one.InstanceNumber)
    assert "Motion in every slice." in str(newest.ContentSequence[-1].TextValue)
    assert {one["standing"] for one in site.study(study)["results"]} == {"REJECTED"}


def _reviewer(site: Site, admin: httpx.Client, name: str) -> str:
    """Return the key of a reviewer of this name."""
    made = admin.post("/api/v1/keys", json={"name": name, "roles": ["reviewer"]}).raise_for_status()
    return str(made.json()["secret"])


def _decided(site: Site, key: str, result: str, decision: dict[str, Any]) -> httpx.Response:
    with site.node.api() as api:
        headers = {"Authorization": f"Bearer {key}"}
        return api.post(f"/api/v1/results/{result}/review", json=decision, headers=headers)


def _reports(site: Site, study: str) -> Sequence[Dataset]:
    return [one for one in site.pacs.datasets("SR") if one.StudyInstanceUID == study]


def _sent(node: Node, images: Sequence[Dataset], folder: Path) -> str:
    folder.mkdir()
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = dcmsend(node.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout[-400:]
    return str(images[0].StudyInstanceUID)

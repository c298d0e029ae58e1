"""A result taken back while the PACS is away and the node is killed: told once, when the PACS is back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers.dcmtk import dcmsend
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port, wait_until
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

WHY = {"reason": "The images are of another patient."}


def test_a_withdrawal_outlives_a_kill_and_reaches_a_pacs_that_was_away(
    node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer, tmp_path: Path
) -> None:
    images = small_chest_ct("withdrawn")[0]
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    site = open_site(node, orthanc, fhir_server, dicom={"port": free_port()}, route=[route])
    fhir_server.add_patient(PATIENT_SYSTEM, str(images[0].PatientID))
    study = _send(site.node, images, tmp_path / "images")
    site.finished(study)
    (first,) = _reports(orthanc, study)
    orthanc.kill9()
    _withdraw(site, study)
    site.node.kill9()
    site.node.start()
    _withdraw(site, study)
    wait_until(lambda: _is_owed(site, study, "pacs"), 60, "the withdrawal to wait for the PACS")
    orthanc.start()
    wait_until(lambda: not _is_owed(site, study, "pacs"), 120, "the withdrawal to arrive")

    (told,) = (one for one in _reports(orthanc, study) if one.SOPInstanceUID != first.SOPInstanceUID)
    assert WHY["reason"] in str(told.ContentSequence[-1].TextValue)
    said = [one for one in site.study(study)["deliveries"] if one["artifact_description"].startswith("Withdraw")]
    assert sorted((one["destination"], one["state"]) for one in said) == [("ehr", "SENT"), ("pacs", "SENT")]
    assert [one["standing"] for one in site.study(study)["results"]] == ["WITHDRAWN"]
    assert site.timeline(study).count(f"The result was withdrawn: {WHY['reason']}") == 1


def _send(node: Node, images: Sequence[Dataset], folder: Path) -> str:
    folder.mkdir()
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = dcmsend(node.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout[-400:]
    return str(images[0].StudyInstanceUID)


def _withdraw(site: Site, study: str) -> None:
    with site.node.api() as api:
        api.post(f"/api/studies/{study}/withdraw", json=WHY).raise_for_status()


def _reports(orthanc: Orthanc, study: str) -> Sequence[Dataset]:
    return [one for one in orthanc.datasets("SR") if one.StudyInstanceUID == study]


def _is_owed(site: Site, study: str, destination: str) -> bool:
    owed: list[dict[str, Any]] = site.study(study)["deliveries"]
    return any(one["destination"] == destination and one["state"] == "PENDING" for one in owed)

"""Awkward real studies through the whole node: each ends with an answer or an explicit reason, names unharmed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pydicom.misc
import pytest

from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from tests.acceptance.site import FINISHED
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support import needs
from tests.support.results.folders import objects_in
from tests.support.studies.data_factories import small_chest_ct
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

FOLDERS = (
    "mr_9_transfer_syntaxes",
    "cxr",
    "us_multiframe_and_colour",
    "odd_geometry",
    "odd_encoding",
    "charset",
    "mammo_ct_sc_wg04",
)


@pytest.fixture(scope="module")
def any_study_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that tries to analyse everything by both models and writes what comes of it into the folder `files`."""
    folder = tmp_path_factory.mktemp("odd")
    routes = [
        {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 2.0, "when": {"modality": "CT"}},
        {"name": "rest", "model": "cxr-pneumonia", "quiet_period_s": 2.0, "when": {"modality": {"none_of": ["CT"]}}},
    ]
    destinations = [{"name": "files", "kind": "folder", "path": str(folder / "files")}]
    settings = {"route": routes, "destination": destinations, "fhir": {"patient_system": "urn:oid:2.25.77"}}
    node = Node(folder, settings)
    node.start()
    yield node
    node.kill9()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_study_of_a_real_folder_ends_with_an_answer_or_a_reason(any_study_node: Node, folder: str) -> None:
    studies = _finished_studies(any_study_node, needs.real_data(folder))
    assert studies

    for study in studies:
        assert study["state"] in {"REPORTED", "NOT_ANALYSED"}, study
        if study["state"] == "NOT_ANALYSED":
            assert study["reason"]
    reports = [path for study in studies for path in _reports_about(any_study_node, study["study_instance_uid"])]
    assert len(reports) == sum(len(study["routes"]) for study in studies)
    for path in reports:
        validators.assert_readable_sr(path)
    assert "Traceback" not in any_study_node.log.read_text()


def test_names_in_any_script_reach_the_sr_and_the_fhir_bundle(any_study_node: Node) -> None:
    folder = needs.real_data("charset")
    studies = _finished_studies(any_study_node, folder)
    assert len(studies) >= 6

    texts = "\n".join(
        json.dumps(json.loads(path.read_text(encoding="utf-8")), ensure_ascii=False)
        for path in (any_study_node.folder / "files").glob("FHIR-*.json")
    )
    reports = {
        uid: pydicom.dcmread(_reports_about(any_study_node, uid)[0])
        for uid in (study["study_instance_uid"] for study in studies)
    }
    sources = [
        source for source in map(pydicom.dcmread, _files_in(folder)) if source.get("StudyInstanceUID") in reports
    ]
    assert len(sources) >= 6
    for source in sources:
        report = reports[source.StudyInstanceUID]
        assert str(report.PatientName).rstrip("=^") == str(source.PatientName).rstrip("=^")
        family = str(source.PatientName.ideographic or source.PatientName.alphabetic).split("^", maxsplit=1)[0]
        assert family.replace("\x1b$)A", "").replace("\x1b(B", "") in texts


def test_a_study_that_names_two_patients_is_quarantined_and_nothing_is_sent(
    any_study_node: Node, tmp_path: Path
) -> None:
    slices, _ = small_chest_ct("two-patients")
    slices[5].PatientID = "SOMEBODY-ELSE"
    for dataset in slices:
        dataset.save_as(tmp_path / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)

    (study,) = _finished_studies(any_study_node, tmp_path)

    assert study["state"] == "FAILED"
    assert "patient" in str(study["reason"]).lower()
    assert "SOMEBODY-ELSE" not in str(study)
    assert _about(any_study_node, study["study_instance_uid"]) == []


def _files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and pydicom.misc.is_dicom(path)]


def _about(node: Node, study: str) -> list[Path]:
    """Return what was delivered about a study."""
    return [path for path in objects_in(node.folder / "files") if study.encode() in path.read_bytes()]


def _reports_about(node: Node, study: str) -> list[Path]:
    return [path for path in _about(node, study) if path.name.startswith("SR-")]


def _finished_studies(node: Node, folder: Path) -> list[dict[str, Any]]:
    """Send a folder, unless it was sent before; return its studies when each has come to its end."""
    remote = Remote("127.0.0.1", node.dicom_port, node.aet, "MOD1", 30.0)
    stored = [one.path for one in send_files([folder], remote) if one.stored]
    wanted = {str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID) for path in stored}
    node.wait_until_settled()
    found: list[dict[str, Any]] = []

    def done() -> bool:
        with node.api() as api:
            listed = api.get("/api/studies", params={"limit": 200}).raise_for_status().json()["studies"]
        found[:] = [study for study in listed if study["study_instance_uid"] in wanted]
        return len(found) == len(wanted) and all(
            study["state"] in FINISHED and not study["deliveries"]["pending"] for study in found
        )

    wait_until(done, 300, "every study to be finished and delivered", 0.5)
    return found

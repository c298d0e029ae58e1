"""Awkward real studies through the whole node: each ends with an answer or an explicit reason, names unharmed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from tests.acceptance.site import FINISHED
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support import needs
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


@pytest.fixture
def any_study_node(node: Callable[..., Node], tmp_path: Path) -> Node:
    """A node that tries to analyse everything by both models and writes what comes of it into a folder."""
    routes = [
        {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 2.0, "when": {"modality": "CT"}},
        {"name": "rest", "model": "cxr-pneumonia", "quiet_period_s": 2.0, "when": {"modality": {"none_of": ["CT"]}}},
    ]
    destinations = [{"name": "files", "kind": "folder", "path": str(tmp_path / "files")}]
    return node(route=routes, destination=destinations, fhir={"patient_system": "urn:oid:2.25.77"})


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_study_of_a_real_folder_ends_with_an_answer_or_a_reason(
    any_study_node: Node, folder: str, tmp_path: Path
) -> None:
    sent = list(send_files([needs.real_data(folder)], _remote(any_study_node)))
    assert any(one.stored for one in sent)
    studies = _finished_studies(any_study_node)

    for study in studies:
        assert study["state"] in {"REPORTED", "NOT_ANALYSED"}, study
        if study["state"] == "NOT_ANALYSED":
            assert study["reason"]
    reports = sorted((tmp_path / "files").glob("SR-*.dcm"))
    assert len(reports) == sum(len(study["routes"]) for study in studies)
    for path in reports:
        validators.assert_readable_sr(path)
    assert "Traceback" not in any_study_node.log.read_text()


def test_names_in_any_script_reach_the_sr_and_the_fhir_bundle(any_study_node: Node, tmp_path: Path) -> None:
    folder = needs.real_data("charset")
    sent = [one for one in send_files([folder], _remote(any_study_node)) if one.stored]
    _finished_studies(any_study_node)

    reports = {r.StudyInstanceUID: r for r in map(pydicom.dcmread, (tmp_path / "files").glob("SR-*.dcm"))}
    bundles = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "files").glob("FHIR-*.json")]
    texts = "\n".join(json.dumps(bundle, ensure_ascii=False) for bundle in bundles)
    assert len(sent) >= 6
    for one in sent:
        source = pydicom.dcmread(one.path)
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
    list(send_files(sorted(tmp_path.glob("*.dcm")), _remote(any_study_node)))

    (study,) = _finished_studies(any_study_node)

    assert study["state"] == "FAILED"
    assert "patient" in str(study["reason"]).lower()
    assert "SOMEBODY-ELSE" not in str(study)
    assert list(tmp_path.glob("files/*")) == []


def _remote(node: Node) -> Remote:
    return Remote("127.0.0.1", node.dicom_port, node.aet, "MOD1", 30.0)


def _finished_studies(node: Node) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    node.wait_until_settled()  # from here on it lists every study that was sent

    def done() -> bool:
        with node.api() as api:
            found[:] = api.get("/api/studies", params={"limit": 200}).raise_for_status().json()["studies"]
        return bool(found) and all(s["state"] in FINISHED and not s["deliveries"]["pending"] for s in found)  # type: ignore[index]

    wait_until(done, 300, "every study to be finished and delivered", 0.5)
    return found

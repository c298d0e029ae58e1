"""The whole way with a real PACS: Orthanc routes a study to the node, and gets the results, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.doctor import register_with_orthanc
from dicom_node.roles.settings import load_settings
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until

pytestmark = pytest.mark.timeout(600)

RESULT_LIMIT_S = 240.0


def test_a_study_goes_from_orthanc_to_the_node_and_its_results_come_back_once(
    orthanc: Orthanc, node: Callable[..., Node]
) -> None:
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": orthanc.aet, "host": orthanc.host, "port": orthanc.dicom_port}
    route = {"name": "chest-ct", "model": "ct-lung-density", "when": {"modality": "CT"}, "quiet_period_s": 2}
    one = node(destination=[pacs], route=[route])
    registered = register_with_orthanc(load_settings(one.config), orthanc.http_url)
    slices, _truth = chest_ct_phantom(slices=32, rows=128, slice_spacing_mm=10.0)

    for image in slices:
        orthanc.upload_dataset(image)
    (report,) = orthanc.wait_for(1, "SR", RESULT_LIMIT_S)
    wait_until(lambda: not _owed(one, str(report.StudyInstanceUID)), 60, "the delivery of all results", 0.5)
    after_the_report = set(orthanc.instances())
    later = _routed_after_all_that(orthanc, one)

    assert registered.ok, registered
    assert report.StudyInstanceUID == slices[0].StudyInstanceUID
    stored = [dataset for dataset in orthanc.datasets() if dataset.StudyInstanceUID == report.StudyInstanceUID]
    assert {dataset.SOPClassUID.name for dataset in stored} >= {
        "CT Image Storage",
        "Secondary Capture Image Storage",
        "Segmentation Storage",
        "Comprehensive 3D SR Storage",
    }
    assert len(stored) == len(after_the_report), "results went round: the node analysed its own objects"
    with one.api() as api:
        study = api.get(f"/api/studies/{report.StudyInstanceUID}").raise_for_status().json()
    assert [series["role"] for series in study["series"]] == ["SOURCE"]
    assert study["study"]["revision"] == 1
    with one.api() as api:
        studies = api.get("/api/studies").raise_for_status().json()["studies"]
    assert {study["study_instance_uid"] for study in studies} == {str(report.StudyInstanceUID), later}


def _routed_after_all_that(orthanc: Orthanc, node: Node) -> str:
    """Store an image of another study and wait until it has gone to the node and come to its end; return the study.

    Orthanc's script works off its journal in order: a result that it took for an image would have gone before.
    """
    image = chest_ct_phantom("later", slices=1, rows=64)[0][0]
    orthanc.upload_dataset(image)
    study = str(image.StudyInstanceUID)

    def is_done() -> bool:
        with node.api() as api:
            answer = api.get(f"/api/studies/{study}")
        return answer.status_code == 200 and answer.json()["study"]["state"] in {"REPORTED", "NOT_ANALYSED", "FAILED"}

    wait_until(is_done, RESULT_LIMIT_S, "the later study's end", 0.5)
    return study


def _owed(node: Node, study: str) -> int:
    with node.api() as api:
        return int(api.get(f"/api/studies/{study}").raise_for_status().json()["study"]["deliveries"]["pending"])

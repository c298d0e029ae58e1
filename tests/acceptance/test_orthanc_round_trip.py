"""The whole way with a real PACS: Orthanc routes a study to the node, and gets the results, once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.doctor import register_with_orthanc
from dicom_node.roles.settings import load_settings
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until

pytestmark = pytest.mark.timeout(600)

#: Longer than StableAge, the script's rounds and the route's quiet time together.
A_LOOP_WOULD_SHOW_S = 12.0
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
    time.sleep(A_LOOP_WOULD_SHOW_S)

    assert registered.ok, registered
    assert report.StudyInstanceUID == slices[0].StudyInstanceUID
    assert {stored.SOPClassUID.name for stored in orthanc.datasets()} >= {
        "CT Image Storage",
        "Secondary Capture Image Storage",
        "Segmentation Storage",
        "Comprehensive 3D SR Storage",
    }
    assert set(orthanc.instances()) == after_the_report, "results went round: the node analysed its own objects"
    with one.api() as api:
        study = api.get(f"/api/studies/{report.StudyInstanceUID}").raise_for_status().json()
    assert [series["role"] for series in study["series"]] == ["SOURCE"]
    assert study["study"]["revision"] == 1


def _owed(node: Node, study: str) -> int:
    with node.api() as api:
        return int(api.get(f"/api/studies/{study}").raise_for_status().json()["study"]["deliveries"]["pending"])

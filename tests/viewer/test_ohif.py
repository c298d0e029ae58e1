"""A whole set of objects at Orthanc, sent by the node's own sender, as OHIF shows it. Screenshots are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_node.send.negotiation import Remote
from dicom_node.send.scu import send_files
from tests.browser import running_browser
from tests.peers.orthanc import running_orthanc
from tests.viewer.ohif_server import running_ohif
from tests.viewer.studies import MarkedStudy, marked_study
from tests.viewer.viewer import Viewer

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MarkedStudy:
    return marked_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def viewer(study: MarkedStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("viewer")
    kept = Path(os.environ.get("DICOM_NODE_SCREENSHOTS", folder))
    with running_orthanc(folder) as pacs:
        for source in study.sources:
            pacs.upload(source)
        sent = list(send_files(study.objects, Remote("127.0.0.1", pacs.dicom_port, pacs.aet, "AINODE", 30)))
        assert all(one.stored for one in sent), sent
        with running_ohif(pacs.http_port) as server, running_browser(folder, webgl=True) as browser:
            yield Viewer(browser, server.url, kept)


def test_every_kind_of_object_is_in_the_list_of_series(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    listed = dict(viewer.series())
    assert {"CT", "OT", "SEG", "SR", "PR", "KO", "DOC"} <= set(listed)
    ours = [description for modality, description in listed.items() if modality != "CT"]
    assert all(one.startswith("AI ") and one.endswith("NOT VERIFIED") for one in ours), ours


def test_the_report_opens_on_the_slice_of_its_region_with_its_numbers(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    viewer.show("SR")
    viewer.wait_for_text("Certainty of Finding: 93.00 %", f"Diameter: {study.diameter_mm:.2f} mm")
    viewer.screenshot("report")
    assert viewer.instance_number() == study.marked_instance


def test_the_segmentation_is_laid_over_the_images_in_color(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    before = _colored(viewer.screenshot("images"))
    viewer.show("SEG")
    viewer.press("Yes")
    viewer.browser.wait_for("services.segmentationService.getSegmentations().length", 60)
    after = _colored(viewer.screenshot("segmentation"))
    assert after > before + 500


def _colored(page: np.ndarray) -> int:
    """Count colored pixels of the image, which has none of its own; the viewer's controls lie around it."""
    image = page[80:820, 420:1230].astype(int)
    return int((image.max(axis=2) - image.min(axis=2) > 40).sum())

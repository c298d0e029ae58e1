"""A whole set of objects at Orthanc, sent by the node's own sender, as OHIF shows it. Screenshots are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from scipy.ndimage import binary_dilation, binary_erosion

from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from tests.peers.browser import running_browser
from tests.peers.orthanc import running_orthanc
from tests.viewer.ohif_server import running_ohif
from tests.viewer.studies import MarkedStudy, marked_study, radiograph_study
from tests.viewer.viewer import Viewer

_EDGE_PX = 16

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MarkedStudy:
    return marked_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, tuple[Path, ...]]:
    return radiograph_study(tmp_path_factory.mktemp("radiograph"))


@pytest.fixture(scope="module")
def viewer(
    study: MarkedStudy, radiograph: tuple[str, tuple[Path, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("viewer")
    kept = Path(os.environ.get("DICOM_NODE_SCREENSHOTS", folder))
    with running_orthanc(folder) as pacs:
        for source in (*study.sources, *radiograph[1]):
            pacs.upload(source)
        sent = list(send_files(study.objects, Remote("127.0.0.1", pacs.dicom_port, pacs.aet, "AINODE", 30)))
        assert all(one.stored for one in sent), sent
        with running_ohif(pacs.http_port) as server, running_browser(folder, webgl=True) as browser:
            yield Viewer(browser, server.url, kept)


def test_every_kind_of_object_is_in_the_list_of_series(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    viewer.wait_for_series("CT", "OT", "SEG", "SR", "PR", "KO", "DOC")
    listed = dict(viewer.series())
    ours = [description for modality, description in listed.items() if modality != "CT"]
    assert all(one.startswith("AI ") and one.endswith("NOT VERIFIED") for one in ours), ours


def test_the_report_opens_on_the_slice_of_its_region_with_its_numbers(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    viewer.show("SR")
    viewer.wait_for_text("Certainty of Finding: 93.00 %", f"Diameter: {study.diameter_mm:.2f} mm")
    viewer.wait_for_instance(study.marked_instance)
    viewer.screenshot("report")


def test_a_report_with_a_class_that_the_model_could_not_tell_opens_on_the_radiograph(
    viewer: Viewer, radiograph: tuple[str, tuple[Path, ...]]
) -> None:
    image = dcmread(radiograph[1][0])
    viewer.open(radiograph[0])
    viewer.show("SR")
    viewer.wait_for_text("Score of the model: 61.00 %", "Score of the model: 3.10 %")

    def is_drawn(page: np.ndarray) -> bool:
        return bool(viewer.image_in(page, image.Rows, image.Columns).mean(axis=2).std() > 30)

    assert is_drawn(viewer.screenshot("radiograph-report", once=is_drawn))


def test_the_segmentation_covers_both_lungs_and_nothing_else(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    viewer.show("SEG")
    viewer.press("Yes")
    assert viewer.segments() == ["Right lung", "Left lung"]
    viewer.settle()
    viewer.scroll_to(viewer.image_count() // 2)
    right, left = study.lungs[viewer.instance_number()]
    inside_right, inside_left = binary_erosion(right, iterations=2), binary_erosion(left, iterations=2)
    assert min(inside_right.sum(), inside_left.sum()) > 1000

    def is_drawn(page: np.ndarray) -> bool:
        return bool(_colored(viewer.image_in(page, *right.shape))[inside_right | inside_left].all())

    colors = viewer.image_in(viewer.screenshot("segmentation", once=is_drawn), *right.shape)
    assert _colored(colors)[inside_right | inside_left].all()
    assert not _same_color(colors[inside_right].mean(axis=0), colors[inside_left].mean(axis=0))
    outside = ~binary_dilation(right | left, iterations=2)
    # The viewer writes letters of the sides on the edge of the image.
    outside[:_EDGE_PX] = outside[-_EDGE_PX:] = outside[:, :_EDGE_PX] = outside[:, -_EDGE_PX:] = False
    assert not _colored(colors)[outside].any()


def test_the_pictures_are_shown_as_they_were_sent(viewer: Viewer, study: MarkedStudy) -> None:
    pictures = [one for one in map(dcmread, study.objects) if one.SOPClassUID == SecondaryCaptureImageStorage]
    viewer.open(study.study_uid)
    viewer.show("OT")
    viewer.wait_for_text("FPS")
    viewer.hide_player()
    assert viewer.image_count() == len(pictures) > 2
    for number, sent in enumerate(pictures, start=1):
        viewer.scroll_to(number)
        assert viewer.instance_number() == sent.InstanceNumber
        pixels = sent.pixel_array

        def is_as_sent(page: np.ndarray, pixels: np.ndarray = pixels) -> bool:
            difference = np.abs(viewer.image_in(page, *pixels.shape[:2]).astype(int) - pixels).max(axis=2)
            # Scaled letters differ at their edges, and the viewer's own words lie over a corner.
            return bool(np.median(difference) <= 2 and (difference < 40).mean() > 0.9)

        assert is_as_sent(viewer.screenshot(f"picture-{number}", once=is_as_sent)), number


def test_the_page_is_handed_to_the_browser_byte_for_byte(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    viewer.show("DOC")
    media_type, content = viewer.document()
    sent = study.read("DOC")
    assert media_type == "application/pdf"
    # OHIF hands on the value of the element, whose even length may take a byte more than the document (PS3.5 7.1.1).
    assert content == sent.EncapsulatedDocument
    assert content[: sent.EncapsulatedDocumentLength].rstrip().endswith(b"%%EOF")
    viewer.screenshot("page")


def _colored(pixels: np.ndarray) -> np.ndarray:
    """Tell for each pixel, (..., RGB), whether it has a color: the images have none of their own."""
    values = pixels.astype(int)
    return values.max(axis=-1) - values.min(axis=-1) > 30


def _same_color(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() < 50)

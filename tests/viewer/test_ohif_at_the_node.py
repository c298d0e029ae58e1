"""OHIF as the node itself serves it: behind its sign-in, before its own DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest
from pydicom import dcmread
from sqlalchemy import insert

from dicom_node.index.tables import artifacts, results
from dicom_node.viewing.readers import ImageReaders
from tests.peers.browser import running_browser
from tests.support.api_client import TOKEN
from tests.support.ingesting import RELATED, Place, child_processes, multipart, opened_place, served
from tests.support.results.rows import NOW
from tests.viewer.ohif_server import ohif_build
from tests.viewer.studies import MarkedStudy, marked_study
from tests.viewer.viewer import Viewer

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MarkedStudy:
    return marked_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def node(study: MarkedStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A node that has received the images, made the objects and serves the viewer."""
    folder = tmp_path_factory.mktemp("node")
    with child_processes() as children, opened_place(folder, children) as place:
        images = ImageReaders(folder / "viewing", place.parts.spool.objects)
        parts = place.api_parts(viewer={"ohif": str(ohif_build())})
        with served(replace(parts, images=images, open_object=place.parts.spool.path)) as client:
            body = multipart([one.read_bytes() for one in study.sources])
            assert client.post("/dicom-web/studies", content=body, headers={"Content-Type": RELATED}).status_code == 200
            add_objects(place, study)
            yield client
        images.close()


def add_objects(place: Place, study: MarkedStudy) -> None:
    """Enter the objects about a study as those of a result."""
    with place.parts.database.write() as connection:
        row = {"job_key": "a" * 64, "study_instance_uid": study.study_uid, "revision": 1, "route": "ct", "model": "m"}
        made = {"state": "DONE", "sequence": 1, "summary": {}, "created_at": NOW}
        connection.execute(insert(results).values(**row, **made))
        for number, path in enumerate(study.objects):
            dataset = dcmread(path, stop_before_pixels=True)
            kept = place.parts.spool.put([path.read_bytes()], ".obj")
            row = {
                "uid": dataset.SOPInstanceUID, "job_key": "a" * 64, "kind": "SC", "media_type": "application/dicom",
                "sop_class_uid": dataset.SOPClassUID, "series_instance_uid": dataset.SeriesInstanceUID,
                "send_order": number, "object_key": kept.key, "sha256": kept.sha256, "size_bytes": kept.size_bytes,
            }  # fmt: skip
            connection.execute(insert(artifacts).values(**row))


@pytest.fixture(scope="module")
def viewer(node: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("browser")
    with running_browser(folder, webgl=True) as browser:
        yield Viewer(browser, str(node.base_url).rstrip("/"), folder)


def test_a_link_leads_through_the_sign_in_to_the_study_with_its_results(
    viewer: Viewer, node: httpx.Client, study: MarkedStudy
) -> None:
    browser, link = viewer.browser, f"/viewer?StudyInstanceUIDs={study.study_uid}"
    browser.open(f"{str(node.base_url).rstrip('/')}{link}", 1400, 900)
    browser.wait_for("document.querySelector('#login-form') && !document.querySelector('#login').hidden")
    browser.run(
        f"(document.getElementById('token').value = '{TOKEN}', document.querySelector('#login-form').requestSubmit())"
    )
    browser.wait_for("location.pathname == '/viewer/viewer'")
    viewer.open(study.study_uid)
    viewer.wait_for_series("CT", "OT", "SEG", "SR", "DOC")
    viewer.show("SR")
    viewer.wait_for_text(f"Diameter: {study.diameter_mm:.2f} mm")
    viewer.wait_for_instance(study.marked_instance)


def test_the_segmentation_and_the_document_are_shown_and_the_images_scroll(viewer: Viewer, study: MarkedStudy) -> None:
    viewer.open(study.study_uid)
    viewer.show("SEG")
    viewer.press("Yes")
    assert viewer.segments() == ["Right lung", "Left lung"]
    viewer.settle()
    viewer.scroll_to(viewer.image_count() // 2)
    assert viewer.instance_number() > 1
    viewer.show("DOC")
    media_type, content = viewer.document()
    assert (media_type, content[:5]) == ("application/pdf", b"%PDF-")


def test_the_page_asks_nobody_else_and_breaks_no_rule_of_its_own(viewer: Viewer, study: MarkedStudy) -> None:
    asked = viewer.browser.run("performance.getEntriesByType('resource').map(e => new URL(e.name).origin)")
    assert set(asked) <= {viewer.browser.run("location.origin"), "null"}
    refused = [one for one in viewer.browser.complaints if "Content Security Policy" in one or "blob:" in one]
    assert refused == []


def test_the_files_of_the_viewer_are_files_and_nothing_else(node: httpx.Client) -> None:
    with httpx.Client(base_url=node.base_url, trust_env=False) as stranger:
        look_at_files(stranger)


def look_at_files(stranger: httpx.Client) -> None:
    page = stranger.get("/viewer/")
    assert '<base href="/viewer/">' in page.text
    assert "unsafe-eval" in page.headers["content-security-policy"]
    assert "unsafe-eval" not in stranger.get("/").headers["content-security-policy"]
    assert stranger.get("/viewer/viewer?StudyInstanceUIDs=1.2").text == page.text, "an address of the viewer's own"
    assert "/dicom-web" in stranger.get("/viewer/app-config.js").text
    for name in ("../../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", quote("/etc/passwd", safe=""), "x%00"):
        assert stranger.get(f"/viewer/{name}").text == page.text or stranger.get(f"/viewer/{name}").status_code == 404
    assert stranger.get("/viewer/no-such.js").status_code == 404
    assert stranger.post("/viewer/").status_code == 405
    assert stranger.get("/dicom-web/studies").status_code == 401

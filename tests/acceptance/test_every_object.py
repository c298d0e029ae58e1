"""Every kind of object at a real PACS, read back by software of others; then a late image, and what it replaces."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.demo.phantoms import chest_ct_phantom
from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers import dcmtk
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support import needs
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

VOLUME = "118565006"
REJECTED_FOR_QUALITY = "113001"
CT = "CT Image Storage"
SC = "Secondary Capture Image Storage"
SEG = "Segmentation Storage"
GSPS = "Grayscale Softcopy Presentation State Storage"
KOS = "Key Object Selection Document Storage"
PDF = "Encapsulated PDF Storage"
SR = "Comprehensive 3D SR Storage"


@pytest.fixture
def site(node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer) -> Site:
    fhir_server.add_patient(PATIENT_SYSTEM, "PHANTOM-CT-every")
    outputs = {"parametric_map": True, "rejection_note": True, "sr_sop_class": "auto"}
    return open_site(
        node, orthanc, fhir_server,
        destination=[
            {"name": "pacs", "kind": "dicom", "ae_title": orthanc.aet, "host": "127.0.0.1",
             "port": orthanc.dicom_port, "preset": "weasis", "outputs": outputs},
            {"name": "ehr", "kind": "fhir", "url": fhir_server.url},
        ],
        route=[{"name": "chest-ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
    )  # fmt: skip


def test_every_kind_arrives_and_says_the_same_and_a_late_image_replaces_it_all(site: Site, tmp_path: Path) -> None:
    slices, _ = chest_ct_phantom("every", slices=33, rows=128, slice_spacing_mm=10.0)
    uid = str(slices[0].StudyInstanceUID)

    _send(site, slices[:-1], tmp_path / "first")
    assert site.finished(uid)["study"]["state"] == "REPORTED", site.timeline(uid)
    first = _results(site)
    sources = sorted((tmp_path / "first").iterdir())
    _assert_valid(first, tmp_path / "validated-1", sources)
    _assert_counted(site, {SC: 9, SEG: 1, GSPS: 1, KOS: 1, PDF: 1, SR: 1})
    _assert_one_story(site, first, tmp_path)

    _send(site, slices[-1:], tmp_path / "late")
    wait_until(lambda: site.study(uid)["study"]["revision"] == 2, 120, "the second revision")
    assert site.finished(uid)["study"]["state"] == "REPORTED", site.timeline(uid)
    second = {name: ds for name, ds in _results(site).items() if name not in first}
    _assert_valid(second, tmp_path / "validated-2", [*sources, *(tmp_path / "late").iterdir()])
    _assert_counted(site, {SC: 18, SEG: 2, GSPS: 2, KOS: 3, PDF: 2, SR: 2})
    _assert_one_story(site, second, tmp_path)
    _assert_replaced(first, second)


def _send(site: Site, images: Sequence[Dataset], folder: Path) -> None:
    folder.mkdir()
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = dcmtk.storescu(site.node.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout


def _results(site: Site) -> Mapping[str, Any]:
    return {str(ds.SOPInstanceUID): ds for ds in site.pacs.datasets() if ds.SOPClassUID.name != CT}


def _assert_valid(results: Mapping[str, Any], folder: Path, sources: Sequence[Path]) -> None:
    """Validators of three makes say nothing against any object."""
    folder.mkdir()
    paths = []
    for uid, ds in results.items():
        paths.append(folder / f"{ds.Modality}-{uid[-8:]}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
        validators.assert_valid_dicom(paths[-1], sources[0])
        validators.assert_parsed(paths[-1])
        if ds.SOPClassUID.name == GSPS:
            validators.assert_valid_presentation_state(paths[-1])
        if ds.SOPClassUID.name == PDF:
            validators.assert_readable_pdf(paths[-1])
        if "SR" in ds.SOPClassUID.name or ds.SOPClassUID.name == KOS:
            validators.assert_readable_sr(paths[-1])
    validators.assert_consistent(sources, paths)


def _assert_counted(site: Site, expected: Mapping[str, int]) -> None:
    """Orthanc's own count of the classes it holds."""
    held: Counter[str] = Counter()
    for instance in site.pacs.instances():
        held[UID(site.pacs.http.get(f"/instances/{instance}/metadata/SopClassUid").raise_for_status().text).name] += 1
    assert held == expected


def _assert_one_story(site: Site, results: Mapping[str, Any], folder: Path) -> None:
    """Report, page, masks and the EHR name the same volumes of the lungs."""
    (report,), (page,), (masks,) = (_of(results, name) for name in (SR, PDF, SEG))
    volumes_ml = _volumes_in_report(report)
    assert set(volumes_ml) == {"Left lung", "Right lung", "Both lungs"}
    assert 1500 < volumes_ml["Both lungs"] < 8000
    assert _volumes_in_masks(masks) == {
        label: pytest.approx(value, abs=1) for label, value in volumes_ml.items() if label != "Both lungs"
    }
    assert _volumes_on_page(page, folder) == sorted(volumes_ml.values())
    told = {
        round(float(one["value"]), 3) for one in _quantities(site.ehr.all("Observation")) if one.get("unit") == "ml"
    }
    assert {round(value, 3) for value in volumes_ml.values()} <= told


def _volumes_in_report(report: Dataset) -> dict[str, float]:
    read: Any = hd.sr.Comprehensive3DSR.from_dataset(report)
    return {
        group.tracking_identifier: float(measured.value)
        for group in read.content.get_volumetric_roi_measurement_groups()
        for measured in group.get_measurements()
        if measured.name.value == VOLUME
    }


def _volumes_in_masks(masks: Dataset) -> dict[str, float]:
    segmentation = hd.seg.Segmentation.from_dataset(masks)
    size = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_ml = float(size.PixelSpacing[0]) * float(size.PixelSpacing[1]) * float(size.SpacingBetweenSlices) / 1000
    voxels: Counter[int] = Counter()
    for frame, pixels in zip(segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True):
        voxels[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += int(pixels.sum())
    return {one.SegmentLabel: voxels[one.SegmentNumber] * voxel_ml for one in segmentation.SegmentSequence}


def _volumes_on_page(page: Dataset, folder: Path) -> list[float]:
    pdf = folder / f"{page.SOPInstanceUID}.pdf"
    pdf.write_bytes(page.EncapsulatedDocument)
    command = [needs.tool("pdftotext", "poppler-utils"), "-layout", str(pdf), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (row,) = re.findall(r"^ *Volume  .*$", text, re.MULTILINE)
    return sorted(float(number) for number in re.findall(r"(\d+(?:\.\d+)?) ml", row))


def _assert_replaced(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """The new report follows the old one in its series; the note takes back all that was there, and nothing else."""
    (old,), (new,) = _of(first, SR), _of(second, SR)
    assert (old.InstanceNumber, new.InstanceNumber) == (1, 2)
    assert new.SeriesInstanceUID == old.SeriesInstanceUID
    assert "PredecessorDocumentsSequence" not in old
    (study,) = new.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    notes = [one for one in _of(second, KOS) if one.ConceptNameCodeSequence[0].CodeValue == REJECTED_FOR_QUALITY]
    assert len(notes) == 1
    listed = [item.ReferencedSOPSequence[0] for item in notes[0].ContentSequence if "ReferencedSOPSequence" in item]
    named = {(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in listed}
    assert named == {(one.SOPClassUID, one.SOPInstanceUID) for one in first.values()}
    assert len(listed) == len(first)


def _of(results: Mapping[str, Any], name: str) -> list[Any]:
    return [ds for ds in results.values() if ds.SOPClassUID.name == name]


def _quantities(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "valueQuantity" in value:
            yield value["valueQuantity"]
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from _quantities(one)

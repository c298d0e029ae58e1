"""A real chest CT from a modality of another make: what comes back at the PACS and at the EHR, and that all agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import pydicom
import pytest

from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers.dcmtk import storescu
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.support import needs
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

VOLUME = "118565006"


@pytest.fixture
def chest_ct() -> Path:
    return needs.real_data("ct_chest_rider_64slices")


@pytest.fixture
def site(node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer, chest_ct: Path) -> Site:
    first = pydicom.dcmread(next(chest_ct.iterdir()), stop_before_pixels=True)
    fhir_server.add_patient(PATIENT_SYSTEM, str(first.PatientID))
    return open_site(node, orthanc, fhir_server)


def test_a_chest_ct_comes_back_as_sr_sc_seg_and_fhir_that_agree(site: Site, chest_ct: Path, tmp_path: Path) -> None:
    sources = sorted(chest_ct.iterdir())
    uid = str(pydicom.dcmread(sources[0], stop_before_pixels=True).StudyInstanceUID)

    assert storescu(site.node.dicom_port, chest_ct).returncode == 0
    study = site.finished(uid)

    assert study["study"]["state"] == "REPORTED", site.timeline(uid)
    timeline = site.timeline(uid)
    assert "3 stacks: acquisition 1 (47 slices), acquisition 2 (10 slices), acquisition 3 (7 slices)" in timeline
    assert "Used: acquisition 1 (47 slices), the largest that forms one regular volume" in timeline
    assert "share a position" in timeline

    stored = {ds.SOPInstanceUID: ds for ds in site.pacs.datasets()}
    kinds = [ds.Modality for ds in stored.values()]
    assert (kinds.count("SR"), kinds.count("SEG")) == (1, 1), kinds
    assert kinds.count("OT") >= 2, kinds

    assert "The left lung reaches the first slice; about 18 ml of it are outside the scan" in timeline
    volume_ml = _volume_in_sr(next(ds for ds in stored.values() if ds.Modality == "SR"))
    assert 1500 <= volume_ml <= 8000
    segmentation = next(ds for ds in stored.values() if ds.Modality == "SEG")
    assert _volume_in_seg(segmentation) == pytest.approx(volume_ml, rel=0.01)
    assert _volume_in_fhir(site.ehr) == pytest.approx(volume_ml, abs=1)
    assert _volume_in_api(study) == pytest.approx(volume_ml, abs=1)

    outputs = []
    for ds in stored.values():
        outputs.append(tmp_path / f"{ds.Modality}-{ds.InstanceNumber}-{ds.SOPInstanceUID[-6:]}.dcm")
        ds.save_as(outputs[-1], enforce_file_format=True)
        validators.assert_valid_dicom(outputs[-1], sources[0])
    validators.assert_consistent(sources, outputs)
    validators.assert_valid_sr(next(path for path in outputs if path.name.startswith("SR")))


def test_the_same_study_sent_twice_leaves_one_report_and_no_second_object(site: Site, chest_ct: Path) -> None:
    uid = str(pydicom.dcmread(next(chest_ct.iterdir()), stop_before_pixels=True).StudyInstanceUID)
    assert storescu(site.node.dicom_port, chest_ct).returncode == 0
    site.finished(uid)
    first = sorted(site.pacs.instances())

    assert storescu(site.node.dicom_port, chest_ct).returncode == 0
    study = site.finished(uid)
    with site.node.api() as api:
        api.post(f"/api/studies/{uid}/rerun").raise_for_status()
    again = site.finished(uid)

    assert study["study"]["revision"] == again["study"]["revision"] == 1
    assert sorted(site.pacs.instances()) == first
    assert len(site.ehr.all("DiagnosticReport")) == len(site.ehr.all("ImagingStudy")) == 1
    # "partial", because the lungs reach the first slice; never "final".
    assert [r["status"] for r in site.ehr.all("DiagnosticReport")] == ["partial"]


def _volume_in_sr(sr: pydicom.Dataset) -> float:
    report = hd.sr.srread_dataset(sr) if hasattr(hd.sr, "srread_dataset") else hd.sr.Comprehensive3DSR.from_dataset(sr)
    volumes = {}
    for group in report.content.get_volumetric_roi_measurement_groups():
        for measurement in group.get_measurements():
            if measurement.name.value == VOLUME:
                volumes[group.tracking_identifier] = float(measurement.value)
    both = volumes.pop("Both lungs")
    assert len(volumes) == 2, volumes
    assert sum(volumes.values()) == pytest.approx(both, abs=1)
    return both


def _volume_in_seg(seg: pydicom.Dataset) -> float:
    segmentation = hd.seg.Segmentation.from_dataset(seg)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_ml = float(measures.PixelSpacing[0]) * float(measures.PixelSpacing[1]) * float(measures.SpacingBetweenSlices)
    return float(segmentation.pixel_array.sum()) * voxel_ml / 1000


def _volume_in_fhir(ehr: FhirServer) -> float:
    total = 0.0
    for observation in ehr.all("Observation"):
        text = observation["code"].get("text") or observation["code"]["coding"][0]["display"]
        for component in observation.get("component", []):
            is_volume = any(coding["code"] == VOLUME for coding in component["code"]["coding"])
            site = str(observation)
            if is_volume and re.search(r"left|right", site, re.IGNORECASE) and "both" not in text.lower():
                total += component["valueQuantity"]["value"]
    return total


def _volume_in_api(study: dict) -> float:  # type: ignore[type-arg]
    findings = {f["key"]: f for f in study["results"][0]["summary"]["findings"]}
    return float(next(m["value"] for m in findings["both-lungs"]["measurements"] if m["name"]["value"] == VOLUME))

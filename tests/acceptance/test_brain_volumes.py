"""A T1 volume of a whole head from a modality of another make: outlines, volumes with sides and report come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest

from dicom_node.demo.mr_series import MrScan, mr_series
from tests.acceptance.site import PATIENT_SYSTEM, Site, open_site
from tests.peers.dcmtk import storescu
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.support.needs import real_data
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Of the public head, which has 256 x 256 x 256 voxels of 1 mm: the box around the brain, every second sagittal plane.
#: Neck, face and air take a third of the network's time, and planes of 1 mm most of what is drawn, sent and checked.
_BOX, _STEPS = np.s_[54:204:2, 52:200, 26:210], np.array([2.0, 1.0, 1.0, 1.0])
_PAIRED = ("thalamus", "caudate", "putamen", "pallidum", "hippocampus", "amygdala")


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """The public MPRAGE that the weights' own project shows, as a series of images."""
    image: Any = nibabel.load(real_data("weights") / "t1_crop.nii.gz")
    values = np.asarray(image.dataobj, np.float32)[_BOX].transpose(2, 1, 0)
    affine = _RAS_TO_LPS @ image.affine * _STEPS
    affine[:3, 3] = (_RAS_TO_LPS @ image.affine @ [*(part.start for part in _BOX), 1])[:3]
    folder = tmp_path / "head"
    folder.mkdir()
    for one in mr_series(values, affine, MrScan(seed="head", description="t1_mprage_sag_iso")):
        one.save_as(folder / f"{one.InstanceNumber:04}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture
def site(node: Callable[..., Node], orthanc: Orthanc, fhir_server: FhirServer, head: Path) -> Site:
    first = pydicom.dcmread(next(head.iterdir()), stop_before_pixels=True)
    fhir_server.add_patient(PATIENT_SYSTEM, str(first.PatientID))
    route = {"name": "brain", "model": "mr-brain-volumes", "quiet_period_s": 2.0, "when": {"modality": "MR"}}
    return open_site(node, orthanc, fhir_server, route=[route])


def test_a_head_comes_back_as_segmentation_and_report_with_sides(site: Site, head: Path, tmp_path: Path) -> None:
    sources = sorted(head.iterdir())
    uid = str(pydicom.dcmread(sources[0], stop_before_pixels=True).StudyInstanceUID)

    assert storescu(site.node.dicom_port, head).returncode == 0
    study = site.finished(uid, timeout_s=550)

    assert study["study"]["state"] == "REPORTED", site.timeline(uid)
    stored = site.pacs.datasets()
    kinds = [one.Modality for one in stored]
    assert (kinds.count("SR"), kinds.count("SEG")) == (1, 1), kinds
    segmentation = next(one for one in stored if one.Modality == "SEG")
    assert len(segmentation.SegmentSequence) == 28
    assert len({one.SegmentedPropertyTypeCodeSequence[0].CodeValue for one in segmentation.SegmentSequence}) == 17
    _check_sides(segmentation, next(one for one in stored if one.Modality == "SR"))

    outputs = []
    for one in stored:
        outputs.append(tmp_path / f"{one.Modality}-{one.SOPInstanceUID[-6:]}.dcm")
        one.save_as(outputs[-1], enforce_file_format=True)
        validators.assert_valid_dicom(outputs[-1], sources[0])
    validators.assert_consistent(sources, outputs)
    validators.assert_valid_sr(next(path for path in outputs if path.name.startswith("SR")))
    observations = [one for one in site.ehr.all("Observation") if "hippocampus" in str(one).lower()]
    assert len(observations) == 2


def _check_sides(segmentation: pydicom.Dataset, report: pydicom.Dataset) -> None:
    """Left of a pair lies on the patient's left, and is as large in the report as in the segmentation."""
    groups = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_volumetric_roi_measurement_groups()
    reported = [one.tracking_identifier.lower() for one in groups if one.get_measurements()]
    assert (len(groups), len(reported)) == (28, 23)  # horns, accumbens and ventral diencephalon have no number
    frames = segmentation.pixel_array
    for structure in _PAIRED:
        middles = {}
        for number, one in enumerate(segmentation.SegmentSequence, 1):
            label = one.SegmentLabel.lower()
            if label in {f"left {structure}", f"right {structure}"}:
                middles[label.split()[0]] = _middle_x_mm(segmentation, frames, number)
        assert middles["left"] > middles["right"] + 10, structure
        assert sum(structure in name for name in reported) == 2


def _middle_x_mm(segmentation: pydicom.Dataset, frames: np.ndarray, number: int) -> float:
    """Return where the middle of a segment lies, right to left, by the geometry of the object itself."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    row, column = (np.array(part) for part in np.split(
        np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), 2))  # fmt: skip
    down_mm, across_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    total, count = 0.0, 0
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(frame)
        total += float((origin[0] + row[0] * columns * across_mm + column[0] * rows * down_mm).sum())
        count += len(rows)
    return total / count

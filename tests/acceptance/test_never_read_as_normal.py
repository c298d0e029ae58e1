"""Case 23: truncated pixels, missing slice, mixed geometry, wrong modality are never inferred as normal.

Each study goes through a whole node and ends as an explicit "not analysed" with its reason in the report, in FHIR and
in the API; nowhere does a finding, a number or a mask of it appear.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless

from dicom_node.core.uids import derived_uid
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import send_files
from tests.acceptance.site import FINISHED
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.studies import volumes
from tests.support.validators import objects as validators

pytestmark = pytest.mark.timeout(600)

SLICES = 24


def whole(modality: str = "CT", **changes: Any) -> list[Dataset]:
    return volumes.classic(volumes.asymmetric(SLICES, 40, 36), volumes.affine(), modality=modality, **changes)


def truncated_pixels() -> list[Dataset]:
    """One slice of which the last rows never came; its file is in order."""
    slices = whole()
    slices[7].PixelData = slices[7].PixelData[:-720]
    return slices


def truncated_codestream() -> list[Dataset]:
    """One slice whose JPEG 2000 stream ends in the middle: decoders fill the rest with something smooth."""
    slices = [volumes.encoded_as(one, JPEG2000Lossless) for one in whole()]
    (stream,) = generate_frames(slices[7].PixelData, number_of_frames=1)
    half = stream[: len(stream) // 4 * 2]
    slices[7].PixelData = encapsulate([half])
    return slices


def missing_slice() -> list[Dataset]:
    slices = whole()
    return slices[:9] + slices[10:]


def doubled_slice() -> list[Dataset]:
    slices = whole()
    again = copy.deepcopy(slices[4])
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = derived_uid("again")
    return [*slices, again]


def mixed_spacing() -> list[Dataset]:
    slices = whole()
    slices[3].PixelSpacing = [1.4, 1.4]
    return slices


def mixed_sizes() -> list[Dataset]:
    slices = whole()
    other = volumes.classic(volumes.asymmetric(SLICES, 44, 36), volumes.affine())[5]
    slices[5] = other
    return slices


def tilted() -> list[Dataset]:
    slices = whole()
    for index, one in enumerate(slices):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, y + 0.6 * index, z]
    return slices


def two_frames_of_reference() -> list[Dataset]:
    slices = whole()
    for one in slices[12:]:
        one.FrameOfReferenceUID = "1.2.3.4"
    return slices


def enhanced_without_groups() -> list[Dataset]:
    values = np.stack([volumes.asymmetric(SLICES, 40, 36)])
    one = volumes.enhanced(values, volumes.affine(), modality="CT")
    del one.PerFrameFunctionalGroupsSequence
    return [one]


STUDIES: dict[str, tuple[Callable[[], list[Dataset]], str]] = {
    "truncated pixels": (truncated_pixels, "UNREADABLE_PIXELS"),
    "truncated JPEG 2000": (truncated_codestream, "UNREADABLE_PIXELS"),
    "a missing slice": (missing_slice, "GAP_IN_SERIES"),
    "a doubled slice": (doubled_slice, "DUPLICATE_POSITION"),
    "mixed pixel spacing": (mixed_spacing, "MIXED_PIXEL_SPACING"),
    "mixed sizes": (mixed_sizes, "MIXED_SIZES"),
    "mixed frames of reference": (two_frames_of_reference, "MIXED_FRAMES_OF_REFERENCE"),
    "a tilted gantry": (tilted, "GANTRY_TILT"),
    "the wrong modality": (lambda: whole("MR"), "NO_SUITABLE_SERIES"),
    "no rescale": (lambda: whole(RescaleSlope=None), "NOT_CT_HU"),
    "reformats alone": (lambda: whole(ImageType=["DERIVED", "SECONDARY", "MPR"]), "DERIVED_ONLY"),
    "burned-in text": (lambda: whole(BurnedInAnnotation="YES"), "BURNED_IN_ANNOTATION"),
    "a phantom": (lambda: whole(PatientName="ACR^PHANTOM"), "TEST_SUBJECT"),
    "an enhanced object without frames": (enhanced_without_groups, "BAD_FUNCTIONAL_GROUPS"),
    "no lung in it": (whole, "NO_LUNGS"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Send every study through one node; return what became of each, and the folder of results."""
    folder = tmp_path_factory.mktemp("never")
    results = folder / "results"
    settings = {
        "route": [{"name": "all", "model": "ct-lung-density", "quiet_period_s": 2.0}],
        "destination": [{"name": "files", "kind": "folder", "path": str(results)}],
        "fhir": {"patient_system": "urn:oid:2.25.77"},
    }
    node = Node(folder / "node", settings)
    node.start()
    try:
        for name, (make, _) in STUDIES.items():
            send(node, named(make(), name), folder / name.replace(" ", "-"))
        yield {"studies": finished(node, len(STUDIES)), "results": results, "log": node.log.read_text()}
    finally:
        node.kill9()


def named(datasets: list[Dataset], name: str) -> list[Dataset]:
    """Make it a study of its own."""
    for number, one in enumerate(datasets):
        one.StudyInstanceUID = derived_uid("never", name)
        one.SeriesInstanceUID = derived_uid("never-series", name)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = derived_uid("never", name, str(number))
    return datasets


def send(node: Node, datasets: list[Dataset], folder: Path) -> None:
    folder.mkdir()
    for number, one in enumerate(datasets):
        one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    sent = list(send_files([folder], Remote("127.0.0.1", node.dicom_port, node.aet, "MOD1", 30.0)))
    assert [one.path for one in sent if not one.stored] == []


def finished(node: Node, count: int) -> dict[str, dict[str, Any]]:
    """Wait until every study has come to an end; return them by UID."""
    found: dict[str, dict[str, Any]] = {}

    def done() -> bool:
        with node.api() as api:
            studies = api.get("/api/studies", params={"limit": 200}).raise_for_status().json()["studies"]
        found.update({study["study_instance_uid"]: study for study in studies})
        ended = all(study["state"] in FINISHED and not study["deliveries"]["pending"] for study in studies)
        return len(studies) == count and ended

    wait_until(done, 400, "every study to come to an end", 1.0)
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_a_bad_study_is_never_inferred_as_normal_but_said_not_to_be_analysed(
    outcomes: dict[str, Any], name: str
) -> None:
    uid, reason = derived_uid("never", name), STUDIES[name][1]
    study = outcomes["studies"][uid]

    assert study["state"] == "NOT_ANALYSED", study
    assert study["reason"]
    assert_report_says_why(outcomes["results"], uid, reason)
    assert_fhir_says_why(outcomes["results"], uid, reason)


def test_no_study_leaves_a_mask_or_a_traceback(outcomes: dict[str, Any]) -> None:
    assert list(outcomes["results"].glob("SEG-*.dcm")) == []
    assert "Traceback" not in outcomes["log"]


def assert_report_says_why(results: Path, study_instance_uid: str, reason: str) -> None:
    found = [path for path in results.glob("SR-*.dcm") if pydicom.dcmread(path).StudyInstanceUID == study_instance_uid]
    (path,) = found
    validators.assert_readable_sr(path)
    report = pydicom.dcmread(path)
    assert report.CompletionFlag == "PARTIAL"
    assert reason in report.CompletionFlagDescription
    assert f"AI ANALYSIS NOT PERFORMED. Reason {reason}:".encode() in path.read_bytes()
    content = hd.sr.Comprehensive3DSR.from_dataset(report).content
    groups = [
        *content.get_image_measurement_groups(),
        *content.get_planar_roi_measurement_groups(),
        *content.get_volumetric_roi_measurement_groups(),
    ]
    assert [group.finding_type for group in groups] == [None]
    assert [group.get_measurements() for group in groups] == [[]]


def assert_fhir_says_why(results: Path, study_instance_uid: str, reason: str) -> None:
    bundles = [json.loads(path.read_text(encoding="utf-8")) for path in results.glob("FHIR-*.json")]
    (bundle,) = [bundle for bundle in bundles if study_instance_uid in json.dumps(bundle)]
    resources = [entry["resource"] for entry in bundle["entry"]]
    (report,) = [one for one in resources if one["resourceType"] == "DiagnosticReport"]
    observations = [one for one in resources if one["resourceType"] == "Observation"]
    assert reason in report["conclusion"]
    assert report["status"] != "final"
    assert all("dataAbsentReason" in one for one in observations)
    assert not any(key.startswith("value") for one in observations for key in one)

"""Results about a real enhanced object refer to its frames, and every judge accepts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, Segment
from dicom_node.analysis.written import summarise
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind, Code, Finding, Measurement
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.options import FhirOptions
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.volume import Volume, read_volume
from dicom_node.inference.model_run import SourceImage, read_dataset
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.needs import real_data
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
BRAIN = Code("12738006", "SCT", "Brain")


@pytest.fixture(scope="module")
def source() -> Path:
    (path,) = real_data("mr_brain_t1_enhanced_xa30").iterdir()
    return path


@pytest.fixture(scope="module")
def analysis(source: Path) -> Analysis:
    volume = read_volume([SourceImage(source, read_dataset(source, pixels=False))], Gate(), [])
    return marked(volume)


def marked(volume: Volume) -> Analysis:
    mask = np.asarray(volume.values_zyx) > np.percentile(volume.values_zyx, 90)
    mask[:40] = mask[50:] = False
    finding = Finding(
        key="brain", label="Brain", code=BRAIN, site=BRAIN, segment_number=1,
        measurements=(Measurement(codes.VOLUME, 1200.0, codes.MILLILITER),),
    )  # fmt: skip
    segment = Segment(
        number=1, label="Brain", category=codes.ANATOMICAL_STRUCTURE, type=BRAIN, mask=mask, finding_key="brain"
    )
    return Analysis(
        model=examples.CT_MODEL, sources=volume.sources, findings=(finding,), segments=(segment,), key_slices=(45, 42)
    )


def written(analysis: Analysis) -> dict[ArtifactKind, list[Dataset]]:
    found: dict[ArtifactKind, list[Dataset]] = {}
    for one in write_objects(analysis, examples.context()):
        found.setdefault(one.kind, []).append(one.dataset)
    return found


def test_results_of_a_real_enhanced_object_are_valid(source: Path, analysis: Analysis, tmp_path: Path) -> None:
    paths = []
    for one in write_objects(analysis, examples.context()):
        path = tmp_path / f"{one.order}-{one.kind}.dcm"
        path.write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(path, source)
        paths.append(path)
    validators.assert_consistent([source], paths)
    validators.assert_valid_sr(paths[-1])


def test_the_segmentation_names_the_frames_it_was_drawn_on(analysis: Analysis) -> None:
    (segmentation,) = written(analysis)[ArtifactKind.SEGMENTATION]
    places = {source.frame_number: source.ImagePositionPatient for source in analysis.sources}  # type: ignore[attr-defined]

    named = []
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        (reference,) = groups.DerivationImageSequence[0].SourceImageSequence
        named.append(int(reference.ReferencedFrameNumber))
        assert reference.ReferencedSOPInstanceUID == analysis.sources[0].SOPInstanceUID
        assert reference.ReferencedSOPClassUID == analysis.sources[0].SOPClassUID
        assert np.allclose(groups.PlanePositionSequence[0].ImagePositionPatient, places[named[-1]], atol=1e-3)
    # Slices run against the frames here: the normal of a sagittal series points to the right.
    assert sorted(named) == sorted(96 - z for z in range(40, 50))


def test_pictures_of_two_frames_are_two_objects(analysis: Analysis) -> None:
    captures = written(analysis)[ArtifactKind.SECONDARY_CAPTURE]
    frames = [int(one.SourceImageSequence[0].get("ReferencedFrameNumber", 0)) for one in captures]

    assert len({one.SOPInstanceUID for one in captures}) == len(captures)
    assert {51, 54} <= set(frames)


def test_report_summary_and_fhir_name_the_object_once(analysis: Analysis) -> None:
    (report,) = written(analysis)[ArtifactKind.STRUCTURED_REPORT]
    uid = str(analysis.sources[0].SOPInstanceUID)
    evidence = [
        str(one.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]

    assert evidence.count(uid) == 1
    assert summarise(analysis)["source_sop_instance_uids"] == [uid]
    bundle = build_bundle(analysis, examples.context(), write_objects(analysis, examples.context()), FhirOptions())
    (study,) = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "ImagingStudy"]
    assert [one["uid"] for one in study["series"][0]["instance"]] == [uid]

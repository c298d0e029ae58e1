"""Everything sr_writer makes, judged by programs of other makes; sources are made up and real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom import imread
from highdicom.seg import segread
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext
from dicom_node.core import codes
from dicom_node.core.outputs.artifact_kinds import OutputSet, SrClass
from dicom_node.sr_writer import to_part10, write_objects
from dicom_node.sr_writer.copied import TYPE_2
from dicom_node.sr_writer.geometry import slice_position_mm
from tests.support import needs
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

OBLIQUE = {"row": (0.8, 0.6, 0.0), "column": (-0.48, 0.64, -0.6)}
FLIPPED = {"row": (-1.0, 0.0, 0.0), "column": (0.0, 1.0, 0.0)}
BARE = dict.fromkeys((*TYPE_2, "SpecificCharacterSet", "PatientOrientation", "BodyPartExamined"))


def judged(answer: Analysis | NotAnalysed, tmp_path: Path, context: ReportContext | None = None) -> list[Path]:
    """Write everything, ask dciodvfy and dcentvfy, and return the paths in order of sending."""
    outputs = []
    for written in write_objects(answer, context or examples.context()):
        path = tmp_path / f"out{written.order:02}-{written.kind.value}.dcm"
        path.write_bytes(to_part10(written.dataset))
        outputs.append(path)
    sources = _saved(answer.sources, tmp_path)
    for path in outputs:
        validators.assert_valid_dicom(path, sources[0])
    validators.assert_consistent(sources, outputs)
    return outputs


def _saved(sources: Sequence[Dataset], tmp_path: Path) -> list[Path]:
    paths = []
    for index, source in enumerate(sources):
        paths.append(tmp_path / f"source{index:03}.dcm")
        source.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"BodyPartExamined": None},
        {"BodyPartExamined": "HAND"},
        {"BodyPartExamined": "HAND", "Laterality": "L"},
        {"PatientOrientation": None},
        BARE,
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "山田^太郎", "StudyDescription": "胸部"},
        {"PatientSex": "X", "BodyPartExamined": "THORAX"},
        {"TimezoneOffsetFromUTC": "+0530"},
    ],
    ids=["complete", "no-body-part", "paired", "left-hand", "no-orientation", "bare", "utf8", "odd-values", "zone"],
)
def test_results_of_a_radiograph_are_valid_whatever_its_header_lacks(changes: dict[str, Any], tmp_path: Path) -> None:
    judged(examples.radiograph_analysis(examples.radiograph(**changes)), tmp_path)


def test_results_of_a_monochrome1_dx_image_are_valid(tmp_path: Path) -> None:
    judged(examples.radiograph_analysis(examples.digital_radiograph()), tmp_path)


@pytest.mark.parametrize("geometry", [{}, OBLIQUE, FLIPPED], ids=["axial", "oblique", "flipped"])
def test_results_of_a_ct_volume_are_valid(geometry: dict[str, Any], tmp_path: Path) -> None:
    judged(examples.ct_analysis(examples.ct_volume(**geometry)), tmp_path)


def test_results_of_a_ct_volume_without_body_part_are_valid(tmp_path: Path) -> None:
    volume = examples.ct_volume()
    for source in volume:
        del source.BodyPartExamined
    judged(examples.ct_analysis(volume), tmp_path)


@pytest.mark.parametrize("body_part", ["CHEST", None, "LUNG"])
def test_a_segmented_radiograph_gives_a_valid_segmentation(body_part: str | None, tmp_path: Path) -> None:
    source = examples.radiograph(BodyPartExamined=body_part)
    left, right = examples.lung_masks(1, int(source.Rows), int(source.Columns))
    segments = examples.ct_analysis().segments
    analysis = examples.ct_analysis(
        (source,),
        segments=(_with_mask(segments[0], right), _with_mask(segments[1], left)),
        key_slices=(0,),
    )
    outputs = judged(analysis, tmp_path)
    assert [path.stem[-3:] for path in outputs] == ["-SC", "-SC", "SEG", "-SR"]
    validators.assert_readable_sr(outputs[-1])


@pytest.mark.parametrize("sr_sop_class", ["comprehensive3d", "comprehensive", "enhanced"])
def test_a_report_is_readable_in_each_class(sr_sop_class: SrClass, tmp_path: Path) -> None:
    context = examples.context(output_sets=(OutputSet(structured_report=sr_sop_class),))
    validators.assert_readable_sr(judged(examples.radiograph_analysis(), tmp_path, context)[-1])


def test_a_report_with_regions_holds_the_template(tmp_path: Path) -> None:
    validators.assert_valid_sr(judged(examples.radiograph_analysis(), tmp_path)[-1])


def test_a_report_with_segments_and_a_total_holds_the_template(tmp_path: Path) -> None:
    analysis = examples.ct_analysis()
    total = replace(analysis.findings[0], key="lungs", label="Both lungs", laterality=None, segment_number=None)
    validators.assert_valid_sr(judged(replace(analysis, findings=(total, *analysis.findings)), tmp_path)[-1])


def test_a_refusal_holds_the_template(tmp_path: Path) -> None:
    validators.assert_valid_sr(judged(examples.not_analysed(), tmp_path)[-1])


def test_a_report_about_one_segmented_image_holds_the_template(tmp_path: Path) -> None:
    analysis = examples.ct_analysis(examples.ct_volume(slices=1), key_slices=(0,))
    validators.assert_valid_sr(judged(analysis, tmp_path)[-1])


def test_highdicom_reads_what_was_written(tmp_path: Path) -> None:
    first, *_, segmentation, report = judged(examples.ct_analysis(), tmp_path)
    assert imread(first).get_frame(1).shape == (1024, 1024, 3)
    assert segread(segmentation).number_of_segments == 2
    content: Any = srread(report).content
    groups = content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Right lung", "Left lung"]
    assert [site.value.meaning for group in groups for site in group.finding_sites] == ["Lung", "Lung"]


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "StudyDate", "StudyDescription"])
def test_the_judge_of_consistency_notices_an_altered_header(keyword: str, tmp_path: Path) -> None:
    analysis = examples.radiograph_analysis()
    altered = write_objects(analysis, examples.context())[0].dataset
    setattr(altered, keyword, "19990101")
    path = tmp_path / "altered.dcm"
    path.write_bytes(to_part10(altered))
    with pytest.raises(AssertionError, match="19990101"):
        validators.assert_consistent(_saved(analysis.sources, tmp_path), [path])


def test_a_refusal_of_images_without_pixels_is_valid(tmp_path: Path) -> None:
    source = examples.radiograph(PixelData=None)
    outputs = judged(examples.not_analysed((source,)), tmp_path)
    validators.assert_readable_sr(outputs[-1])


@pytest.mark.parametrize(
    "name",
    [
        "1.3.6.1.4.1.11129.5.5.110503645592756492463169821050252582267888.dcm",
        "RG1_J2KI",
        "dx_image.dcm",
        "gdcm-CR-MONO1-10-chest.dcm",
    ],
)
def test_results_of_real_radiographs_are_valid(name: str, tmp_path: Path) -> None:
    source = dcmread(needs.real_data("cxr") / name)
    judged(examples.radiograph_analysis(source), tmp_path)


def test_results_of_a_real_chest_ct_are_valid(tmp_path: Path) -> None:
    sources = [dcmread(path) for path in sorted(needs.real_data("ct_chest_rider_64slices").glob("1-*.dcm"))]
    sources.sort(key=lambda source: slice_position_mm(source) or 0.0)
    outputs = judged(examples.ct_analysis(_one_per_position(sources)), tmp_path)
    validators.assert_readable_sr(outputs[-1])


def test_results_of_a_tiny_reference_ct_are_valid(tmp_path: Path) -> None:
    source = dcmread(needs.real_data("derived_objects_ref") / "ct_image.dcm")
    judged(examples.ct_analysis((source,), key_slices=(0,)), tmp_path)


@pytest.mark.parametrize("name", ["chrArab", "chrGB2312", "chrH31", "chrI2", "chrX1", "chrX2"])
def test_names_in_every_script_survive_byte_for_byte(name: str, tmp_path: Path) -> None:
    real = dcmread(needs.real_data("charset") / f"{name}.dcm")
    source = examples.radiograph()
    for keyword in ("SpecificCharacterSet", "PatientName"):
        source[keyword] = real[keyword]
    source.ReferringPhysicianName = ""
    outputs = judged(examples.radiograph_analysis(source), tmp_path)
    for path in outputs:
        assert _name_bytes(path) == _name_bytes(needs.real_data("charset") / f"{name}.dcm")


def _name_bytes(path: Path) -> bytes:
    """Return the name as stored, without padding and without delimiters of empty groups at its end (PS3.5 6.2.1)."""
    return bytes(dcmread(path).get_item("PatientName").value).rstrip(b" =")


def _with_mask(segment: Any, mask: Any) -> Any:
    return type(segment)(
        number=segment.number, label=segment.label, category=codes.ANATOMICAL_STRUCTURE, type=segment.type, mask=mask,
        finding_key=segment.finding_key, color_rgb=segment.color_rgb,
    )  # fmt: skip


def _one_per_position(sources: Sequence[Dataset]) -> tuple[Dataset, ...]:
    by_position = {round(slice_position_mm(source) or 0.0, 2): source for source in sources}
    assert len(by_position) > 10
    assert np.all(np.diff(list(by_position)) > 0)
    return tuple(by_position.values())

"""The segmentation holds exactly the masks, wherever the slices lie."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from highdicom.seg import segread
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.analysis.answer import Analysis, Segment
from dicom_node.core.entities import ArtifactKind
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples


def segmentation_of(analysis: Analysis) -> Any:
    """Return the SEG as highdicom reads it from its bytes, `None` if none was written."""
    for item in write_objects(analysis, examples.context()):
        if item.kind is ArtifactKind.SEGMENTATION:
            return segread(BytesIO(to_part10(item.dataset)))
    return None


def read_back(seg: Any, analysis: Analysis) -> NDArray[np.bool_]:
    """Return (slices, rows, columns, segments) in the order of the sources."""
    uids = [source.SOPInstanceUID for source in analysis.sources]
    pixels = seg.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    return np.asarray(pixels).astype(bool)


def with_masks(analysis: Analysis, *masks: NDArray[np.bool_]) -> Analysis:
    pairs = zip(analysis.segments, masks, strict=True)
    return replace(analysis, segments=tuple(replace(segment, mask=mask) for segment, mask in pairs))


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ((1, 0, 0), (0, 1, 0)),
        ((-1, 0, 0), (0, 1, 0)),
        ((1, 0, 0), (0, -1, 0)),
        ((0, 1, 0), (0, 0, -1)),
        ((0.8, 0.6, 0.0), (-0.48, 0.64, -0.6)),
    ],
    ids=["axial", "flipped-columns", "flipped-rows", "sagittal", "oblique"],
)
def test_voxels_equal_the_mask_in_every_geometry(row: Any, column: Any) -> None:
    analysis = examples.ct_analysis(examples.ct_volume(row=row, column=column))
    pixels = read_back(segmentation_of(analysis), analysis)
    for number, segment in enumerate(analysis.segments):
        assert np.array_equal(pixels[..., number], segment.mask)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), slices=st.integers(2, 5))
def test_any_two_masks_come_back_even_when_they_overlap(seed: int, slices: int) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((2, slices, 16, 16)) > 0.6
    analysis = with_masks(examples.ct_analysis(examples.ct_volume(slices, 16)), *masks)
    pixels = read_back(segmentation_of(analysis), analysis)
    assert np.array_equal(np.moveaxis(pixels, -1, 0), masks)


def test_each_frame_lies_where_its_source_lies() -> None:
    analysis = examples.ct_analysis()
    seg = segmentation_of(analysis)
    positions = {str(source.SOPInstanceUID): source.ImagePositionPatient for source in analysis.sources}
    for frame in seg.PerFrameFunctionalGroupsSequence:
        origin = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert np.allclose(frame.PlanePositionSequence[0].ImagePositionPatient, positions[origin])
    assert seg.FrameOfReferenceUID == analysis.sources[0].FrameOfReferenceUID


def test_slices_without_anything_are_left_out() -> None:
    analysis = examples.ct_analysis()
    assert segmentation_of(analysis).NumberOfFrames == 2 * (len(analysis.sources) - 1)


def test_masks_without_anything_give_no_segmentation_and_a_report_about_images() -> None:
    analysis = examples.ct_analysis()
    empty = np.zeros_like(analysis.segments[0].mask)
    objects = write_objects(with_masks(analysis, empty, empty), examples.context())
    assert ArtifactKind.SEGMENTATION not in {item.kind for item in objects}
    templates = _group_templates(objects[-1].dataset)
    assert templates == ["1501", "1501"]


def test_one_empty_mask_of_two_leaves_one_segment_and_its_group() -> None:
    analysis = examples.ct_analysis()
    empty = np.zeros_like(analysis.segments[0].mask)
    changed = with_masks(analysis, empty, analysis.segments[1].mask)
    objects = write_objects(changed, examples.context())
    seg = next(item.dataset for item in objects if item.kind is ArtifactKind.SEGMENTATION)
    assert [(s.SegmentNumber, s.SegmentLabel) for s in seg.SegmentSequence] == [(1, "Left lung")]
    assert _group_templates(objects[-1].dataset) == ["1501", "1411"]


def test_segments_name_their_side_and_their_algorithm() -> None:
    right, left = segmentation_of(examples.ct_analysis()).SegmentSequence
    sides = [s.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0] for s in (right, left)]
    assert [side.CodeMeaning for side in sides] == ["Right", "Left"]
    algorithm = left.SegmentationAlgorithmIdentificationSequence[0]
    assert (left.SegmentAlgorithmType, algorithm.AlgorithmName) == ("AUTOMATIC", "ct-lung-density")


def test_a_radiograph_without_frame_of_reference_can_be_segmented() -> None:
    source = examples.radiograph()
    left, right = examples.lung_masks(1, int(source.Rows), int(source.Columns))
    template = examples.ct_analysis()
    segments: tuple[Segment, ...] = with_masks(template, right, left).segments
    analysis = replace(template, sources=(source,), segments=segments, key_slices=(0,))
    assert np.array_equal(read_back(segmentation_of(analysis), analysis)[..., 0], right)


def _group_templates(document: Any) -> list[str]:
    measurements = next(i for i in document.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    return [group.ContentTemplateSequence[0].TemplateIdentifier for group in measurements.ContentSequence]

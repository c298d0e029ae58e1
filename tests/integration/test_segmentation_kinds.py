"""Binary, fractional and label map segmentations hold the model's voxels exactly, wherever the slices lie.

Each is read back twice: by highdicom, and from its bytes with nothing but pydicom's attributes and arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.seg import segread
from highdicom.sr import srread
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, SegmentationStorage

from dicom_node.analysis.answer import Analysis, SourceFrame
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.outputs.artifact_kinds import OutputSet, SegmentationType
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

GEOMETRIES: dict[str, dict[str, Any]] = {
    "axial": {},
    "oblique": {"row": (0.8, 0.6, 0.0), "column": (-0.48, 0.64, -0.6)},
    "flipped-columns": {"row": (-1.0, 0.0, 0.0)},
    "flipped-slices": {"row": (1.0, 0.0, 0.0), "column": (0.0, -1.0, 0.0), "step_mm": -2.5},
    "sagittal": {"row": (0, 1, 0), "column": (0, 0, -1)},
}
KINDS: tuple[SegmentationType, ...] = ("binary", "labelmap", "fractional")
Mask = NDArray[np.bool_]


def written(analysis: Analysis, *kinds: SegmentationType) -> list[WrittenObject]:
    sets = tuple(
        OutputSet(structured_report="off", secondary_capture=False, segmentation=kind) for kind in kinds or KINDS
    )
    return list(write_objects(analysis, examples.context(output_sets=sets)))


def with_probabilities(analysis: Analysis) -> Analysis:
    random = np.random.default_rng(7)
    values = [np.where(one.mask, 0.5 + 0.5 * random.random(one.mask.shape), 0) for one in analysis.segments]
    pairs = zip(analysis.segments, values, strict=True)
    return replace(
        analysis, segments=tuple(replace(one, probability_zyx=value.astype(np.float32)) for one, value in pairs)
    )


def volume(arrangement: str, geometry: dict[str, Any]) -> tuple[Dataset, ...]:
    slices = examples.ct_volume(**geometry)
    if arrangement == "unsorted":
        return tuple(slices[index] for index in (3, 0, 6, 1, 7, 2, 5, 4))
    return frames_of_one_object(slices) if arrangement == "enhanced" else slices


def frames_of_one_object(slices: tuple[Dataset, ...]) -> tuple[SourceFrame, ...]:
    frames = []
    for number, one in enumerate(slices, start=1):
        frame = SourceFrame(one)
        frame.frame_number = number
        frame.SOPInstanceUID, frame.SOPClassUID = slices[0].SOPInstanceUID, EnhancedCTImageStorage
        frames.append(frame)
    return tuple(frames)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arrangement", ["sorted", "unsorted", "enhanced"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_voxels_equal_the_mask_read_in_two_ways(geometry: str, arrangement: str, kind: SegmentationType) -> None:
    analysis = with_probabilities(examples.ct_analysis(volume(arrangement, GEOMETRIES[geometry])))
    (one,) = written(analysis, kind)
    data = to_part10(one.dataset)
    for number, segment in enumerate(analysis.segments, start=1):
        places = _places_mm(analysis, segment.mask)
        assert np.array_equal(_at(_volume_of_highdicom(data, number), places), np.ones(len(places)))
        assert np.array_equal(_by_position(dcmread(BytesIO(data)), analysis, number), segment.mask)


def _places_mm(analysis: Analysis, mask: Mask) -> NDArray[np.float64]:
    """Return where the marked voxels lie, (voxels, 3), by the sources' own attributes (PS3.3 C.7.6.2.1.1)."""
    found = []
    for source, inside in zip(analysis.sources, mask, strict=True):
        rows, columns = np.nonzero(inside)
        along_row, along_column = np.array(source.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = map(float, source.PixelSpacing)
        origin = np.array(source.ImagePositionPatient, dtype=float)
        found.append(
            origin + np.outer(columns * between_columns, along_row) + np.outer(rows * between_rows, along_column)
        )
    return np.concatenate(found)


def _volume_of_highdicom(data: bytes, number: int) -> Any:
    return segread(BytesIO(data)).get_volume(segment_numbers=[number])


def _at(found: Any, places_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return whether each place is marked; every marked voxel must be one of the places."""
    values = np.asarray(found.array)[..., 0] > 0
    indices = np.rint(found.map_reference_to_indices(places_mm)).astype(int)
    assert np.count_nonzero(values) == len(places_mm)
    return np.asarray(values[tuple(indices.T)], dtype=float)


def _by_position(seg: Dataset, analysis: Analysis, number: int) -> Mask:
    """Put each frame where its ImagePositionPatient says; two sources never share a place."""
    origins = np.array([source.ImagePositionPatient for source in analysis.sources], dtype=float)
    mask = np.zeros((len(analysis.sources), int(seg.Rows), int(seg.Columns)), dtype=bool)
    orientation = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.allclose(orientation, analysis.sources[0].ImageOrientationPatient)
    for frame, groups in zip(_frames(seg), seg.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        distances = np.linalg.norm(origins - origin, axis=1)
        assert distances.min() < 1e-3
        if "SegmentIdentificationSequence" not in groups:
            mask[distances.argmin()] |= frame == number
        elif groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            mask[distances.argmin()] |= frame > 0
    return mask


def _frames(seg: Dataset) -> NDArray[np.uint8]:
    shape = (int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns))
    stored = np.frombuffer(seg.PixelData, np.uint8)
    if seg.BitsAllocated == 1:
        stored = np.unpackbits(stored, bitorder="little")
    elif seg.BitsAllocated == 16:
        stored = np.frombuffer(seg.PixelData, "<u2").astype(np.uint8)
    return stored[: int(np.prod(shape))].reshape(shape)


def test_highdicom_gives_the_mask_by_source_image_too() -> None:
    analysis = examples.ct_analysis(volume("unsorted", GEOMETRIES["oblique"]))
    uids = [source.SOPInstanceUID for source in analysis.sources]
    for one in written(analysis, "binary", "labelmap"):
        pixels = segread(BytesIO(to_part10(one.dataset))).get_pixels_by_source_instance(
            uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True, segment_numbers=[1, 2]
        )
        for number, segment in enumerate(analysis.segments):
            assert np.array_equal(pixels[..., number] > 0, segment.mask)


def test_fractions_are_the_probabilities_to_half_a_step() -> None:
    analysis = with_probabilities(examples.ct_analysis())
    (one,) = written(analysis, "fractional")
    seg = one.dataset
    assert (seg.SegmentationType, seg.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert (one.description, seg.SOPClassUID) == ("Segmentation with probabilities", SegmentationStorage)
    uids = [source.SOPInstanceUID for source in analysis.sources]
    pixels = segread(BytesIO(to_part10(seg))).get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    for number, segment in enumerate(analysis.segments):
        assert segment.probability_zyx is not None
        assert np.abs(pixels[..., number] - segment.probability_zyx).max() <= 0.5 / 255 + 1e-6


def test_what_cannot_be_had_is_binary_and_says_so() -> None:
    plain = examples.ct_analysis()
    (fractional,) = written(plain, "fractional")
    assert fractional.dataset.SegmentationType == "BINARY"
    assert fractional.description == "Segmentation, binary as the model gives no probabilities"

    overlapping = replace(plain, segments=tuple(replace(one, mask=one.mask | True) for one in plain.segments))
    (labelled,) = written(overlapping, "labelmap")
    assert (labelled.dataset.SegmentationType, labelled.dataset.SOPClassUID) == ("BINARY", SegmentationStorage)
    assert labelled.description == "Segmentation, binary as segments overlap"


def test_every_kind_is_an_object_of_its_own_for_those_who_want_it() -> None:
    objects = written(with_probabilities(examples.ct_analysis()))
    assert [one.dataset.SegmentationType for one in objects] == ["BINARY", "LABELMAP", "FRACTIONAL"]
    # Pydicom of today has no name for Label Map Segmentation Storage.
    assert objects[1].dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
    assert len({one.dataset.SOPInstanceUID for one in objects}) == 3
    assert len({one.dataset.SeriesInstanceUID for one in objects}) == 3
    assert [len(one.output_keys) for one in objects] == [1, 1, 1]
    assert all(one.dataset.SegmentSequence[-1].SegmentLabel == "Left lung" for one in objects)


def test_segments_of_a_label_map_name_their_sides() -> None:
    (one,) = written(examples.ct_analysis(), "labelmap")
    types = {
        item.SegmentLabel: item.SegmentedPropertyTypeCodeSequence[0]
        for item in one.dataset.SegmentSequence
        if item.SegmentNumber
    }
    sides = {label: code.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning for label, code in types.items()}
    assert sides == {"Right lung": "Right", "Left lung": "Left"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slices", [1, 3])
def test_a_report_refers_to_its_segments_in_every_kind(slices: int, kind: SegmentationType, tmp_path: Path) -> None:
    analysis = with_probabilities(examples.ct_analysis(examples.ct_volume(slices), key_slices=(0,)))
    wanted = OutputSet(secondary_capture=False, segmentation=kind)
    seg, report = write_objects(analysis, examples.context(output_sets=(wanted,)))
    path = tmp_path / "report.dcm"
    path.write_bytes(to_part10(report.dataset))
    if kind != "labelmap":
        # DCMTK 3.6.7 does not know the class of label maps, and stops at a reference to one.
        validators.assert_readable_sr(path)
    assert srread(path).content
    named = [e.value for e in report.dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID"]
    assert seg.dataset.SOPInstanceUID in named


@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_a_segmentation_is_valid(kind: SegmentationType, tmp_path: Path) -> None:
    analysis = with_probabilities(examples.ct_analysis())
    (one,) = written(analysis, kind)
    path, source = tmp_path / "seg.dcm", tmp_path / "source.dcm"
    path.write_bytes(to_part10(one.dataset))
    analysis.sources[0].save_as(source, enforce_file_format=True)
    validators.assert_valid_dicom(path, source)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_inputs_give_equal_bytes(kind: SegmentationType) -> None:
    analysis = with_probabilities(examples.ct_analysis())
    first, second = (to_part10(written(analysis, kind)[0].dataset) for _ in range(2))
    assert first == second

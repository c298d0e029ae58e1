"""Parametric maps hold the model's maps as numbers, on the slices they were made for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from highdicom import imread
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from dicom_node.analysis.answer import Analysis, Saliency, SourceFrame, frame_number_of
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

ALONE = OutputSet(structured_report="off", secondary_capture=False, segmentation="off", parametric_map=True)
MAPPED = (5, 2, 3)


def mapped(sources: tuple[Dataset, ...], method: str = "Grad-CAM, layer features") -> Analysis:
    """Return an answer with maps of one lung on three slices and of the other on one."""
    random = np.random.default_rng(11)
    pairs = [*(("right-lung", index) for index in MAPPED), ("left-lung", 4)]
    saliencies = [
        Saliency(
            finding_key=key,
            sop_instance_uid=str(sources[index].SOPInstanceUID),
            map=random.random((64, 64)).astype(np.float32),
            method=method,
            frame_number=frame_number_of(sources[index]),
        )
        for key, index in pairs
    ]
    return examples.ct_analysis(sources, saliencies=tuple(saliencies))


def written(analysis: Analysis) -> tuple[WrittenObject, ...]:
    return write_objects(analysis, examples.context(output_sets=(ALONE,)))


@pytest.mark.parametrize(
    "row", [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.8, 0.6, 0.0)], ids=["axial", "flipped", "oblique"]
)
def test_values_and_places_are_those_of_the_maps(row: tuple[float, float, float]) -> None:
    column = (-0.48, 0.64, -0.6) if row[1] else (0.0, 1.0, 0.0)
    analysis = mapped(examples.ct_volume(row=row, column=column))
    right, left = written(analysis)
    assert (right.description, left.description) == ("Map: Right lung", "Map: Left lung")
    assert (right.dataset.NumberOfFrames, left.dataset.NumberOfFrames) == (3, 1)

    places = {str(one.SOPInstanceUID): one.ImagePositionPatient for one in analysis.sources}
    maps = {one.sop_instance_uid: one.map for one in analysis.saliencies if one.finding_key == "right-lung"}
    data = to_part10(right.dataset)
    stored = dcmread(BytesIO(data))
    image = imread(BytesIO(data))
    for number, groups in enumerate(stored.PerFrameFunctionalGroupsSequence, start=1):
        uid = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert np.allclose(groups.PlanePositionSequence[0].ImagePositionPatient, places[uid], atol=1e-3)
        expected = maps.pop(uid)
        by_hand = stored.pixel_array[number - 1] / 65535
        assert np.abs(by_hand - expected).max() <= 0.51 / 65535
        by_highdicom = image.get_frame(number, apply_real_world_transform=True)
        assert np.allclose(by_highdicom, by_hand, atol=1e-9)
    assert maps == {}


@pytest.mark.parametrize(
    ("method", "quantity"),
    [("Grad-CAM, layer features", "Visual explanation"), ("Probability", "Certainty of Finding")],
)
def test_it_says_what_the_numbers_are(method: str, quantity: str) -> None:
    right = written(mapped(examples.ct_volume(), method))[0].dataset
    (mapping,) = right.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.LUTExplanation == f"Right lung: {method}"
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == quantity
    assert (mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped) == (0, 65535)


def test_frames_of_an_enhanced_object_are_named() -> None:
    slices = examples.ct_volume()
    frames = []
    for number, one in enumerate(slices, start=1):
        frame = SourceFrame(one)
        frame.frame_number = number
        frame.SOPInstanceUID, frame.SOPClassUID = slices[0].SOPInstanceUID, EnhancedCTImageStorage
        frames.append(frame)
    right, left = written(mapped(tuple(frames)))
    named = [
        int(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
        for one in (right, left)
        for groups in one.dataset.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(named[:3]) == sorted(index + 1 for index in MAPPED)
    assert named[3:] == [5]


def test_maps_are_valid(tmp_path: Path) -> None:
    analysis = mapped(examples.ct_volume())
    source = tmp_path / "source.dcm"
    analysis.sources[0].save_as(source, enforce_file_format=True)
    paths = []
    for one in written(analysis):
        paths.append(tmp_path / f"map{one.order}.dcm")
        paths[-1].write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(paths[-1], source)
    validators.assert_consistent([source], paths)


def test_a_radiograph_has_no_frame_of_reference_and_gets_none() -> None:
    assert written(examples.radiograph_analysis()) == ()


def test_refusals_and_answers_without_maps_get_none() -> None:
    assert written(examples.ct_analysis()) == ()
    assert write_objects(examples.not_analysed(), examples.context(output_sets=(ALONE,))) == ()


def test_equal_inputs_give_equal_bytes() -> None:
    first, second = ([to_part10(one.dataset) for one in written(mapped(examples.ct_volume()))] for _ in range(2))
    assert first == second
    assert len({one.dataset.SeriesInstanceUID for one in written(mapped(examples.ct_volume()))}) == 1

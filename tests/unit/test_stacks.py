"""One series, many stacks: by time, echo, b-value, phase; and acquisitions that are one volume after all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.frames import frames_of
from dicom_node.inference.images.gate import coherent_stack
from dicom_node.inference.images.stacks import Stack
from tests.support.studies import volumes

VALUES = volumes.asymmetric()


def part(name: str, modality: str = "MR", **changes: Any) -> list[Dataset]:
    slices = volumes.classic(VALUES, volumes.affine(), modality=modality, name=name, **changes)
    for one in slices:
        one.SeriesInstanceUID = "1.2.3"
    return slices


def chosen(headers: list[Dataset], gate: Gate | None = None) -> tuple[Stack, list[str]]:
    notes: list[str] = []
    return coherent_stack(headers, gate or Gate(), notes), notes


@pytest.mark.parametrize(
    ("keyword", "first", "second", "words"),
    [
        ("TemporalPositionIdentifier", 1, 2, "temporal position 1"),
        ("EchoTime", 2.5, 10.5, "echo time 2.5"),
        ("DiffusionBValue", 50.0, 1000.0, "b-value 50"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"], "image type ORIGINAL\\PRIMARY\\M"),
        ("AcquisitionNumber", 3, 12, ""),
    ],
)
def test_mr_images_of_one_place_are_parted_and_the_first_part_used(
    keyword: str, first: Any, second: Any, words: str
) -> None:
    stack, notes = chosen([*part("b", **{keyword: second}), *part("a", **{keyword: first})])

    assert [one.header.get(keyword) for one in stack.slices] == [first] * 6
    assert stack.parted_by == words
    assert "form 2 stacks" in notes[0]


def test_phases_are_parted_by_trigger_time_only_where_slices_share_a_position() -> None:
    phases = [*part("a", TriggerTime=0.0), *part("b", TriggerTime=400.0)]
    slices = part("c")
    for index, one in enumerate(slices):
        one.TriggerTime = 10.0 * index

    assert chosen(phases)[0].parted_by == "trigger time 0"
    assert chosen(slices)[0].parted_by == ""


def test_cardiac_phases_of_a_ct_are_parted_without_dimensions_however_their_triggers_wander() -> None:
    phases = [
        *part("a", modality="CT", NominalPercentageOfCardiacPhase=40.0),
        *part("b", modality="CT", NominalPercentageOfCardiacPhase=75.0),
    ]
    for index, one in enumerate(phases):
        one.TriggerTime = 1.5 * index

    stack, notes = chosen(phases)

    assert stack.parted_by == "cardiac phase 40"
    assert "cardiac phase 75 (6 slices)" in notes[0]


def test_of_two_kernels_in_one_series_the_softer_one_is_used_and_told() -> None:
    """The sharp one has the lower UIDs and comes first in every order but this."""
    slices = [*part("a", modality="CT", ConvolutionKernel="B70f"), *part("b", modality="CT", ConvolutionKernel="B30f")]

    stack, notes = chosen(slices)

    assert {one.header.ConvolutionKernel for one in stack.slices} == {"B30f"}
    assert "kernel B70f (6 slices)" in notes[0]


def test_of_two_tube_voltages_in_one_series_the_one_nearer_to_120_kvp_is_used_and_told() -> None:
    stack, notes = chosen([*part("a", modality="CT", KVP=80.0), *part("b", modality="CT", KVP=140.0)])

    assert {one.header.KVP for one in stack.slices} == {140.0}
    assert "kVp 80 (6 slices)" in notes[0]


@pytest.mark.parametrize(
    ("keyword", "values", "code"),
    [("KVP", (80.0, 140.0), "MIXED_KVP"), ("ConvolutionKernel", ("B30f", "B70f"), "MIXED_KERNELS")],
)
def test_slices_that_alternate_between_two_ways_of_scanning_are_no_volume(
    keyword: str, values: tuple[Any, Any], code: str
) -> None:
    slices = part("a", modality="CT")
    for index, one in enumerate(slices):
        setattr(one, keyword, values[index % 2])

    with pytest.raises(NotAnalysable, match=keyword) as refused:
        chosen(slices)

    assert refused.value.reason == code


def test_a_slice_that_tells_no_voltage_contradicts_nobody() -> None:
    slices = part("a", modality="CT", KVP=120.0)
    slices[2].KVP = None

    assert len(chosen(slices)[0].slices) == 6


def test_what_nothing_tells_apart_is_refused() -> None:
    with pytest.raises(NotAnalysable) as refused:
        chosen([*part("a"), *part("b")])

    assert refused.value.reason == "DUPLICATE_POSITION"


def test_steps_of_a_step_and_shoot_scan_are_one_volume() -> None:
    slices = part("a", modality="CT")
    for index, one in enumerate(slices):
        one.AcquisitionNumber = index // 2 + 1

    stack, notes = chosen(slices, Gate(min_slices=6))

    assert len(stack.slices) == 6
    assert notes == ["Used: acquisition 1 to 3 (6 slices), 3 acquisitions that together form one regular volume."]


def test_interleaved_acquisitions_of_a_ct_are_no_volume() -> None:
    slices = part("a", modality="CT")
    for index, one in enumerate(slices):
        one.AcquisitionNumber = index % 2 + 1

    stack, _ = chosen(slices)

    assert len(stack.slices) == 3


def test_rounded_directions_are_one_orientation() -> None:
    slices = part("a", modality="CT")
    for index, one in enumerate(slices):
        one.ImageOrientationPatient = [1, 0.0004995 + 1e-6 * (index % 2), 0, -0.0004995 - 1e-6 * (index % 2), 1, 0]

    assert len(chosen(slices)[0].slices) == 6


def test_a_shift_within_the_plane_is_refused() -> None:
    slices = part("a", modality="CT")
    slices[2].ImagePositionPatient = [-30.0, -30.0, slices[2].ImagePositionPatient[2]]

    with pytest.raises(NotAnalysable) as refused:
        chosen(slices)

    assert refused.value.reason == "SHIFTED_SLICES"


def test_a_volume_beyond_any_scanner_is_refused_before_it_is_read() -> None:
    with pytest.raises(NotAnalysable) as refused:
        chosen(part("a", modality="CT", Rows=32768, Columns=32768))

    assert refused.value.reason == "IMPLAUSIBLE_SIZE"


# --- enhanced objects ---


def whole(times: int = 1) -> Dataset:
    return volumes.enhanced(np.stack([VALUES] * times), volumes.affine())


def test_frames_carry_their_own_attributes_and_never_those_of_others() -> None:
    source = whole(2)
    source.PerFrameFunctionalGroupsSequence[3].MRImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "ADC"]

    frames = list(frames_of(source))

    assert [frame.frame_number for frame in frames] == list(range(1, 13))
    assert [frame.TemporalPositionIdentifier for frame in frames] == [1] * 6 + [2] * 6
    assert ["DERIVED" in frame.ImageType for frame in frames].count(True) == 1
    assert all(frame.PixelSpacing == [1.1, 0.8] for frame in frames)
    assert all("PerFrameFunctionalGroupsSequence" not in frame for frame in frames)


@pytest.mark.parametrize("frames", [5, 7, 0, -1])
def test_an_object_without_attributes_for_each_frame_is_refused(frames: int) -> None:
    source = whole()
    source.NumberOfFrames = frames

    with pytest.raises(NotAnalysable) as refused:
        chosen([source])

    assert refused.value.reason == "BAD_FUNCTIONAL_GROUPS"


def test_frames_that_only_a_dimension_tells_apart_are_parted_by_it() -> None:
    source = whole(2)
    for number, groups in enumerate(source.PerFrameFunctionalGroupsSequence):
        del groups.FrameContentSequence[0].TemporalPositionIndex
        groups.FrameContentSequence[0].DimensionIndexValues = [number % 6 + 1, number // 6 + 1]

    stack, notes = chosen([source])

    assert [one.header.frame_number for one in stack.slices] == [1, 2, 3, 4, 5, 6]
    assert "phase 2 (6 slices)" in notes[0]


def test_a_derived_frame_leaves_a_gap_that_is_refused() -> None:
    source = whole()
    source.PerFrameFunctionalGroupsSequence[2].MRImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "ADC"]

    with pytest.raises(NotAnalysable) as refused:
        chosen([source])

    assert refused.value.reason == "GAP_IN_SERIES"

"""The gate: what is no coherent volume is refused with a coded reason, whatever the order of the images."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.core.errors import NotAnalysable
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.gate import Stack, coherent_stack
from dicom_node.inference.images.geometry import affine_lps_mm
from dicom_node.inference.images.pixels import hounsfield_units
from tests.support.studies.data_factories import changed, flipped_columns, renumbered, tilted

GATE = Gate(min_slices=5, max_slice_spacing_mm=10.0)


@pytest.fixture
def slices() -> list[Dataset]:
    return [_slice(index) for index in range(12)]


def _slice(index: int) -> Dataset:
    """Return the header of an axial CT slice at 5 mm distance."""
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.SOPInstanceUID = f"1.2.3.{index + 1}"
    header.SeriesInstanceUID = "1.2.3"
    header.FrameOfReferenceUID = "1.2.4"
    header.Modality = "CT"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.AcquisitionNumber = 1
    header.InstanceNumber = index + 1
    header.ImagePositionPatient = [-100.0, -100.0, 5.0 * index]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing = [0.8, 0.8]
    header.Rows = header.Columns = 4
    header.PhotometricInterpretation = "MONOCHROME2"
    header.RescaleSlope, header.RescaleIntercept = 1, -1024
    return header


def _chosen(headers: list[Dataset], gate: Gate = GATE) -> tuple[Stack, list[str]]:
    notes: list[str] = []
    return coherent_stack(headers, gate, notes), notes


def _reason(headers: list[Dataset], gate: Gate = GATE) -> str:
    with pytest.raises(NotAnalysable) as refused:
        coherent_stack(headers, gate, [])
    return refused.value.reason


def test_a_regular_series_passes_in_order_along_the_normal(slices: list[Dataset]) -> None:
    shuffled = random.Random(7).sample(slices, len(slices))

    stack, notes = _chosen(shuffled)

    assert [one.header.SOPInstanceUID for one in stack.slices] == [s.SOPInstanceUID for s in slices]
    assert notes == []


def test_a_gap_in_the_series_is_refused(slices: list[Dataset]) -> None:
    assert _reason(slices[:5] + slices[6:]) == "GAP_IN_SERIES"


def test_a_shared_position_within_one_acquisition_is_refused(slices: list[Dataset]) -> None:
    assert _reason([*slices, _at(slices[3], "again")]) == "DUPLICATE_POSITION"


def _at(dataset: Dataset, name: str) -> Dataset:
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{len(name)}"
    return other


def test_uneven_steps_are_refused(slices: list[Dataset]) -> None:
    for index, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0, 5.0 * index + (0.8 if index % 2 else 0.0)]

    assert _reason(slices) == "UNEVEN_SPACING"


def test_positions_rounded_to_a_tenth_of_a_millimetre_pass() -> None:
    slices = [_slice(index) for index in range(40)]
    for index, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0, round(0.625 * index, 1)]

    stack, _ = _chosen(slices)

    assert len(stack.slices) == 40


def test_too_few_slices_are_refused(slices: list[Dataset]) -> None:
    assert _reason(slices[:4]) == "TOO_FEW_SLICES"


def test_a_tilted_gantry_is_refused(slices: list[Dataset]) -> None:
    assert _reason(tilted(slices, 0.5)) == "GANTRY_TILT"


def test_an_oblique_stack_along_its_own_normal_passes(slices: list[Dataset]) -> None:
    direction = np.array([0.0, np.cos(0.3), -np.sin(0.3)])
    normal = np.cross([1.0, 0.0, 0.0], direction)
    for index, one in enumerate(slices):
        one.ImageOrientationPatient = [1.0, 0.0, 0.0, *direction.tolist()]
        one.ImagePositionPatient = (normal * 5.0 * index).tolist()

    assert len(_chosen(slices)[0].slices) == len(slices)


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("Rows", 8, "MIXED_SIZES"),
        ("Columns", 8, "MIXED_SIZES"),
        ("FrameOfReferenceUID", "9.9", "MIXED_FRAMES_OF_REFERENCE"),
        ("PixelSpacing", [0.9, 0.9], "MIXED_PIXEL_SPACING"),
        ("PhotometricInterpretation", "MONOCHROME1", "MIXED_PHOTOMETRIC"),
    ],
)
def test_mixed_geometry_is_refused(slices: list[Dataset], keyword: str, value: object, reason: str) -> None:
    setattr(slices[4], keyword, value)

    assert _reason(slices) == reason


def test_directions_that_are_not_perpendicular_are_refused(slices: list[Dataset]) -> None:
    slices[0].ImageOrientationPatient = [1, 0, 0, 0.5, 0.9, 0]

    assert _reason(slices) == "BAD_ORIENTATION"


def test_a_localizer_alone_is_refused_and_beside_slices_left_out(slices: list[Dataset]) -> None:
    localizers = changed(slices[:1], lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))

    assert _reason(localizers) == "LOCALIZER_ONLY"
    assert _chosen(slices + localizers)[1] == ["Left out: 1 image(s), localizer."]


def test_derived_images_are_left_out(slices: list[Dataset]) -> None:
    derived = changed(slices, lambda d: setattr(d, "ImageType", ["DERIVED", "SECONDARY"]))

    assert _reason(derived) == "DERIVED_ONLY"
    assert len(_chosen(derived, Gate(derived_allowed=True))[0].slices) == 12


def test_images_of_another_class_are_no_volume(slices: list[Dataset]) -> None:
    captures = changed(slices, lambda d: setattr(d, "SOPClassUID", SecondaryCaptureImageStorage))

    assert _reason(captures) == "WRONG_SOP_CLASS"


def test_slices_too_far_apart_are_refused(slices: list[Dataset]) -> None:
    for index, one in enumerate(slices):
        one.ImagePositionPatient = [0, 0, 20.0 * index]

    assert _reason(slices) == "SLICES_TOO_FAR_APART"


def test_the_largest_acquisition_is_used_and_the_others_are_told(slices: list[Dataset]) -> None:
    second = [_slice(index) for index in range(11, 18)]
    for one in second:
        one.AcquisitionNumber, one.SOPInstanceUID = 2, f"{one.SOPInstanceUID}.2"

    stack, notes = _chosen(second + slices)

    assert (stack.acquisition, len(stack.slices)) == ("1", 12)
    assert notes == [
        "The images form 2 stacks: acquisition 1 (12 slices), acquisition 2 (7 slices).",
        "Used: acquisition 1 (12 slices), the largest that forms one regular volume.",
        "Left out: acquisition 2 (7 slices); 1 slice(s) share a position with it (55.0 mm).",
    ]


def test_a_smaller_coherent_stack_is_used_when_the_largest_has_a_gap(slices: list[Dataset]) -> None:
    second = [_slice(index) for index in range(20, 28)]
    for one in second:
        one.AcquisitionNumber = 2

    stack, notes = _chosen(slices[:4] + slices[5:] + second)

    assert stack.acquisition == "2"
    assert notes[0].startswith("Not used: acquisition 1 (11 slices). After position 15.0 mm")


def test_a_remnant_does_not_stand_in_for_a_series_with_a_gap(slices: list[Dataset]) -> None:
    remnant = [_slice(index) for index in range(20, 25)]
    for one in remnant:
        one.AcquisitionNumber = 2

    assert _reason(slices[:4] + slices[5:] + remnant) == "GAP_IN_SERIES"


def test_an_empty_series_is_refused() -> None:
    assert _reason([]) == "NO_IMAGES"


def test_the_affine_takes_the_last_voxel_to_its_place(slices: list[Dataset]) -> None:
    stack, _ = _chosen(slices)
    affine = affine_lps_mm(stack.slices[0].plane, stack.slices[-1].plane, len(slices))

    assert np.allclose(affine @ [3, 2, 11, 1], [-100 + 3 * 0.8, -100 + 2 * 0.8, 55.0, 1])


# --- pixels ------------------------------------------------------------------------------------------------------


@pytest.fixture
def phantom_slice(phantom: list[Dataset]) -> Dataset:
    return copy.deepcopy(phantom[16])


def test_padding_becomes_air(phantom_slice: Dataset) -> None:
    stored = phantom_slice.pixel_array.copy()
    stored[:5] = 4095
    phantom_slice.PixelData = stored.tobytes()
    phantom_slice.PixelPaddingValue = 4095

    hu = hounsfield_units(phantom_slice)

    assert set(np.unique(hu[:5])) == {-1024}
    assert hu[48, 48] > -200


@pytest.mark.parametrize("length", [0, 100, -2])
def test_pixels_of_the_wrong_length_are_refused(phantom_slice: Dataset, length: int) -> None:
    phantom_slice.PixelData = phantom_slice.PixelData[:length]

    with pytest.raises(NotAnalysable) as refused:
        hounsfield_units(phantom_slice)

    assert refused.value.reason == "UNREADABLE_PIXELS"


def test_absurd_dimensions_are_refused_before_anything_is_decoded(phantom_slice: Dataset) -> None:
    phantom_slice.Rows = phantom_slice.Columns = 65535

    with pytest.raises(NotAnalysable, match="not plausible"):
        hounsfield_units(phantom_slice)


def test_values_without_rescale_are_no_hounsfield_units(phantom_slice: Dataset) -> None:
    del phantom_slice.RescaleSlope

    with pytest.raises(NotAnalysable) as refused:
        hounsfield_units(phantom_slice)

    assert refused.value.reason == "NOT_CT_HU"


def test_flipped_storage_has_the_same_values_mirrored(phantom_slice: Dataset) -> None:
    mirrored = hounsfield_units(flipped_columns(renumbered(phantom_slice, "mirror")))

    assert np.array_equal(mirrored[:, ::-1], hounsfield_units(phantom_slice))

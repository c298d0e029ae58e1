"""What others have reported of pixels, their meaning and their place, from files to values; each links the report."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import CTImageStorage, JPEG2000Lossless, JPEGLSLossless

from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.stored import stored_values
from dicom_node.demo.phantoms import chest_radiograph_phantom
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.pixels import AIR_HU, display_values, hounsfield_units
from dicom_node.inference.images.volume import Volume, read_volume
from tests.support.studies import encodings, volumes

VALUES = volumes.asymmetric(slices=8)
GATE = Gate(min_slices=5)
J2K_SIGN_BIT = 0x80


def volume_of(datasets: list[Dataset], folder: Path, gate: Gate = GATE) -> Volume:
    return read_volume(volumes.stored(datasets, folder), gate, [])


def refusal_of(datasets: list[Dataset], folder: Path, gate: Gate = GATE) -> str:
    with pytest.raises(NotAnalysable) as refused:
        volume_of(datasets, folder, gate)
    return refused.value.reason


def series(**changes: object) -> list[Dataset]:
    return volumes.classic(VALUES, volumes.affine(), **changes)


def radiograph(stored: NDArray[np.uint16], **changes: object) -> Dataset:
    image = chest_radiograph_phantom(rows=stored.shape[0])
    image.PixelData = stored.astype("<u2").tobytes()
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return image


# --- encodings ---


def test_an_unsigned_codestream_under_a_signed_header_is_read_as_signed() -> None:
    """https://github.com/pydicom/pydicom/issues/1149: JPEG 2000 that says unsigned, Pixel Representation 1."""
    image, values = encodings.image(encodings.Words(bits=13, is_signed=True))
    image = volumes.encoded_as(image, JPEG2000Lossless)
    (stream,) = generate_frames(image.PixelData, number_of_frames=1)
    precision = stream.index(b"\xff\x51") + 40
    unsigned = stream[:precision] + bytes([stream[precision] & ~J2K_SIGN_BIT]) + stream[precision + 1 :]

    wrapped = stored_values(encodings.holding(image, unsigned, JPEG2000Lossless)).astype(np.int64)

    # A decoder adds half the range to what says that it is unsigned; the bits are those of the signed values.
    assert np.array_equal(wrapped & 0x1FFF, (values + 0x1000) & 0x1FFF)
    assert wrapped.min() < 0


def test_signed_values_of_few_bits_keep_their_sign_in_jpeg_ls(tmp_path: Path) -> None:
    """https://github.com/pydicom/pydicom/issues/2009: JPEG-LS knows no sign; with 7 of 8 bits it was lost."""
    image, values = encodings.image(encodings.Words(bits=7, is_signed=True))
    assert np.array_equal(stored_values(encodings.by_dcmtk(image, ["dcmcjpls"], tmp_path)), values)


def test_sixteen_signed_bits_come_back_from_jpeg_2000_without_a_shift(tmp_path: Path) -> None:
    """https://github.com/fo-dicom/fo-dicom/issues/738: all values were lower by 32768."""
    image, values = encodings.image(encodings.Words(bits=16, is_signed=True))
    assert np.array_equal(stored_values(encodings.by_gdcm(image, JPEG2000Lossless, tmp_path)), values)


def test_a_jpeg_ls_series_with_negative_values_and_no_padding_value_is_as_stored(tmp_path: Path) -> None:
    """https://github.com/TesterTi/LIDCToolbox/issues/9: negative values were taken for padding."""
    datasets = [volumes.encoded_as(one, JPEGLSLossless) for one in series()]
    assert np.array_equal(volume_of(datasets, tmp_path).hu_zyx, VALUES)


# --- what the values mean ---


def test_each_slice_has_its_own_scale_and_offset(tmp_path: Path) -> None:
    """https://github.com/notmatthancock/pylidc/pull/32: the first slice's scale was taken for all."""
    datasets = series()
    for number, one in enumerate(datasets):
        moved = VALUES[number].astype(np.int32) + 1024 + 100 * number
        one.RescaleIntercept = -1024 - 100 * number
        one.PixelData = moved.astype("<i2" if one.PixelRepresentation else "<u2").tobytes()
    assert np.array_equal(volume_of(datasets, tmp_path).hu_zyx, VALUES)


def test_a_negative_slope_turns_dark_and_bright_once() -> None:
    """https://github.com/OHIF/Viewers/issues/127: a radiograph with Rescale Slope -10, Intercept 3000."""
    stored = np.tile(np.arange(0, 256, dtype=np.uint16), (256, 1))
    image = radiograph(stored, RescaleSlope=-10, RescaleIntercept=3000, WindowCenter=1725, WindowWidth=2550)
    shown = display_values(image, voi=True)
    assert shown[0, 0] == pytest.approx(1, abs=0.01)
    assert shown[0, 255] == pytest.approx(0, abs=0.01)


def test_monochrome1_is_turned_after_the_window() -> None:
    """https://github.com/cornerstonejs/cornerstone3D/pull/2215: turned before it, a narrow window showed nothing."""
    stored = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (256, 1))
    window = {"WindowCenter": 1000, "WindowWidth": 400}
    plain = display_values(radiograph(stored, **window), voi=True)
    turned = display_values(radiograph(stored, PhotometricInterpretation="MONOCHROME1", **window), voi=True)
    assert np.allclose(turned, 1 - plain, atol=1e-6)
    assert (plain[0, :50] == 0).all()
    assert (plain[0, 80:] == 1).all()


def test_the_first_of_several_windows_is_the_one_shown() -> None:
    """https://github.com/ImagingDataCommons/highdicom/pull/211: several windows in one image broke what read them."""
    stored = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (256, 1))
    one = radiograph(stored, WindowCenter=1000, WindowWidth=400)
    several = radiograph(stored, WindowCenter=[1000, 3000], WindowWidth=[400, 100])
    assert np.array_equal(display_values(one, voi=True), display_values(several, voi=True))


def test_a_look_up_table_of_fewer_bits_than_the_image_spans_black_to_white() -> None:
    """https://github.com/cornerstonejs/cornerstone/pull/79: a VOI LUT was scaled by the bits of the image."""
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 10], [4 * value for value in range(256)]
    image = radiograph(np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (256, 1)), VOILUTSequence=[table])
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in image:
            delattr(image, keyword)
    shown = display_values(image, voi=True)
    assert shown[0, 0] == 0
    assert shown[0, 16:] == pytest.approx(1, abs=0.01)


def test_an_image_of_nothing_but_padding_is_refused_by_that_name() -> None:
    """https://github.com/fo-dicom/fo-dicom/issues/675: the range of an image of nothing but padding was infinite."""
    image = radiograph(np.full((64, 64), 7, np.uint16), PixelPaddingValue=7)
    with pytest.raises(NotAnalysable, match="same value") as refused:
        display_values(image, voi=False)
    assert refused.value.reason == "EMPTY_IMAGE"


def test_padding_beside_the_scan_circle_is_air() -> None:
    """https://github.com/dgobbi/vtk-dicom/issues/173: what converts CT kept padding of -2000 as if it were measured."""
    (image, *_) = series(PixelRepresentation=1, RescaleIntercept=0, PixelPaddingValue=-2000)
    values = VALUES[0].astype("<i2")
    values[:3] = -2000
    image.PixelData = values.tobytes()
    assert (hounsfield_units(image)[:3] == AIR_HU).all()
    assert np.array_equal(hounsfield_units(image)[3:], VALUES[0, 3:])


# --- which slices, and where ---


def turned_columns(datasets: list[Dataset]) -> None:
    for one in datasets:
        one.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]


def test_rows_that_run_to_the_front_are_placed_by_their_own_direction(tmp_path: Path) -> None:
    """https://github.com/wasserth/TotalSegmentator/pull/598: column direction (0, -1, 0) was mirrored."""
    datasets = series()
    turned_columns(datasets)
    affine = volume_of(datasets, tmp_path).affine_lps_mm
    assert np.sign(affine[1, 1]) == -1
    assert affine[:3, 3] == pytest.approx([float(v) for v in datasets[-1].ImagePositionPatient])


@pytest.mark.parametrize(
    ("report", "change"),
    [
        ("https://github.com/OHIF/Viewers/issues/3303", lambda one, _: setattr(one, "InstanceNumber", 1)),
        ("https://github.com/imageio/imageio/issues/347", lambda one, n: setattr(one, "InstanceNumber", (n * 5) % 8)),
        ("https://github.com/ivmartel/dwv/issues/560", lambda one, n: setattr(one, "SliceLocation", -3.0 * n)),
        ("https://github.com/BRAINSia/BRAINSTools/issues/334", lambda one, _: setattr(one, "SpacingBetweenSlices", 9)),
    ],
)
def test_slices_stand_where_their_position_says(
    report: str, change: Callable[[Dataset, int], None], tmp_path: Path
) -> None:
    """Numbers, locations and spacings that say something else than Image Position (Patient)."""
    datasets = series()
    for number, one in enumerate(datasets):
        change(one, number)
    volume = volume_of(random.Random(report).sample(datasets, len(datasets)), tmp_path)
    assert np.array_equal(volume.hu_zyx, VALUES)
    assert volume.spacing_zyx_mm[0] == pytest.approx(2.5)


def test_frames_in_random_order_are_put_in_order(tmp_path: Path) -> None:
    """https://github.com/horosproject/horos/issues/543: enhanced CT whose frames are stored in any order."""
    order = random.Random(3).sample(range(len(VALUES)), len(VALUES))
    whole = volumes.enhanced(VALUES[None], volumes.affine(), modality="CT", order=order)
    assert np.array_equal(volume_of([whole], tmp_path).hu_zyx, VALUES)


def test_a_scout_that_does_not_call_itself_one_is_left_out(tmp_path: Path) -> None:
    """https://github.com/dgobbi/vtk-dicom/issues/98: a localizer known by nothing but its direction."""
    datasets = series()
    (scout, *_) = volumes.classic(VALUES[:1], volumes.affine(), name="scout")
    scout.SeriesInstanceUID, scout.StudyInstanceUID = datasets[0].SeriesInstanceUID, datasets[0].StudyInstanceUID
    scout.FrameOfReferenceUID = datasets[0].FrameOfReferenceUID
    scout.ImageOrientationPatient, scout.InstanceNumber = [1, 0, 0, 0, 0, -1], 1
    volume = volume_of([scout, *datasets], tmp_path)
    assert np.array_equal(volume.hu_zyx, VALUES)


def missing_slice(datasets: list[Dataset]) -> list[Dataset]:
    return datasets[:4] + datasets[5:]


def wider_from_the_middle_on(datasets: list[Dataset]) -> list[Dataset]:
    for number, one in enumerate(datasets[4:], start=1):
        one.ImagePositionPatient[2] = float(datasets[3].ImagePositionPatient[2]) + 7.5 * number
    return datasets


def half_an_acquisition_twice(datasets: list[Dataset]) -> list[Dataset]:
    return datasets + volumes.classic(VALUES[:4] + 5, volumes.affine(), name="again", AcquisitionNumber=1)


@pytest.mark.parametrize(
    ("report", "change", "reasons"),
    [
        ("https://github.com/Slicer/Slicer/issues/4005", missing_slice, {"GAP_IN_SERIES"}),
        (
            "https://github.com/rordenlab/dcm2niix/issues/22",
            wider_from_the_middle_on,
            {"GAP_IN_SERIES", "UNEVEN_SPACING"},
        ),
        ("https://github.com/imageio/imageio/pull/349", half_an_acquisition_twice, {"DUPLICATE_POSITION"}),
    ],
)
def test_what_is_no_even_volume_is_refused_and_not_bent_into_one(
    report: str, change: Callable[[list[Dataset]], list[Dataset]], reasons: set[str], tmp_path: Path
) -> None:
    datasets = change(series())
    for one in datasets:
        one.SeriesInstanceUID, one.FrameOfReferenceUID = datasets[0].SeriesInstanceUID, datasets[0].FrameOfReferenceUID
    assert refusal_of(random.Random(report).sample(datasets, len(datasets)), tmp_path) in reasons


def test_a_ct_image_of_many_frames_without_positions_is_no_volume(tmp_path: Path) -> None:
    """https://github.com/Slicer/Slicer/issues/7496: frames under CT Image Storage, their distance guessed as 1 mm."""
    whole = volumes.enhanced(VALUES[None], volumes.affine(), modality="CT")
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = CTImageStorage
    whole.RescaleSlope, whole.RescaleIntercept = 1, volumes.INTERCEPT
    whole.PixelSpacing, whole.SliceThickness = [1, 1], 1
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"):
        delattr(whole, keyword)
    refusal_of([whole], tmp_path)


def test_two_hundredths_of_a_millimetre_are_no_other_spacing(tmp_path: Path) -> None:
    """https://github.com/moloney/dcmstack/issues/55: spacings that differ by rounding were refused."""
    datasets = series()
    for number, one in enumerate(datasets):
        one.ImagePositionPatient[2] = round(float(one.ImagePositionPatient[2]) + 0.02 * (number % 2), 2)
    assert volume_of(datasets, tmp_path).spacing_zyx_mm[0] == pytest.approx(2.5, abs=0.01)


def test_a_map_whose_slices_are_scaled_each_by_itself_has_one_scale_in_the_volume(tmp_path: Path) -> None:
    """https://github.com/rordenlab/dcm2niix/issues/978: PET with a Rescale Slope of its own for every slice."""
    slopes = [1.0 + 0.25 * number for number in range(len(VALUES))]
    truth = np.abs(VALUES.astype(np.float64))
    datasets = volumes.classic(VALUES, volumes.affine(), modality="MR")
    for one, slope, plane in zip(datasets, slopes, truth, strict=True):
        one.RescaleSlope, one.RescaleIntercept = slope, 0
        one.PixelRepresentation, one.PixelData = 0, np.rint(plane / slope).astype("<u2").tobytes()
    volume = volume_of(datasets, tmp_path, GATE)
    assert np.abs(volume.values_zyx - truth).max() <= max(slopes) / 2 + 1e-3

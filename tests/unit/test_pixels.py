"""Pixels: what is cut off is refused, frames are decoded one by one, and scales are taken from the header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.stored import stored_frames, stored_values
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.pixels import AIR_HU, hounsfield_units, rescaled_values
from dicom_node.inference.images.volume import read_volume
from tests.support.studies import volumes

VALUES = volumes.asymmetric()
COMPRESSED = [JPEG2000Lossless, JPEGLSLossless, RLELossless]


def plane(**changes: Any) -> Dataset:
    return volumes.classic(VALUES, volumes.affine(), modality="MR", **changes)[0]


def reason(dataset: Dataset) -> str:
    with pytest.raises(NotAnalysable) as refused:
        stored_values(dataset)
    return refused.value.reason


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_compressed_image_that_is_cut_off_is_refused(syntax: str, share: float) -> None:
    dataset = volumes.encoded_as(plane(), syntax)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    cut = stream[: int(len(stream) * share) // 2 * 2]
    dataset.PixelData = encapsulate([cut])

    assert reason(dataset) == "UNREADABLE_PIXELS"


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
def test_an_object_with_fewer_frames_than_it_says_is_refused(syntax: str, tmp_path: Path) -> None:
    whole = volumes.encoded_as(volumes.enhanced(VALUES[None], volumes.affine()), syntax)
    frames = list(generate_frames(whole.PixelData, number_of_frames=6))
    whole.PixelData = encapsulate(frames[:5])

    with pytest.raises(NotAnalysable) as refused:
        read_volume(volumes.stored([whole], tmp_path), Gate(), [])

    assert refused.value.reason == "UNREADABLE_PIXELS"


@pytest.mark.parametrize("syntax", [None, *COMPRESSED])
def test_frames_come_in_the_order_asked_for(syntax: str | None) -> None:
    whole = volumes.enhanced(VALUES[None], volumes.affine())
    whole = volumes.encoded_as(whole, syntax) if syntax else whole

    third, first = stored_frames(whole, [3, 1])

    assert np.array_equal(third.astype(int) + volumes.INTERCEPT, VALUES[2])
    assert np.array_equal(first.astype(int) + volumes.INTERCEPT, VALUES[0])


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_an_enhanced_ct_of_floating_point_is_read(keyword: str, kind: str, tmp_path: Path) -> None:
    whole = volumes.enhanced(VALUES[None], volumes.affine(), modality="CT")
    values = whole.pixel_array.astype(kind)
    for integer in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        del whole[integer]
    whole.BitsAllocated = values.dtype.itemsize * 8
    setattr(whole, keyword, values.tobytes())

    volume = read_volume(volumes.stored([whole], tmp_path), Gate(), [])

    assert np.array_equal(volume.hu_zyx, VALUES)


def test_mr_values_are_rescaled_slice_by_slice_and_padding_is_the_lowest() -> None:
    scaled = plane(RescaleSlope=2.0, RescaleIntercept=5.0, PixelPaddingValue=int(VALUES[0, 0, 0]) - volumes.INTERCEPT)
    stored = scaled.pixel_array.astype(float)
    padded = stored == stored[0, 0]

    values = rescaled_values(scaled)

    assert np.allclose(values[~padded], stored[~padded] * 2 + 5)
    assert np.allclose(values[padded], (stored[~padded] * 2 + 5).min())


@pytest.mark.parametrize(
    ("is_signed", "outside", "padding"),
    [(1, -2000, -2000), (1, -2000, 63536), (0, 63536, 63536), (0, 63536, -2000), (1, 3000, 3000), (0, 0, 0)],
)
@pytest.mark.parametrize("by_range", [False, True])
def test_padding_is_read_with_the_sign_of_the_pixels_whatever_it_is_written_with(
    is_signed: int, outside: int, padding: int, by_range: bool
) -> None:
    stored = np.full((4, 4), 100, np.int16 if is_signed else np.uint16)
    stored[0] = outside
    image = plane(RescaleSlope=1.0, RescaleIntercept=0.0)
    image.Rows = image.Columns = 4
    image.PixelRepresentation, image.BitsStored, image.HighBit = is_signed, 16, 15
    image.PixelData = stored.tobytes()
    image.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    if by_range:
        image.add_new("PixelPaddingRangeLimit", "SS" if padding < 0 else "US", padding)

    values = hounsfield_units(image)

    assert (values[0] == AIR_HU).all()
    assert (values[1:] == 100).all()


def test_mr_values_without_rescale_are_those_stored() -> None:
    plain = plane(RescaleSlope=None, RescaleIntercept=None)

    assert np.array_equal(rescaled_values(plain), plain.pixel_array.astype(np.float32))


def test_a_volume_of_mr_has_no_hounsfield_units(tmp_path: Path) -> None:
    volume = read_volume(volumes.stored(volumes.classic(VALUES, volumes.affine(), modality="MR"), tmp_path), Gate(), [])

    assert volume.values_zyx.dtype == np.float32
    with pytest.raises(NotAnalysable, match="MR"):
        _ = volume.hu_zyx

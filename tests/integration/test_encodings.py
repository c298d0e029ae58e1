"""Values do not depend on the encoding: every transfer syntax against what DCMTK and GDCM make of the same image.

A run takes a sample; a campaign takes every way in which values can lie in their words.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.decoding.stored import stored_values
from dicom_node.dimse.vocabulary import TRANSFER_SYNTAXES
from tests.support.campaign import amount
from tests.support.studies import encodings
from tests.support.studies.encodings import DCMTK_LOSSLESS, DCMTK_LOSSY, DCMTK_NEAR_LOSSLESS, Words, all_words

pytestmark = pytest.mark.campaign

_SAMPLE = [
    Words(bits=8),
    Words(bits=8, is_signed=True),
    Words(bits=10, shift=3, has_overlay=True),
    Words(bits=12, has_overlay=True),
    Words(bits=12, is_signed=True, has_overlay=True),
    Words(bits=12, is_signed=True, shift=4),
    Words(bits=14, is_signed=True),
    Words(bits=16),
    Words(bits=16, is_signed=True),
]
WORDS = amount(_SAMPLE, campaign=all_words())
#: GDCM forgets where in their words values lie.
RIGHT = [one for one in WORDS if not one.shift]
UNSIGNED = [one for one in RIGHT if not one.is_signed and one.bits in {8, 12}]
BY_GDCM = (JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, RLELossless)
HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)


def name(value: object) -> str | None:
    return value.name if isinstance(value, UID) else str(value) if isinstance(value, Words) else None


@pytest.mark.parametrize("words", WORDS, ids=name)
def test_native_values_are_those_of_the_image(words: Words) -> None:
    dataset, values = encodings.image(words)

    assert np.array_equal(stored_values(dataset), values)


@pytest.mark.parametrize("syntax", DCMTK_LOSSLESS, ids=name)
@pytest.mark.parametrize("words", WORDS, ids=name)
def test_what_dcmtk_encodes_without_loss_has_the_values_of_the_image(words: Words, syntax: UID, tmp_path: Path) -> None:
    dataset, values = encodings.image(words)

    made = encodings.by_dcmtk(dataset, DCMTK_LOSSLESS[syntax], tmp_path)

    assert made.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(stored_values(made), values)


@pytest.mark.parametrize("syntax", BY_GDCM, ids=name)
@pytest.mark.parametrize("words", RIGHT, ids=name)
def test_what_gdcm_compresses_has_the_values_of_the_image(words: Words, syntax: UID, tmp_path: Path) -> None:
    dataset, values = encodings.image(words)

    made = encodings.by_gdcm(dataset, syntax, tmp_path)

    assert made.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(stored_values(made), values)


@pytest.mark.parametrize("syntax", DCMTK_LOSSY, ids=name)
@pytest.mark.parametrize("words", UNSIGNED, ids=name)
def test_what_was_lost_is_the_same_for_dcmtk_and_the_node(words: Words, syntax: UID, tmp_path: Path) -> None:
    dataset, _ = encodings.image(words)

    made = encodings.by_dcmtk(dataset, DCMTK_LOSSY[syntax], tmp_path)
    by_dcmtk = encodings.by_dcmtk(made, ("dcmdjpeg",), tmp_path)

    assert made.file_meta.TransferSyntaxUID == syntax
    assert by_dcmtk.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(stored_values(made), stored_values(by_dcmtk))


@pytest.mark.parametrize("syntax", DCMTK_NEAR_LOSSLESS, ids=name)
@pytest.mark.parametrize("words", UNSIGNED, ids=name)
def test_near_lossless_values_are_as_near_as_they_say(words: Words, syntax: UID, tmp_path: Path) -> None:
    dataset, values = encodings.image(words)

    made = encodings.by_dcmtk(dataset, DCMTK_NEAR_LOSSLESS[syntax], tmp_path)

    assert made.file_meta.TransferSyntaxUID == syntax
    assert np.abs(stored_values(made).astype(int) - values).max() == 1


@pytest.mark.parametrize("syntax", HIGH_THROUGHPUT, ids=name)
def test_high_throughput_jpeg_2000_has_the_values_of_the_image(syntax: UID) -> None:
    values = stored_values(encodings.high_throughput(syntax))

    assert hashlib.sha256(values.astype("<u2").tobytes()).hexdigest() == encodings.HTJ2K_SHA256


def test_jpeg_2000_that_may_have_lost_something_is_read_like_the_other(tmp_path: Path) -> None:
    dataset, values = encodings.image(Words(bits=12))
    made = encodings.by_gdcm(dataset, JPEG2000Lossless, tmp_path)
    made.file_meta.TransferSyntaxUID = JPEG2000

    assert np.array_equal(stored_values(made), values)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", DCMTK_LOSSLESS, ids=name)
def test_colours_are_those_of_the_image_by_pixel_and_by_plane(syntax: UID, planar: int, tmp_path: Path) -> None:
    dataset, rgb = encodings.in_colour(planar)

    made = encodings.by_dcmtk(dataset, DCMTK_LOSSLESS[syntax], tmp_path)

    assert np.array_equal(stored_values(made), rgb)


def test_colours_with_halved_chrominance_are_those_of_dcmtk(tmp_path: Path) -> None:
    dataset, rgb = encodings.in_colour(0)
    made = encodings.by_dcmtk(dataset, ("dcmcjpeg", "+eb", "+q", "95"), tmp_path)

    by_dcmtk = encodings.by_dcmtk(made, ("dcmdjpeg",), tmp_path)

    assert made.PhotometricInterpretation == "YBR_FULL_422"
    assert np.abs(stored_values(made).astype(int) - stored_values(by_dcmtk)).max() <= 1
    assert np.abs(stored_values(made).astype(int) - rgb).max() < 20


def test_native_colours_with_halved_chrominance_are_read() -> None:
    dataset, rgb = encodings.in_colour(0)
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    halved = np.stack([ybr[:, 0::2, 0], ybr[:, 1::2, 0], ybr[:, 0::2, 1], ybr[:, 0::2, 2]], axis=-1)
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = encodings.padded(halved.tobytes())

    assert np.abs(stored_values(dataset)[:, 0::2].astype(int) - rgb[:, 0::2]).max() <= 2


def test_values_of_32_bits_and_of_floating_point_are_read() -> None:
    dataset, values = encodings.image(Words(bits=16))
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 20, 19
    dataset.PixelData = (values | 0xFFF00000).astype("<u4").tobytes()
    assert np.array_equal(stored_values(dataset), values)

    floats = (values / 7).astype("<f4")
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        del dataset[keyword]
    dataset.FloatPixelData = floats.tobytes()

    assert np.array_equal(stored_values(dataset), floats)


def test_every_transfer_syntax_that_is_taken_is_decoded_above() -> None:
    tried = {
        ExplicitVRLittleEndian,
        JPEG2000,
        *DCMTK_LOSSLESS,
        *DCMTK_LOSSY,
        *DCMTK_NEAR_LOSSLESS,
        *BY_GDCM,
        *HIGH_THROUGHPUT,
    }

    assert set(TRANSFER_SYNTAXES) == tried

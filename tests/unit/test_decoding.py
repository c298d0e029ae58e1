"""Before a codec sees a compressed frame: what contradicts the header is refused by name, what is harmless is read."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from jpeg_ls import encode_array as encode_jpeg_ls
from numpy.typing import NDArray
from openjpeg.utils import encode_array as encode_jpeg_2000
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.core.errors import NotAnalysable
from dicom_node.decoding.codestream import read_codestream
from dicom_node.decoding.stored import stored_frames, stored_values
from tests.support.studies import encodings
from tests.support.studies.encodings import COLUMNS, ROWS, Words

Stream = Callable[[NDArray[Any]], bytes]


def jpeg(values: NDArray[Any]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def jpeg_ls(values: NDArray[Any]) -> bytes:
    return bytes(encode_jpeg_ls(values))


def jpeg_2000(values: NDArray[Any]) -> bytes:
    return bytes(encode_jpeg_2000(values, photometric_interpretation=2, codec_format=0))


ENCODINGS = [
    pytest.param(JPEGBaseline8Bit, jpeg, id="JPEG"),
    pytest.param(JPEGLSLossless, jpeg_ls, id="JPEG-LS"),
    pytest.param(JPEG2000Lossless, jpeg_2000, id="JPEG 2000"),
]


def compressed(syntax: UID, encode: Stream, values: NDArray[Any] | None = None) -> Dataset:
    dataset, own = encodings.image(Words(bits=8))
    return encodings.holding(dataset, encode((own if values is None else values).astype(np.uint8)), syntax)


def refused(dataset: Dataset) -> NotAnalysable:
    with pytest.raises(NotAnalysable) as found:
        stored_values(dataset)
    return found.value


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS)
@pytest.mark.parametrize("size", [(ROWS // 2, COLUMNS), (COLUMNS, ROWS), (ROWS + 1, COLUMNS), (ROWS, COLUMNS - 1)])
def test_a_frame_of_another_size_is_refused_by_name(syntax: UID, encode: Stream, size: tuple[int, int]) -> None:
    dataset = compressed(syntax, encode, np.arange(size[0] * size[1]).reshape(size) % 251)

    refusal = refused(dataset)

    assert refusal.reason == "PIXELS_CONTRADICT_HEADER"
    assert str(dataset.SOPInstanceUID) in str(refusal)
    assert f"{size[0]} rows of {size[1]}" in str(refusal)


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS)
def test_a_frame_of_another_number_of_components_is_refused(syntax: UID, encode: Stream) -> None:
    dataset = compressed(syntax, encode)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0

    assert "components" in str(refused(dataset))


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS[1:])
def test_a_frame_of_more_bits_than_are_allocated_is_refused(syntax: UID, encode: Stream) -> None:
    dataset, _ = encodings.image(Words(bits=8))
    _, values = encodings.image(Words(bits=12))
    encodings.holding(dataset, encode(values.astype(np.uint16)), syntax)

    refusal = refused(dataset)

    assert refusal.reason == "PIXELS_CONTRADICT_HEADER"
    assert "8 are allocated" in str(refusal)


def test_one_frame_of_another_size_among_several_is_found_before_any_is_decoded() -> None:
    dataset, values = encodings.image(Words(bits=8))
    right = jpeg_ls(values.astype(np.uint8))
    dataset = encodings.holding(dataset, right, JPEGLSLossless)
    wrong = jpeg_ls(values[: ROWS // 2].astype(np.uint8))
    dataset.NumberOfFrames = 3
    dataset.PixelData = encapsulate([encodings.padded(one) for one in (right, right, wrong)])

    with pytest.raises(NotAnalysable, match="rows"):
        next(stored_frames(dataset, [1]))


def test_a_sign_without_a_place_is_refused() -> None:
    dataset, values = encodings.image(Words(bits=12, is_signed=True))
    encodings.holding(dataset, jpeg_ls((values & 0xFF).astype(np.uint8)), JPEGLSLossless)

    assert "sign" in str(refused(dataset))


def test_values_said_to_lie_beyond_the_bits_that_are_compressed_are_refused() -> None:
    dataset, values = encodings.image(Words(bits=8))
    encodings.holding(dataset, jpeg_ls(values.astype(np.uint8)), JPEGLSLossless)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 8, 15

    assert "High Bit 15" in str(refused(dataset))


@pytest.mark.parametrize(("stored", "high"), [(12, 10), (12, 16), (17, 16), (0, 11)])
def test_bits_that_do_not_fit_are_refused(stored: int, high: int) -> None:
    dataset, _ = encodings.image(Words(bits=12), BitsStored=stored, HighBit=high)

    assert refused(dataset).reason == "PIXELS_CONTRADICT_HEADER"


def test_without_a_high_bit_values_lie_at_the_right() -> None:
    dataset, values = encodings.image(Words(bits=12, has_overlay=True))
    del dataset.HighBit

    assert np.array_equal(stored_values(dataset), values)


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS)
@pytest.mark.parametrize("padding", [b"\0", b"\xff", b" ", b"\xd9", b"\0\0\0", b"\n" * 5])
def test_padding_behind_the_end_of_a_frame_is_no_matter(syntax: UID, encode: Stream, padding: bytes) -> None:
    plain = compressed(syntax, encode)
    _, values = encodings.image(Words(bits=8))
    behind = encodings.holding(compressed(syntax, encode), encode(values.astype(np.uint8)) + padding, syntax)

    assert np.array_equal(stored_values(behind), stored_values(plain))


def told_behind(stream: bytes, rows: int | None) -> bytes:
    """Return a JPEG stream whose frame header leaves the number of lines to a DNL segment (T.81 B.2.5)."""
    header = next(at for at in (stream.find(b"\xff" + marker) for marker in (b"\xc0", b"\xf7")) if at >= 0)
    dnl = b"" if rows is None else struct.pack(">HHH", 0xFFDC, 4, rows)
    end = stream.rfind(b"\xff\xd9")
    return stream[: header + 5] + b"\0\0" + stream[header + 7 : end] + dnl + stream[end:]


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS[:2])
def test_a_number_of_lines_that_comes_behind_the_scan_is_read(syntax: UID, encode: Stream) -> None:
    _, values = encodings.image(Words(bits=8))
    stream = encode(values.astype(np.uint8))
    plain, late, wrong, none = (
        encodings.holding(compressed(syntax, encode), one, syntax)
        for one in (stream, told_behind(stream, ROWS), told_behind(stream, ROWS - 1), told_behind(stream, None))
    )

    assert np.array_equal(stored_values(late), stored_values(plain))
    assert refused(wrong).reason == "PIXELS_CONTRADICT_HEADER"
    assert "how many lines" in str(refused(none))


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS)
def test_an_end_inside_a_comment_does_not_make_a_frame_whole(syntax: UID, encode: Stream) -> None:
    _, values = encodings.image(Words(bits=8))
    stream = encode(values.astype(np.uint8))
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" if syntax != JPEG2000Lossless else b"\xff\x64\x00\x06\x00\x01\xff\xd9"
    after = 2 if syntax != JPEG2000Lossless else 4 + struct.unpack_from(">H", stream, 4)[0]
    commented = stream[:after] + comment + stream[after:]
    whole, cut = (encodings.holding(compressed(syntax, encode), one, syntax) for one in (commented, commented[:-200]))

    assert np.array_equal(stored_values(whole), stored_values(compressed(syntax, encode)))
    assert "cut off" in str(refused(cut))


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS)
@pytest.mark.parametrize("share", [0.005, 0.02, 0.05, 0.5, 0.9])
def test_what_is_left_of_a_frame_is_refused(syntax: UID, encode: Stream, share: float) -> None:
    _, values = encodings.image(Words(bits=8))
    stream = encode(values.astype(np.uint8))
    cut = encodings.holding(compressed(syntax, encode), stream[: int(len(stream) * share)], syntax)

    assert refused(cut).reason == "UNREADABLE_PIXELS"


@pytest.mark.parametrize(("syntax", "encode"), ENCODINGS)
def test_a_stream_of_another_encoding_never_reaches_a_codec(syntax: UID, encode: Stream) -> None:
    _, values = encodings.image(Words(bits=8))
    stream = encode(values.astype(np.uint8))
    for other in (JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless):
        if other != syntax:
            with pytest.raises(ValueError, match="compressed data"):
                read_codestream(stream, other)


def test_jpeg_2000_in_its_file_format_is_read() -> None:
    dataset, values = encodings.image(Words(bits=12))
    stream = bytes(encode_jpeg_2000(values.astype(np.uint16), photometric_interpretation=2, codec_format=1))
    assert stream[4:8] == b"jP  "

    assert np.array_equal(stored_values(encodings.holding(dataset, stream, JPEG2000Lossless)), values)


def test_rle_of_another_size_is_refused() -> None:
    dataset, _ = encodings.image(Words(bits=12))
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.Rows = ROWS + 3

    assert refused(dataset).reason == "UNREADABLE_PIXELS"


def test_rle_that_ends_inside_a_run_is_refused() -> None:
    dataset, _ = encodings.image(Words(bits=12))
    dataset.compress(RLELossless, generate_instance_uid=False)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    run_beyond_the_end = bytearray(stream.rstrip(b"\0"))
    run_beyond_the_end[64] = 127

    for cut in (stream[:-3], stream[: len(stream) // 2], bytes(run_beyond_the_end)):
        assert refused(encodings.holding(dataset, cut, RLELossless)).reason == "UNREADABLE_PIXELS"


def test_a_version_of_jfif_that_nobody_knows_is_no_matter() -> None:
    stream = jpeg(encodings.image(Words(bits=8))[1])
    strange = stream.replace(b"JFIF\0\x01", b"JFIF\0\x7a", 1)
    assert strange != stream
    dataset = compressed(JPEGBaseline8Bit, jpeg)

    odd = encodings.holding(compressed(JPEGBaseline8Bit, jpeg), strange, JPEGBaseline8Bit)

    assert np.array_equal(stored_values(odd), stored_values(dataset))


def test_an_encoding_that_nothing_reads_is_refused_as_such() -> None:
    dataset, _ = encodings.image(Words(bits=8))
    refusal = refused(encodings.holding(dataset, b"\0" * 64, UID(MPEG2MPML)))

    assert refusal.reason == "ENCODING_NOT_READ"
    assert re.search("MPEG2", str(refusal))

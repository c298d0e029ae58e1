"""Text hidden in pixel data never leaves with it: each hiding place in each transfer syntax, searched byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.core.errors import CannotClean
from dicom_node.decoding.stored import stored_values
from dicom_node.deidentification.pixels import CLEANERS, clean_pixel_data
from dicom_node.deidentification.profile import BASIC
from dicom_node.dimse.vocabulary import TRANSFER_SYNTAXES
from dicom_node.operate.exports.deidentifying import DeidentificationRequest, deidentified
from tests.support.studies import encodings
from tests.support.studies.encodings import DCMTK_LOSSLESS, DCMTK_LOSSY, DCMTK_NEAR_LOSSLESS, Words
from tests.unit.test_decoding import jpeg_2000

MARK = b"XQZ^HIDDEN^NAME."
_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
_JPEG_2000 = (JPEG2000Lossless, JPEG2000)
_HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
Hide = Callable[[bytes], bytes]


def image_in(syntax: UID, folder: Path) -> Dataset:
    """Return an image without text in this transfer syntax."""
    if syntax in _HIGH_THROUGHPUT:
        return encodings.high_throughput(syntax)
    dataset, values = encodings.image(Words(bits=8 if syntax == JPEGBaseline8Bit else 12))
    if syntax in _JPEG_2000:
        return encodings.holding(dataset, jpeg_2000(values.astype(np.uint16)), syntax)
    commands = {**DCMTK_LOSSLESS, **DCMTK_LOSSY, **DCMTK_NEAR_LOSSLESS}
    return encodings.by_dcmtk(dataset, commands[syntax], folder) if syntax in commands else dataset


def segment(marker: int, said: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(said) + 2).to_bytes(2, "big") + said


def behind(stream: bytes) -> bytes:
    return stream + MARK


def behind_another_end(stream: bytes) -> bytes:
    return stream + MARK + b"\xff\xd9"


# --- JPEG and JPEG-LS ----------------------------------------------------------------------------------------------


def in_segment(marker: int) -> Hide:
    return lambda stream: stream[:2] + segment(marker, MARK) + stream[2:]


def beside_colour(marker: int, begins: bytes, length: int) -> Hide:
    said = begins + bytes(length - len(begins)) + MARK
    return lambda stream: stream[:2] + segment(marker, said) + stream[2:]


def between_segments(stream: bytes) -> bytes:
    end = 4 + int.from_bytes(stream[4:6], "big")
    return stream[:end] + MARK + stream[end:]


def before_the_scan(stream: bytes) -> bytes:
    scan = stream.find(b"\xff\xda")
    return stream[:scan] + b"\xff\xff" + segment(0xFE, MARK) + stream[scan:]


IN_JPEG: Mapping[str, Hide] = {
    **{f"APP{marker - 0xE0}": in_segment(marker) for marker in range(0xE0, 0xF0)},
    "COM": in_segment(0xFE), "JPG13": in_segment(0xFD),
    "thumbnail of JFIF": beside_colour(0xE0, b"JFIF\0\1\2\0\0\1\0\1\0\0", 14),
    "behind the end": behind, "behind another end": behind_another_end, "before the scan": before_the_scan,
}  # fmt: skip


# --- JPEG 2000 -----------------------------------------------------------------------------------------------------


def in_main_header(marker: int) -> Hide:
    def hide(stream: bytes) -> bytes:
        first = 4 + int.from_bytes(stream[4:6], "big")
        return stream[:first] + segment(marker, b"\0\1" + MARK) + stream[first:]

    return hide


def in_tile_header(marker: int) -> Hide:
    def hide(stream: bytes) -> bytes:
        said, tile = segment(marker, b"\0\1" + MARK), stream.find(b"\xff\x90")
        told = int.from_bytes(stream[tile + 6 : tile + 10], "big")
        longer = (told + len(said)).to_bytes(4, "big") if told else bytes(4)
        return stream[: tile + 6] + longer + stream[tile + 10 : tile + 12] + said + stream[tile + 12 :]

    return hide


def in_box(kind: bytes, *, is_behind: bool = False) -> Hide:
    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content) + 8) + name + content

    def hide(stream: bytes) -> bytes:
        head = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
        said, coded = box(kind, MARK), box(b"jp2c", stream)
        return head + (coded + said if is_behind else said + coded)

    return hide


IN_JPEG_2000: Mapping[str, Hide] = {
    **{f"{name} of the main header": in_main_header(marker) for name, marker in
       (("COM", 0x64), ("PLM", 0x57), ("TLM", 0x55), ("CRG", 0x63))},
    "COM of a tile": in_tile_header(0x64), "PLT of a tile": in_tile_header(0x58),
    **{f"box {kind.decode()}": in_box(kind) for kind in (b"xml ", b"uuid", b"asoc")},
    "box behind the codestream": in_box(b"xml ", is_behind=True),
    "behind the end": behind, "behind another end": behind_another_end,
}  # fmt: skip


# --- RLE -----------------------------------------------------------------------------------------------------------


def shifted(frame: bytes, by: int, first: int) -> bytes:
    """Move the segments from number `first` on."""
    count, *offsets = struct.unpack_from("<16L", frame)
    moved = [offset + by if first <= number < count else offset for number, offset in enumerate(offsets)]
    return struct.pack("<16L", count, *moved)


def before_the_segments(frame: bytes) -> bytes:
    return shifted(frame, len(MARK), 0) + MARK + frame[64:]


def between_rle_segments(frame: bytes) -> bytes:
    second = struct.unpack_from("<L", frame, 8)[0]
    return shifted(frame, len(MARK), 1) + frame[64:second] + MARK + frame[second:]


def in_the_header(frame: bytes) -> bytes:
    return frame[:48] + MARK + frame[64:]


IN_RLE: Mapping[str, Hide] = {
    "behind the last segment": behind, "between segments": between_rle_segments,
    "before the segments": before_the_segments, "unused offsets": in_the_header,
}  # fmt: skip


def hiding_places() -> Iterator[object]:
    places = {
        **dict.fromkeys(_JPEG, IN_JPEG),
        **dict.fromkeys((*_JPEG_2000, *_HIGH_THROUGHPUT), IN_JPEG_2000),
        RLELossless: IN_RLE,
        **{syntax: {"behind the pixels": behind} for syntax in _NATIVE},
    }
    assert set(places) == {UID(one) for one in TRANSFER_SYNTAXES}
    for syntax, by_name in places.items():
        for name, hide in by_name.items():
            yield pytest.param(syntax, hide, id=f"{syntax.name}-{name}")


def as_file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def cleaned(dataset: Dataset) -> Dataset:
    """Return what leaves of a file, read again; its bytes hold no mark."""
    assert MARK in as_file(dataset)
    of = dcmread(BytesIO(as_file(dataset)))
    clean_pixel_data(of)
    content = as_file(of)
    assert MARK not in content
    return dcmread(BytesIO(content))


@pytest.mark.parametrize(("syntax", "hide"), list(hiding_places()))
def test_text_goes_wherever_it_is_hidden_and_pixels_stay(syntax: UID, hide: Hide, tmp_path: Path) -> None:
    plain = image_in(syntax, tmp_path)
    before = stored_values(plain)
    if syntax.is_encapsulated:
        (stream,) = generate_frames(plain.PixelData, number_of_frames=1)
        hidden = hide(stream.rstrip(b"\0") if syntax != RLELossless else stream)
        plain.PixelData = encapsulate([encodings.padded(hidden)])
    else:
        plain.PixelData = hide(plain.PixelData)
    assert np.array_equal(stored_values(cleaned(plain)), before)


@pytest.mark.parametrize("syntax", [UID(one) for one in TRANSFER_SYNTAXES if UID(one).is_encapsulated])
def test_text_goes_from_tables_of_offsets(syntax: UID, tmp_path: Path) -> None:
    plain = image_in(syntax, tmp_path)
    before, (stream,) = stored_values(plain), generate_frames(plain.PixelData, number_of_frames=1)
    table = b"\xfe\xff\x00\xe0" + struct.pack("<LL", 4 + len(MARK), 0) + MARK
    plain.PixelData = table + encapsulate([stream], has_bot=False)[8:]
    after = cleaned(plain)
    assert np.array_equal(stored_values(after), before)
    plain.PixelData, plain.ExtendedOffsetTable, plain.ExtendedOffsetTableLengths = encapsulate_extended([stream])
    plain.ExtendedOffsetTable += MARK
    plain.ExtendedOffsetTableLengths += MARK
    after = cleaned(plain)
    assert np.array_equal(stored_values(after), before)
    assert len(after.ExtendedOffsetTable) == len(after.ExtendedOffsetTableLengths) == 8


def test_what_cannot_be_cleaned_is_refused_with_a_reason_that_repeats_no_value(tmp_path: Path) -> None:
    dataset = image_in(JPEGLosslessSV1, tmp_path)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    fragments = (stream[: stream.rfind(b"\xff\xd9")] + MARK, between_segments(stream[:2] + b"\xff\xc9" + MARK))
    refused = [encodings.holding(dataset.copy(), one, JPEGLosslessSV1) for one in fragments]
    refused.append(encodings.holding(dataset.copy(), b"\0\0\1\xb3" + MARK, UID(MPEG2MPML)))
    refused.append(image_in(RLELossless, tmp_path))
    refused[-1].PixelData = encapsulate([*generate_frames(refused[-1].PixelData, number_of_frames=1), MARK])
    for one in refused:
        (path := tmp_path / "object.dcm").write_bytes(as_file(one))
        told = deidentified(
            DeidentificationRequest(path=path, profile=BASIC, key=b"k" * 32, target=tmp_path / "out.dcm")
        )
        assert told.why_not not in ("", "it cannot be read")
        assert "XQZ" not in told.why_not
        assert not (tmp_path / "out.dcm").exists()


def test_a_stream_behind_which_no_end_stands_cannot_be_told_from_text(tmp_path: Path) -> None:
    for syntax in (JPEGBaseline8Bit, JPEGLSLossless):
        dataset = image_in(syntax, tmp_path)
        (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
        with pytest.raises(CannotClean, match="no end"):
            clean_pixel_data(encodings.holding(dataset, stream[: stream.rfind(b"\xff\xd9")] + MARK, syntax))


def test_every_transfer_syntax_that_the_node_takes_has_its_cleaner() -> None:
    assert {UID(one) for one in TRANSFER_SYNTAXES} <= set(CLEANERS)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_an_overlay_in_unused_bits_goes_in_either_order_of_bytes(syntax: UID, tmp_path: Path) -> None:
    dataset, values = encodings.image(Words(bits=12, has_overlay=True))
    if syntax == ExplicitVRBigEndian:
        dataset = encodings.by_dcmtk(dataset, DCMTK_LOSSLESS[syntax], tmp_path)
    dataset.add_new(0x60000102, "US", 12)
    clean_pixel_data(dataset)
    words = np.frombuffer(dataset.PixelData, ">u2" if syntax == ExplicitVRBigEndian else "<u2")
    assert np.array_equal(words.reshape(values.shape), values)


@pytest.mark.parametrize("cut", [1, 40, 300])
def test_rle_that_is_cut_off_is_refused(cut: int, tmp_path: Path) -> None:
    dataset = image_in(RLELossless, tmp_path)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    with pytest.raises(CannotClean, match="cut off"):
        clean_pixel_data(encodings.holding(dataset, frame[: -cut - 2], RLELossless))

"""What a compressed frame says of itself, read before any codec sees it: its size, its components, its precision.

JPEG (ITU-T T.81 B.2.2), JPEG-LS (T.87 C.2.2), JPEG 2000 and HTJ2K (T.800 A.5.1). RLE says nothing of the kind.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

#: JPEG, JPEG-LS and JPEG 2000 streams all end with this marker; inside coded data its two bytes cannot follow each
#: other, so where it stands behind the beginning of the data, the data is whole.
_END = b"\xff\xd9"
_SOC_SIZ = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP"
_SOD = b"\xff\x93"
_SOI, _SOS = 0xD8, 0xDA
#: With its length, which is always 4; inside coded data these bytes cannot follow each other.
_DNL = b"\xff\xdc\x00\x04"
#: Frame headers: SOF0 to SOF15 without DHT, JPG and DAC, which lie among them; and SOF55.
_JPEG = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LS = frozenset({0xF7})
#: APP0 to APP15, and COM.
_APPLICATIONS = frozenset(range(0xE0, 0xF0)) | {0xFE}
_JPEG_PRECISIONS = range(2, 17)
#: Markers without a length: TEM, restarts, SOI.
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_WITH_HEADERS = frozenset((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes))


class DamagedStream(ValueError):
    """The headers of a compressed frame cannot be read, or are those of another encoding."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size in pixels, components, bits of each, whether these are signed, and whether the coded data has its end."""

    rows: int
    columns: int
    components: int
    precision: int
    is_signed: bool
    is_whole: bool


def read_codestream(stream: bytes, syntax: UID) -> Codestream | None:
    """Return what the headers of one compressed frame say; `None` for encodings that say nothing.

    Raises `DamagedStream` where they cannot be read.
    """
    if syntax not in _WITH_HEADERS:
        return None
    try:
        if syntax in JPEG2000TransferSyntaxes:
            return _jpeg_2000(bare(stream, syntax))
        return _jpeg(stream, _frame_headers(syntax))
    except (IndexError, struct.error) as error:
        raise DamagedStream("its compressed data ends inside its own header") from error


def bare(stream: bytes, syntax: UID) -> bytes:
    """Return the stream alone: of JPEG 2000 without the file format some wrap it in (PS3.5 A.4.4 forbids it), and
    without the padding behind its end (PS3.5 A.4: one byte, by the standard; of any number and value, by senders); of
    JPEG with the number of lines where decoders look for it."""
    if syntax not in _WITH_HEADERS:
        return stream
    if syntax not in JPEG2000TransferSyntaxes:
        stream = _with_lines(stream, _frame_headers(syntax))
    start = max(stream.find(_SOC_SIZ), 0) if stream.startswith(_JP2_SIGNATURE) else 0
    end = stream.rfind(_END)
    return stream[start : end + len(_END)] if end > start else stream[start:]


def without_applications(stream: bytes) -> bytes:
    """Return a JPEG stream without the segments of applications and without comments.

    They say how colours are to be read and nothing of gray; GDCM ends the process over an unknown version of JFIF.
    """
    kept, position = [stream[:2]], 2
    while (marker := _marker(stream, position)) != _SOS:
        after = position + (2 if marker in _ALONE else _segment_bytes(stream, position))
        if marker not in _APPLICATIONS:
            kept.append(stream[position:after])
        position = _behind_fill(stream, after)
    return b"".join((*kept, stream[position:]))


def _frame_headers(syntax: UID) -> frozenset[int]:
    return _JPEG_LS if syntax in JPEGLSTransferSyntaxes else _JPEG


def _jpeg(stream: bytes, frame_headers: frozenset[int]) -> Codestream:
    header, scan = _frame_and_scan(stream, frame_headers)
    precision, rows, columns, components = struct.unpack_from(">BHHB", stream, header + 4)
    if precision not in _JPEG_PRECISIONS:
        raise DamagedStream(f"its compressed data claims {precision} bits")
    if rows == 0:
        rows = _lines_behind(stream, scan)[1]
    is_whole = stream.find(_END, scan + _segment_bytes(stream, scan)) >= 0
    return Codestream(rows, columns, components, precision, is_signed=False, is_whole=is_whole)


def _frame_and_scan(stream: bytes, frame_headers: frozenset[int]) -> tuple[int, int]:
    """Walk from segment to segment to the first scan, which is where coded data begins; return where the frame header
    and where the scan are."""
    if stream[:2] != bytes((0xFF, _SOI)):
        raise DamagedStream("its compressed data is not JPEG")
    header, position = 0, 2
    while (marker := _marker(stream, position)) != _SOS:
        if marker in frame_headers:
            header = position
        position = _behind_fill(stream, position + (2 if marker in _ALONE else _segment_bytes(stream, position)))
    if not header:
        raise DamagedStream("its compressed data has no frame header of its encoding")
    return header, position


def _lines_behind(stream: bytes, scan: int) -> tuple[int, int]:
    """Return where a DNL segment stands behind the first scan and the number of lines that it tells (T.81 B.2.5, T.87
    C.2.6): who does not know it when the frame begins writes 0 into its header."""
    position = stream.find(_DNL, scan + _segment_bytes(stream, scan))
    if position < 0:
        raise DamagedStream("its compressed data does not say how many lines it has")
    (lines,) = struct.unpack_from(">H", stream, position + len(_DNL))
    return position, int(lines)


def _with_lines(stream: bytes, frame_headers: frozenset[int]) -> bytes:
    """Return a stream whose frame header has the number of lines, and that has no DNL segment, which decoders do not
    know."""
    header, scan = _frame_and_scan(stream, frame_headers)
    if stream[header + 5 : header + 7] != b"\0\0":
        return stream
    position, lines = _lines_behind(stream, scan)
    told = stream[: header + 5] + struct.pack(">H", lines) + stream[header + 7 : position]
    return told + stream[position + len(_DNL) + 2 :]


def _behind_fill(stream: bytes, position: int) -> int:
    """A marker may follow any number of fill bytes (T.81 B.1.1.2)."""
    while stream[position : position + 2] == b"\xff\xff":
        position += 1
    return position


def _marker(stream: bytes, position: int) -> int:
    if stream[position] != 0xFF:
        raise DamagedStream("its compressed data has a damaged header")
    return stream[position + 1]


def _segment_bytes(stream: bytes, position: int) -> int:
    (length,) = struct.unpack_from(">H", stream, position + 2)
    return 2 + int(length)


def _jpeg_2000(stream: bytes) -> Codestream:
    if not stream.startswith(_SOC_SIZ):
        raise DamagedStream("its compressed data is not JPEG 2000")
    right, bottom, left, top = struct.unpack_from(">4L", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    depths = {stream[42 + 3 * component] for component in range(components)}
    if len(depths) != 1:
        raise DamagedStream("its components have different precisions")
    depth = depths.pop()
    data = stream.find(_SOD)
    is_whole = data >= 0 and stream.find(_END, data) >= 0
    return Codestream(
        bottom - top, right - left, components, (depth & 0x7F) + 1, is_signed=bool(depth & 0x80), is_whole=is_whole
    )

"""A DICOM file taken apart while it streams: its names from the file meta information, then its data set."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.retrieve.sink import Names, RetrieveSink

_PREAMBLE_BYTES = 128
_START_BYTES = _PREAMBLE_BYTES + 4 + 12  # preamble, prefix, group length element
_LONGEST_META_BYTES = 1 << 16
_SHORT, _LONG = struct.Struct("<HH2sH"), struct.Struct("<L")
_LONG_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"}
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010


def opened_file(chunks: Iterable[bytes]) -> tuple[Names, Iterator[bytes]]:
    """Return the names of a streamed file (PS3.10 7.1) and the rest of it, the data set.

    Raises `RefusedObject` when it does not begin like a DICOM file, and whatever `chunks` raise.
    """
    stream = iter(chunks)
    head = _grown(bytearray(), stream, _START_BYTES)
    group, element, vr, _ = _SHORT.unpack_from(head, _PREAMBLE_BYTES + 4)
    length = _LONG.unpack_from(head, _START_BYTES - 4)[0]
    if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != b"DICM" or (group, element, vr) != (2, 0, b"UL"):
        raise _no_file()
    if length > _LONGEST_META_BYTES:
        raise _no_file()
    end = _START_BYTES + length
    head = _grown(head, stream, end)
    elements = _elements(head[_START_BYTES:end])
    return _names(elements), _rest(bytes(head[end:]), stream)


def take_file(chunks: Iterable[bytes], arrivals: RetrieveSink) -> StoreStatus:
    """Store a streamed file. Raises as `opened_file` and `Arrivals.take` do."""
    names, data_set = opened_file(chunks)
    return arrivals.take(names, data_set)


def _grown(head: bytearray, stream: Iterator[bytes], wanted: int) -> bytearray:
    while len(head) < wanted:
        chunk = next(stream, None)
        if chunk is None:
            raise _no_file()
        head += chunk
    return head


def _elements(meta: bytearray) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position = 0
    try:
        while position < len(meta):
            group, element, vr, length = _SHORT.unpack_from(meta, position)
            position += _SHORT.size
            if vr in _LONG_VRS:
                length = _LONG.unpack_from(meta, position)[0]
                position += _LONG.size
            if group != 2 or position + length > len(meta):
                raise _no_file()
            found[element] = bytes(meta[position : position + length])
            position += length
    except struct.error as error:
        raise _no_file() from error
    return found


def _names(elements: dict[int, bytes]) -> Names:
    def text(element: int) -> str:
        return elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")

    return Names(text(_SOP_CLASS), text(_SOP_INSTANCE), text(_TRANSFER_SYNTAX))


def _rest(first: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from stream


def _no_file() -> RefusedObject:
    return RefusedObject(
        StoreStatus.CANNOT_UNDERSTAND, "It is not a DICOM file with readable file meta information (PS3.10 7.1)."
    )

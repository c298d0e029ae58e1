"""A frame of RLE made again of the runs that its pixels need (PS3.5 G), with nothing before, between or behind."""

from __future__ import annotations

import struct

from dicom_node.core.errors import CannotClean

_HEADER = struct.Struct("<16L")
_NO_RUN = 128


def cleaned(frame: bytes, planes: int, pixels: int) -> bytes:
    """Return a frame of so many byte planes, each of as many bytes as the frame has pixels.

    Raises `CannotClean` where it has other segments, or one that ends before its pixels do.
    """
    if len(frame) < _HEADER.size:
        raise CannotClean("its compressed data is not RLE")
    count, *offsets = _HEADER.unpack_from(frame)
    if count != planes or count > len(offsets):
        raise CannotClean("its compressed data has another number of segments than its pixels have bytes")
    segments = [_runs(frame, offset, pixels) for offset in offsets[:count]]
    starts, position = [], _HEADER.size
    for segment in segments:
        starts.append(position)
        position += len(segment)
    return _HEADER.pack(count, *starts, *[0] * (len(offsets) - count)) + b"".join(segments)


def _runs(frame: bytes, start: int, pixels: int) -> bytes:
    """Return the runs of one segment up to its last pixel, of an even length."""
    position, left, end = start, pixels, len(frame)
    last = b""
    while left > 0:
        if position + 1 >= end:
            raise CannotClean("its segments are cut off")
        control = frame[position]
        if control > _NO_RUN:
            left, position = left - (257 - control), position + 2
        elif control == _NO_RUN:
            position += 1
        elif control < left:
            left, position = left - (control + 1), position + control + 2
        else:
            last, left = bytes((left - 1,)) + frame[position + 1 : position + 1 + left], 0
    if position > end or (last and len(last) != last[0] + 2):
        raise CannotClean("its segments are cut off")
    kept = frame[start:position] + last
    return kept + b"\0" * (len(kept) % 2)

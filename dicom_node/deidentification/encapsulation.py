"""Encapsulated pixel data taken apart into frames and put together again, with new tables of offsets (PS3.5 A.4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended

from dicom_node.core.errors import CannotClean

_ITEM = struct.Struct("<HHL")
_ITEM_TAG, _DELIMITER_TAG = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
#: What an offset of the basic table can say.
_MOST_BYTES = 2**32 - 1
_EXTENDED = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")


def frames_of(encapsulated: bytes, frames: int, begins: Callable[[bytes], bool]) -> list[bytes]:
    """Return the stream of each frame. One may lie in several fragments; the next begins with one that begins as
    streams do. Raises `CannotClean` where there are other than so many frames."""
    streams: list[list[bytes]] = []
    for fragment in list(_items(encapsulated))[1:]:  # behind the basic offset table
        if not streams or begins(fragment):
            streams.append([])
        streams[-1].append(fragment)
    if len(streams) != frames:
        raise CannotClean("its compressed data holds another number of frames than it says")
    return [b"".join(one) for one in streams]


def put_together(dataset: Dataset, streams: list[bytes]) -> None:
    """Give a dataset these frames, each in a fragment of its own, with an offset table of the kind that it had."""
    is_extended = _EXTENDED[0] in dataset or sum(len(one) + 9 for one in streams) > _MOST_BYTES
    for keyword in _EXTENDED:
        dataset.pop(keyword, None)
    if is_extended:
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            streams
        )
    else:
        dataset.PixelData = encapsulate(streams)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def without_offset_tables(dataset: Dataset) -> None:
    """Take away tables of offsets that point nowhere, as beside pixels that are not compressed."""
    for keyword in _EXTENDED:
        dataset.pop(keyword, None)


def _items(encapsulated: bytes) -> Iterator[bytes]:
    """Yield the content of each item, up to the delimiter."""
    position = 0
    while position < len(encapsulated):
        if position + _ITEM.size > len(encapsulated):
            return  # a few bytes that are no item
        *tag, length = _ITEM.unpack_from(encapsulated, position)
        position += _ITEM.size
        if tuple(tag) == _DELIMITER_TAG:
            return
        if tuple(tag) != _ITEM_TAG or position + length > len(encapsulated):
            raise CannotClean("its compressed data is cut off, or holds something else between its items")
        yield encapsulated[position : position + length]
        position += length

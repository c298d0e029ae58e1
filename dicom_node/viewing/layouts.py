"""Where the frames of a stored object lie in its file. Runs in a process with limits."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.core.errors import UnreadableObject
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.viewing.described import DEFLATED, NATIVE, Described, FrameLayout, NotDescribed
from dicom_node.viewing.headers import header_json

#: Most fragments that are looked at.
MAX_FRAGMENTS = 1_000_000
_PIXEL_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN")
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}
_UNDEFINED = 0xFFFFFFFF
_ITEM_TAG = 0xFFFEE000
_ITEM = struct.Struct("<HHL")
#: With these a compressed frame begins: JPEG and JPEG-LS, JPEG 2000.
_BEGINNINGS = (b"\xff\xd8", b"\xff\x4f")


def described(path: Path) -> Described | NotDescribed:
    """Return header and layout of a file, or why they cannot be read."""
    try:
        return _described(path)
    except UnreadableObject as error:
        return NotDescribed(str(error))
    except (*READ_ERRORS, OSError) as error:
        return NotDescribed(f"it cannot be read ({type(error).__name__})")


def _described(path: Path) -> Described:
    with path.open("rb") as file:
        dataset = dcmread(file, stop_before_pixels=True)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        if syntax == DEFLATED:
            return _inflated(path, syntax)
        tag, start, length = _pixel_element(file, syntax)
        if not tag:
            return Described(header_json(dataset), FrameLayout(transfer_syntax_uid=syntax))
        layout = _layout(file, dataset, syntax, (tag, start, length))
    return Described(header_json(dataset, f"{tag:08X}"), layout)


def _inflated(path: Path, syntax: str) -> Described:
    """Describe an object whose file must be read as a whole."""
    dataset = dcmread(path)
    pixels = next((f"{tag:08X}" for tag in _PIXEL_TAGS if tag in dataset), "")
    return Described(
        header_json(dataset, pixels), FrameLayout(transfer_syntax_uid=syntax, frames=_frames(dataset, pixels))
    )


def _frames(dataset: Dataset, pixels: object) -> int:
    return max(1, int(dataset.get("NumberOfFrames") or 1)) if pixels and "Rows" in dataset else 0


def _pixel_element(file: BinaryIO, syntax: str) -> tuple[int, int, int]:
    """Return tag, offset and length of the pixel data that begins where the file stands; zeros for none."""
    head = file.read(12)
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    if len(head) < 8:
        return 0, 0, 0
    group, element = struct.unpack(f"{order}HH", head[:4])
    tag = group << 16 | element
    if tag not in _PIXEL_TAGS:
        return 0, 0, 0
    # Some write Implicit VR under an Explicit syntax; look instead of believing.
    if head[4:6] in _PIXEL_VRS:
        return tag, file.tell(), int(struct.unpack(f"{order}L", head[8:12].ljust(4, b"\0"))[0])
    return tag, file.tell() - len(head) + 8, int(struct.unpack(f"{order}L", head[4:8])[0])


def _layout(file: BinaryIO, dataset: Dataset, syntax: str, pixels: tuple[int, int, int]) -> FrameLayout:
    tag, start, length = pixels
    frames = _frames(dataset, tag)
    available = os.fstat(file.fileno()).st_size - start
    if not frames:
        return FrameLayout(transfer_syntax_uid=syntax)
    if syntax in NATIVE:
        frame_bytes = _frame_bytes(dataset, _FLOAT_BITS.get(tag, 0))
        fits = frame_bytes * frames <= min(length, available)
        return FrameLayout(
            transfer_syntax_uid=syntax, frames=frames, offset=start, frame_bytes=frame_bytes if fits else 0
        )  # fmt: skip
    if length != _UNDEFINED:
        raise UnreadableObject("its compressed pixels are not encapsulated (PS3.5 A.4)")
    file.seek(start)
    return FrameLayout(transfer_syntax_uid=syntax, frames=frames, fragments=_fragments_of_frames(file, dataset, frames))


def _frame_bytes(dataset: Dataset, float_bits: int) -> int:
    """Return the size of a frame that is not compressed; 0 where frames do not begin at a byte."""
    values = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        values = values * 2 // 3
    bits = values * (float_bits or int(dataset.BitsAllocated))
    return bits // 8 if bits % 8 == 0 else 0


# --- compressed frames (PS3.5 A.4) -----------------------------------------------------------------------------------


def _fragments_of_frames(file: BinaryIO, dataset: Dataset, frames: int) -> tuple[tuple[int, ...], ...]:
    """Return the places of each frame's fragments; nothing where nothing tells the frames apart."""
    items = _items(file)
    if not items:
        return ()
    (table_at, table_bytes), fragments = items[0], items[1:]
    if frames == 1:
        return (_flat(fragments),)
    if len(fragments) == frames:
        return tuple(_flat([one]) for one in fragments)
    starts = _told_starts(file, dataset, (table_at, table_bytes), fragments) or _seen_starts(file, fragments)
    if len(starts) != frames:
        return ()
    ends = [*starts[1:], len(fragments)]
    return tuple(_flat(fragments[one:end]) for one, end in zip(starts, ends, strict=True))


def _flat(fragments: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    return tuple(number for place in fragments for number in place)


def _items(file: BinaryIO) -> list[tuple[int, int]]:
    """Return offset and length of the items from where the file stands: the offset table, then the fragments."""
    size = os.fstat(file.fileno()).st_size
    found: list[tuple[int, int]] = []
    while len(head := file.read(_ITEM.size)) == _ITEM.size:
        group, element, length = _ITEM.unpack(head)
        at = file.tell()
        if group << 16 | element != _ITEM_TAG:
            break
        if at + length > size or len(found) > MAX_FRAGMENTS:
            raise UnreadableObject("a fragment of its pixel data is cut off, or there are too many")
        found.append((at, length))
        file.seek(length, os.SEEK_CUR)
    return found


def _told_starts(
    file: BinaryIO, dataset: Dataset, table: tuple[int, int], fragments: Sequence[tuple[int, int]]
) -> list[int]:
    """Return with which fragment each frame begins, by the offset table; nothing without a table that fits."""
    file.seek(table[0])
    basic = file.read(table[1] // 4 * 4)
    extended = dataset.get("ExtendedOffsetTable")
    offsets = struct.unpack(f"<{len(basic) // 4}L", basic)
    if isinstance(extended, bytes) and not offsets:
        offsets = struct.unpack(f"<{len(extended) // 8}Q", extended[: len(extended) // 8 * 8])
    first = fragments[0][0] if fragments else 0
    places = {at - first: number for number, (at, _) in enumerate(fragments)}
    return [places[one] for one in offsets] if set(offsets) <= places.keys() else []


def _seen_starts(file: BinaryIO, fragments: Sequence[tuple[int, int]]) -> list[int]:
    """Return the fragments that begin as compressed frames do."""
    starts = []
    for number, (at, _) in enumerate(fragments):
        file.seek(at)
        if file.read(2) in _BEGINNINGS:
            starts.append(number)
    return starts

"""The first look at a received data set: is it whole, and whose is it? Element headers only, no values but four UIDs.

This runs on bytes from a stranger before the answer, so it never recurses, never allocates by what a length field
says, and gives up at fixed limits. What the values mean is read later, by pydicom in a process with limits.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.core.uids import is_valid_uid

#: Deepest nesting of sequences; DCMTK's limit too.
MAX_DEPTH = 64
#: Most element and fragment headers walked; 8,800 frames with 100 elements each need half of it.
MAX_ELEMENTS = 2_000_000

#: Most that is read of a header, behind the answer: 8,800 frames with functional groups of 1 KB each and some more.
MAX_HEADER_BYTES = 16 << 20
#: Pages of a mapped file are given back after so many headers: each looked at brings sixteen into memory.
_FORGET_EVERY = 256

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_WANTED = {
    0x00080016: "sop_class_uid",
    0x00080018: "sop_instance_uid",
    0x0020000D: "study_instance_uid",
    0x0020000E: "series_instance_uid",
}
_KEYWORDS = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
}
#: PS3.5 7.1.2: value representations whose length has four bytes and stands behind two reserved ones.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_IMPLICIT_LITTLE, _EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderScan:
    """Whose the object is, and how many bytes of the data set are its header: whole elements before the pixel data,
    and before what is large (raw data, documents), `MAX_HEADER_BYTES` at most."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    header_bytes: int


def scan_header(data_set: memoryview, transfer_syntax_uid: str) -> HeaderScan:
    """Walk the element headers of an encoded data set (PS3.5 7.1), without preamble and file meta information.

    Raises `RefusedObject` with 0xC000: cut off, nested deeper than `MAX_DEPTH`, more than `MAX_ELEMENTS` elements, a
    UID missing or malformed.
    """
    walk = _Walk(data_set, transfer_syntax_uid)
    walk.run()
    uids = {name: _uid(walk.found.get(name, b""), keyword) for name, keyword in _KEYWORDS.items()}
    return HeaderScan(header_bytes=walk.header_bytes, **uids)


class _Walk:
    """One pass over the headers; `found` collects the values of the wanted UIDs at the top level, `header_bytes` tells
    where the header ends."""

    def __init__(self, data_set: memoryview, transfer_syntax_uid: str) -> None:
        self._data = data_set
        self._end = len(data_set)
        order = ">" if transfer_syntax_uid == _EXPLICIT_BIG else "<"
        self._tag = struct.Struct(order + "HH")
        self._short, self._long = struct.Struct(order + "H"), struct.Struct(order + "L")
        self._explicit = self._is_explicit(transfer_syntax_uid)
        self._left = MAX_ELEMENTS
        self.found: dict[str, bytes] = {}
        self.header_bytes = 0

    def _is_explicit(self, transfer_syntax_uid: str) -> bool:
        """Look instead of believing: some write Implicit VR under an Explicit syntax, and the other way round."""
        vr = bytes(self._data[4:6])
        if vr in _LONG_VRS or vr in _SHORT_VRS:
            return True
        return transfer_syntax_uid != _IMPLICIT_LITTLE and self._end == 0

    def run(self) -> None:
        """Walk to the pixel data or the end."""
        position, depth = 0, 0
        while position < self._end:
            tag, length, start = self._header(position)
            if depth == 0:
                self._note_boundary(position)
                if tag in _PIXEL_TAGS:
                    self._check_pixels(start, length)
                    return
            if tag in (_ITEM_END, _SEQUENCE_END):
                if depth == 0:
                    raise _refused("a sequence ends that never began")
                depth -= 1
                position = start
            elif length == _UNDEFINED:
                depth += 1
                if depth > 2 * MAX_DEPTH:  # a sequence and its item are one level each
                    raise _refused(f"its sequences are nested more than {MAX_DEPTH} deep")
                position = start
            else:
                position = self._behind(tag, start, length, depth)
        if depth:
            raise _refused("it is cut off inside a sequence")
        self._note_boundary(position)

    def _behind(self, tag: int, start: int, length: int, depth: int) -> int:
        """Return where a value of known length ends; take it if it is wanted."""
        end = start + length
        if end > self._end:
            raise _refused("it is cut off inside its header")
        if depth == 0 and tag in _WANTED:
            self.found[_WANTED[tag]] = bytes(self._data[start : min(end, start + 66)])
        return end

    def _note_boundary(self, position: int) -> None:
        """An element of the top level ends here."""
        if position <= MAX_HEADER_BYTES:
            self.header_bytes = position

    def _header(self, position: int) -> tuple[int, int, int]:
        """Return tag, length and where the value starts."""
        self._left -= 1
        if self._left < 0:
            raise _refused(f"it has more than {MAX_ELEMENTS} elements")
        if self._left % _FORGET_EVERY == 0:
            self._forget_pages()
        if position + 8 > self._end:
            raise _refused("it is cut off inside its header")
        data = self._data
        group, element = self._tag.unpack_from(data, position)
        if group != 0xFFFE and self._explicit:
            vr = bytes(data[position + 4 : position + 6])
            if vr in _SHORT_VRS:
                return group << 16 | element, self._short.unpack_from(data, position + 6)[0], position + 8
            if vr in _LONG_VRS:
                if position + 12 > self._end:
                    raise _refused("it is cut off inside its header")
                return group << 16 | element, self._long.unpack_from(data, position + 8)[0], position + 12
        # Implicit VR; also what stands inside a UN of undefined length (PS3.5 6.2.2), and every item.
        return group << 16 | element, self._long.unpack_from(data, position + 4)[0], position + 8

    def _check_pixels(self, start: int, length: int) -> None:
        if length == _UNDEFINED:
            self._check_fragments(start)
        elif start + length > self._end:
            raise _refused(f"its pixel data is cut off: {length} bytes announced, {self._end - start} received")

    def _check_fragments(self, position: int) -> None:
        """Step from fragment to fragment of encapsulated pixel data (PS3.5 A.4), which is always Little Endian."""
        for count in range(self._left):
            if count % _FORGET_EVERY == 0:
                self._forget_pages()
            if position == self._end:
                return  # some leave out the delimiter
            if position + 8 > self._end:
                raise _refused("a fragment of its pixel data is cut off")
            group, element, length = struct.unpack_from("<HHL", self._data, position)
            if (group, element) != (0xFFFE, 0xE000):
                return
            position += 8 + length
            if position > self._end:
                raise _refused("a fragment of its pixel data is cut off")
        raise _refused(f"its pixel data has more than {MAX_ELEMENTS} fragments")

    def _forget_pages(self) -> None:
        """Keep the memory of a walk through a large file small; its pages stay in the system's cache."""
        if isinstance(self._data.obj, mmap.mmap):
            self._data.obj.madvise(mmap.MADV_DONTNEED)


def _uid(value: bytes, keyword: str) -> str:
    text = value.rstrip(b"\0 ").decode("ascii", "replace")
    if not is_valid_uid(text):
        raise _refused(f"{keyword} is {'not a valid UID' if text else 'missing'}")
    return text


def _refused(what: str) -> RefusedObject:
    return RefusedObject(StoreStatus.CANNOT_UNDERSTAND, f"The object was refused: {what}. Correct it at the sender.")

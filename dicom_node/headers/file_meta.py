"""What a DICOM file begins with (PS3.10 7.1): read as senders write it, written as it is kept.

A sender's file has preamble, prefix and file meta information, or is at once a data set; what the node keeps has a head
of its own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: Longest preamble and file meta information; one UID list of a stranger must not fill the memory.
LONGEST_HEAD_BYTES = 1 << 17
#: So much of a file tells what it is.
TELLING_BYTES = 132 + 8

_PREFIX_AT, _META_AT = 128, 132
_ELEMENT_HEAD, _LONG_LENGTH = struct.Struct("<HH2sH"), struct.Struct("<L")
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_EXPLICIT_LITTLE, _IMPLICIT_LITTLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True)
class FileHead:
    """How the data set is encoded, where it begins, and what the file calls it ("" where it does not say)."""

    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    data_set_offset: int


def looks_like_dicom(beginning: bytes) -> bool:
    """Tell whether bytes begin like a DICOM file, or like a data set without one."""
    return beginning[_PREFIX_AT:_META_AT] == b"DICM" or _is_bare(beginning)


def read_head(beginning: bytes, transfer_syntax_uid: str = "") -> FileHead:
    """Read what stands before the data set; `beginning` is the whole file or at least `LONGEST_HEAD_BYTES` of it.

    `transfer_syntax_uid` is what the sender says of a data set that comes without file meta information; without it a
    look at the first element decides. Raises `RefusedObject` with 0xC000.
    """
    if beginning[_PREFIX_AT:_META_AT] == b"DICM":
        return _with_meta(beginning)
    if not _is_bare(beginning):
        raise _no_file()
    return FileHead(transfer_syntax_uid or _guessed_syntax(beginning), "", "", 0)


def _with_meta(beginning: bytes) -> FileHead:
    found: dict[int, str] = {}
    position = _META_AT
    while position + _ELEMENT_HEAD.size <= len(beginning):
        group, element, vr, length = _ELEMENT_HEAD.unpack_from(beginning, position)
        if group != 2:
            break
        position += _ELEMENT_HEAD.size
        if vr in _LONG_VRS:
            if position + _LONG_LENGTH.size > len(beginning):
                raise _no_file()
            length = _LONG_LENGTH.unpack_from(beginning, position)[0]
            position += _LONG_LENGTH.size
        if position + length > len(beginning):
            raise _no_file()
        if length <= 66:
            found[element] = beginning[position : position + length].rstrip(b"\0 ").decode("ascii", "replace")
        position += length
    if not found.get(_TRANSFER_SYNTAX):
        raise _no_file()
    return FileHead(
        found[_TRANSFER_SYNTAX], found.get(_SOP_CLASS, ""), found.get(_SOP_INSTANCE, ""), min(position, len(beginning))
    )


def _is_bare(beginning: bytes) -> bool:
    """Tell whether this is a Little Endian data set that begins with one of the first elements of group 0008."""
    if len(beginning) < _ELEMENT_HEAD.size:
        return False
    group, element, vr, length = _ELEMENT_HEAD.unpack_from(beginning)
    is_explicit = vr in (b"UL", b"CS", b"UI") and length <= 256
    return bool(group == 8 and element <= 0x18 and (is_explicit or _LONG_LENGTH.unpack_from(beginning, 4)[0] <= 256))


def _guessed_syntax(beginning: bytes) -> str:
    return _EXPLICIT_LITTLE if beginning[4:6] in (b"UL", b"CS", b"UI") else _IMPLICIT_LITTLE


def _no_file() -> RefusedObject:
    return RefusedObject(
        StoreStatus.CANNOT_UNDERSTAND, "It is not a DICOM file with readable file meta information (PS3.10 7.1)."
    )


# --- the head that every kept object gets --------------------------------------------------------------------------

#: Never the sender's preamble: it can hide another file type (CVE-2019-11687).
_PREAMBLE = b"\0" * 128 + b"DICM"


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return everything that stands before the data set."""
    elements = b"".join(
        (
            _ELEMENT_HEAD.pack(2, 1, b"OB", 0) + _LONG_LENGTH.pack(2) + b"\0\1",
            _element(0x02, b"UI", _uid(sop_class_uid)),
            _element(0x03, b"UI", _uid(sop_instance_uid)),
            _element(0x10, b"UI", _uid(transfer_syntax_uid)),
            _element(0x12, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
            _element(0x13, b"SH", _even(IMPLEMENTATION_VERSION_NAME.encode(), b" ")),
        )
    )
    return _PREAMBLE + _element(0x00, b"UL", struct.pack("<L", len(elements))) + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    return _ELEMENT_HEAD.pack(2, number, vr, len(value)) + value


def _uid(uid: str) -> bytes:
    return _even(uid.encode("ascii"), b"\0")


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding * (len(value) % 2)

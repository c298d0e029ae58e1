"""The digest by which a kept file is named, computed from its bytes: are they still those that were written?

Of a received object it is over transfer syntax and data set, not over the head that this node writes before them: equal
objects have equal digests, whichever version of the node took them. Of everything else it is over all bytes.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

#: Suffix of received objects.
RECEIVED = ".dcm"
_PREFIX_AT, _META_AT = 128, 132
#: File Meta Information Group Length (PS3.10 7.1), which this node always writes first.
_GROUP_LENGTH = struct.Struct("<HH2sHL")
_ELEMENT, _LONG = struct.Struct("<HH2sH"), struct.Struct("<L")
_TRANSFER_SYNTAX = 0x0010
_VRS = {b"OB", b"UI", b"SH"}
_LONGEST_META_BYTES = 1 << 12


def file_sha256(path: Path, suffix: str = "") -> str:
    """Return the digest of a file's content, in hexadecimal; `suffix` is that of the key which the content is to have,
    where the file has not its name yet. Raises `OSError`."""
    is_received = (suffix or path.suffix) == RECEIVED
    with path.open("rb") as file:
        encoding, offset = _head(file.read(_META_AT + _LONGEST_META_BYTES)) if is_received else (b"", 0)
        file.seek(offset)
        return hashlib.file_digest(file, lambda: hashlib.sha256(encoding)).hexdigest()


def is_damaged(path: Path, sha256: str) -> bool:
    """Tell whether a file that should hold the content of this digest holds other bytes, or cannot be read."""
    try:
        return file_sha256(path) != sha256
    except OSError:
        return True


def _head(beginning: bytes) -> tuple[bytes, int]:
    """Return the transfer syntax and where the data set begins; nothing and 0 where the head is not one of ours."""
    start = _META_AT + _GROUP_LENGTH.size
    if beginning[_PREFIX_AT:_META_AT] != b"DICM" or len(beginning) < start:
        return b"", 0
    *announced, length = _GROUP_LENGTH.unpack_from(beginning, _META_AT)
    if announced != [2, 0, b"UL", 4] or start + length > len(beginning):
        return b"", 0
    syntax = _transfer_syntax(beginning[start : start + length])
    return (syntax, start + length) if syntax else (b"", 0)


def _transfer_syntax(elements: bytes) -> bytes:
    """Return it; nothing where the elements are not what this node writes, from the first to the last."""
    found, position = b"", 0
    while position + _ELEMENT.size <= len(elements):
        group, number, vr, length = _ELEMENT.unpack_from(elements, position)
        position += _ELEMENT.size
        if group != 2 or vr not in _VRS:
            return b""
        if vr == b"OB":
            length = _LONG.unpack_from(elements.ljust(position + _LONG.size, b"\0"), position)[0]
            position += _LONG.size
        if number == _TRANSFER_SYNTAX and vr == b"UI":
            found = elements[position : position + length].rstrip(b"\0")
        position += length
    return found if position == len(elements) else b""

"""What a file is, told by its first bytes; never by its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain

from dicom_node.ingest.head import TELLING_BYTES, looks_like_dicom

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")


class Kind(StrEnum):
    """The kinds of file that can come in."""

    DICOM = "DICOM"
    ARCHIVE = "ARCHIVE"
    PICTURE = "PICTURE"
    OTHER = "OTHER"


def kind_of(beginning: bytes) -> Kind:
    """Tell what a file is that begins like this."""
    if looks_like_dicom(beginning):
        return Kind.DICOM
    if beginning.startswith(_ARCHIVES):
        return Kind.ARCHIVE
    return Kind.PICTURE if beginning.startswith(_PICTURES) else Kind.OTHER


def told(pieces: Iterable[bytes]) -> tuple[Kind, Iterator[bytes]]:
    """Tell what a file is, and give its pieces from the beginning. Raises whatever `pieces` raise."""
    source = iter(pieces)
    beginning = b""
    while len(beginning) < TELLING_BYTES and (piece := next(source, None)) is not None:
        beginning += piece
    return kind_of(beginning), chain([beginning] if beginning else [], source)

"""What a file is, told by its first bytes; and zip archives of DICOM files: read member by member, bounded before the
first byte is unpacked.

Names in an archive are shown and used for nothing else. A member never yields more than its directory announces, so
that limits on what is announced are limits on what comes out.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path

from dicom_node.config.incoming import UploadSettings
from dicom_node.core.errors import RefusedObject, StoreStatus
from dicom_node.headers.file_meta import TELLING_BYTES, looks_like_dicom
from dicom_node.ingest.session import FileReport, TakesFiles, refused, skipped, take_dicom

_MEGABYTE = 1 << 20
_PIECE_BYTES = 1 << 18
#: Names and other fields of one member in the directory; the longest real ones have a few hundred bytes.
_DIRECTORY_BYTES_PER_MEMBER = 1024
#: An archive this small may hold as much as fits, whatever the ratio: constant pixels shrink a thousandfold.
_HARMLESS_BYTES = 256 << 20
_END_BYTES, _LONGEST_COMMENT = 22, 0xFFFF
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # the others unpack without a bound on memory
_ENCRYPTED = 0x1
#: What the short record of the directory's end says where the long one has the figure (APPNOTE 4.4.1.4).
_MANY, _IN_WIDE_RECORD = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Most members, most bytes they may unpack to, and most times that the archive may grow."""

    members: int
    unzipped_bytes: int
    ratio: int


def archive_limits(settings: UploadSettings) -> ArchiveLimits:
    """Return the limits that are configured for uploads, and hold for every archive."""
    return ArchiveLimits(settings.max_zip_members, settings.max_unzipped_mb * _MEGABYTE, settings.max_zip_ratio)


def take_archive(session: TakesFiles, path: Path, limits: ArchiveLimits) -> Iterator[FileReport]:
    """Store the DICOM files of an archive, and tell of every member. Raises `RefusedObject` for the whole archive."""
    _check_directory(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_announced(members, path.stat().st_size, limits)
            for info in members:
                yield _take(session, archive, info)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
        raise _refused("it is damaged") from error


def _take(session: TakesFiles, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> FileReport:
    try:
        kind, pieces = told(_pieces(archive, info))
    except RefusedObject as refusal:
        return refused(info.filename, str(refusal))
    if kind is Kind.DICOM:
        return take_dicom(session, info.filename, pieces)
    return skipped(info.filename, "It is not a DICOM file; archives in archives and pictures are sent on their own.")


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    if info.flag_bits & _ENCRYPTED:
        raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "It is encrypted. Send it without a password.")
    if info.compress_type not in _METHODS:
        raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "Its compression is not Deflate. Pack it again.")
    try:
        with archive.open(info) as member:
            while piece := member.read(_PIECE_BYTES):
                yield piece
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "It is damaged in the archive. Pack it again.") from error


def _check_directory(path: Path, limits: ArchiveLimits) -> None:
    """Look at the directory's size before it is read as a whole (PKWARE APPNOTE 4.3.16, 4.3.14)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - _END_BYTES - _LONGEST_COMMENT)
        tail = os.pread(file.fileno(), size - start, start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END_BYTES > len(tail):
        raise _refused("it is cut off: its directory is missing")
    # The long record may stand there for us alone: `zipfile` goes by the short one unless a locator leads to the long.
    said = [struct.unpack_from("<HL", tail, at + 10)]
    wide = tail.rfind(b"PK\x06\x06", 0, at)
    if wide >= 0 and wide + 48 <= len(tail):
        is_elsewhere = said[0][1] == _IN_WIDE_RECORD
        said = [*([] if is_elsewhere else said), struct.unpack_from("<QQ", tail, wide + 32)]
    most_bytes = limits.members * _DIRECTORY_BYTES_PER_MEMBER
    if any(size > most_bytes or (entries > limits.members and entries != _MANY) for entries, size in said):
        raise _refused(f"it has more than {limits.members} members. Send it in several archives")


def _check_announced(members: list[zipfile.ZipInfo], archive_bytes: int, limits: ArchiveLimits) -> None:
    unzipped = sum(info.file_size for info in members)
    if len(members) > limits.members:
        raise _refused(f"it has more than {limits.members} members. Send it in several archives")
    if unzipped > limits.unzipped_bytes:
        raise _refused(f"it would unpack to {unzipped} bytes; {limits.unzipped_bytes} are taken")
    if unzipped > max(_HARMLESS_BYTES, limits.ratio * archive_bytes):
        raise _refused(f"it would grow more than {limits.ratio} times. Send the files as they are")


def _refused(what: str) -> RefusedObject:
    return RefusedObject(StoreStatus.CANNOT_UNDERSTAND, f"The archive was refused: {what}.")


# --- what a file is, told by its first bytes; never by its name ----------------------------------------------------

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

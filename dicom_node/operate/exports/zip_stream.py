"""A ZIP archive written as it is read: nothing lies on disk or in memory but the piece under way (APPNOTE 6.3.10)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

PIECE_BYTES = 1 << 18
#: CT shrinks to half at the lowest level, and hardly further at the highest.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file of an archive: its name there, and its content piece by piece, asked for when its turn comes."""

    name: str
    pieces: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class WrittenEntry:
    """What went into an archive: name, size and sha256."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class ZipStream:
    """Makes one archive. `written` are the files that are wholly in it by now."""

    made_at: datetime
    written: list[WrittenEntry] = field(default_factory=list)

    def bytes_of(self, entries: Iterable[ZipEntry]) -> Iterator[bytes]:
        """Yield the archive. An entry whose content breaks off breaks the archive off: it then has no directory, and
        every reader says so."""
        sink = _Sink()
        with ZipFile(sink, "w", ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            for entry in entries:
                yield from self._added(archive, sink, entry)
        yield from sink.taken()

    def _added(self, archive: ZipFile, sink: _Sink, entry: ZipEntry) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        # How long it will be is not known, and 4 GiB are no limit: ZIP64, which every reader of today knows.
        with archive.open(self._head(entry.name), "w", force_zip64=True) as file:
            for piece in entry.pieces():
                digest.update(piece)
                size += len(piece)
                file.write(piece)
                yield from sink.taken()
        self.written.append(WrittenEntry(entry.name, size, digest.hexdigest()))

    def _head(self, name: str) -> ZipInfo:
        head = ZipInfo(name, self.made_at.astimezone(UTC).timetuple()[:6])
        head.compress_type = ZIP_DEFLATED
        head.external_attr = 0o100600 << 16  # of whom it tells is for whoever unpacks it
        return head


class _Sink:
    """Takes what the archive writes, until it is taken from here; it cannot be gone back in."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Nothing was opened here."""

    def taken(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        if pieces:
            yield b"".join(pieces)


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield the content of a file."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece

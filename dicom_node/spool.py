"""Durable bytes: objects named by their content, written so that a crash leaves either the whole object or nothing.

`incoming/<random>.part` → write, fdatasync → rename to `objects/ab/<sha256>.<suffix>` → fsync of both folders. Names
never come from a peer. Contents are found by key (``ab/<sha256>.dcm``), so equal bytes are kept once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import SpoolUnavailable

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Stored:
    """Where bytes ended up: the key that finds them again, their sha256, and how many there are."""

    key: str
    sha256: str
    size_bytes: int


class Spool:
    """A folder of objects on one file system. Safe to share between threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / "incoming"
        self._objects = folder / "objects"
        for path in (self._incoming, self._objects):
            path.mkdir(parents=True, exist_ok=True)

    def put(self, pieces: Sequence[Buffer], suffix: str, digest_of: Sequence[Buffer] | None = None) -> Stored:
        """Write the pieces one behind the other and return only when they are durable.

        `digest_of` names the pieces that identify the content when they are not all of it (a DICOM file's meta
        header says who wrote the file, not what it is). Raises `SpoolUnavailable` when the disk does not take it;
        nothing is left behind then.
        """
        sha256 = hashlib.sha256()
        for piece in pieces if digest_of is None else digest_of:
            sha256.update(piece)
        digest = sha256.hexdigest()
        key = f"{digest[:2]}/{digest}{suffix}"
        target = self._objects / key
        try:
            if not target.exists():
                self._write(pieces, target)
        except OSError as error:
            raise SpoolUnavailable(
                f"An object could not be written below {self.folder}: {error.strerror}. Free space there or repair "
                "the disk; the sender is asked to try again."
            ) from error
        return Stored(key, digest, sum(len(piece) for piece in pieces))

    def _write(self, pieces: Sequence[Buffer], target: Path) -> None:
        part = self._incoming / f"{uuid.uuid4().hex}.part"
        try:
            with part.open("xb", buffering=0) as file:
                for piece in pieces:
                    _write_all(file.fileno(), piece)
                os.fdatasync(file.fileno())
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                _sync_folder(self._objects)
            part.rename(target)
            _sync_folder(target.parent)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def path(self, key: str) -> Path:
        """Return the file that holds the object of this key."""
        return self._objects / key

    def free_bytes(self) -> int:
        """Return how much the file system below the spool still takes."""
        return shutil.disk_usage(self.folder).free

    def remove_parts(self) -> int:
        """Delete what a crash left half-written (never acknowledged); return how many there were."""
        parts = list(self._incoming.glob("*.part"))
        for part in parts:
            part.unlink(missing_ok=True)
        return len(parts)

    def keys(self, suffix: str) -> Iterator[str]:
        """Yield the keys of all objects with this suffix, in no order."""
        for folder in os.scandir(self._objects):
            if folder.is_dir():
                yield from (
                    f"{folder.name}/{file.name}" for file in os.scandir(folder.path) if file.name.endswith(suffix)
                )


def _write_all(descriptor: int, piece: Buffer) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

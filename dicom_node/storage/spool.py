"""Durable bytes: objects named by their content, written so that a crash leaves either the whole object or nothing.

`incoming/<owner>-<random>.part` → write, fdatasync → rename to `objects/ab/<sha256>.<suffix>` → fsync of both
folders. Names never come from a peer. Contents are found by key (``ab/<sha256>.dcm``), so equal bytes are kept once;
a file whose bytes are no longer those of its name is replaced when they come again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.core.errors import SpoolUnavailable
from dicom_node.storage.digest import is_damaged
from dicom_node.storage.durable import sync_folder
from dicom_node.storage.folder import make_private

Buffer = bytes | bytearray | memoryview
_ABANDONED_S = 3600.0
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Where bytes ended up: the key that finds them again, their sha256, and how many there are."""

    key: str
    sha256: str
    size_bytes: int


class Spool:
    """A folder of objects on one file system. Safe to share between threads and processes."""

    #: Holds the name that the store shares with the database which speaks of it.
    NAME_FILE = "store-id"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_private(folder)
        self._incoming = folder / "incoming"
        self._objects = folder / "objects"
        for path in (self._incoming, self._objects):
            make_private(path)

    def known_name(self) -> str | None:
        """Return the store's name; `None` when nobody has named it yet."""
        path = self.folder / self.NAME_FILE
        return path.read_text(encoding="ascii").strip() if path.exists() else None

    def name(self) -> str:
        """Return the store's name, made and durable by now; processes that ask at once agree on one."""
        path = self.folder / self.NAME_FILE
        if not path.exists():
            draft = self._incoming / f"name-{uuid.uuid4().hex}.part"
            draft.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
            draft.chmod(0o600)
            with suppress(FileExistsError):
                path.hardlink_to(draft)
            draft.unlink()
            self.sync()
        return path.read_text(encoding="ascii").strip()

    def put(self, pieces: Sequence[Buffer], suffix: str, digest_of: Sequence[Buffer] | None = None) -> StoredObject:
        """Write the pieces one behind the other and return only when they are durable.

        `digest_of` names the pieces that identify the content when they are not all of it (a DICOM file's meta
        header says who wrote the file, not what it is). Raises `SpoolUnavailable` when the disk does not take it;
        nothing is left behind then.
        """
        sha256 = hashlib.sha256()
        for piece in pieces if digest_of is None else digest_of:
            sha256.update(piece)
        digest = sha256.hexdigest()
        key = object_key(digest, suffix)
        if self.is_here(key):
            return StoredObject(key, digest, sum(len(piece) for piece in pieces))
        part = self.new_part("put")
        for piece in pieces:
            part.write(piece)
        return part.keep(digest, suffix)

    def new_part(self, owner: str) -> SpoolPart:
        """Begin an object whose size is not known yet; `owner` says whose leftovers it would be after a crash."""
        return SpoolPart(self, self._incoming / f"{owner}-{uuid.uuid4().hex}.part")

    def sync(self) -> None:
        """Make everything written to this file system durable: one call for many files, names included."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _LIBC.syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(descriptor)

    def move(self, part: Path, key: str) -> None:
        """Move a file of this file system to where objects live; the new name is durable after `sync`."""
        target = self.path(key)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        part.rename(target)

    def move_durably(self, part: Path, key: str) -> None:
        """Move a durable file of this file system to where objects live, durably. Raises `OSError`."""
        target = self.path(key)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True, mode=0o700)
            sync_folder(self._objects)
        part.rename(target)
        sync_folder(target.parent)

    def confirm(self, key: str) -> None:
        """Make the name of an object durable that was there already: whoever wrote it may not have come so far.

        Raises `SpoolUnavailable`.
        """
        try:
            sync_folder(self.path(key).parent)
            sync_folder(self._objects)
        except OSError as error:
            raise _unavailable(self.folder, error) from error

    def is_here(self, key: str) -> bool:
        """Tell whether the object is there, whole and durably; if so, whoever deletes leaves it for a while (`remove`).

        Raises `SpoolUnavailable`.
        """
        if not self.is_whole(key):
            return False
        try:
            os.utime(self.path(key))
        except FileNotFoundError:
            return False
        self.confirm(key)
        return True

    @property
    def objects(self) -> Path:
        """The folder of the objects, below which their keys are."""
        return self._objects

    def path(self, key: str) -> Path:
        """Return the file that holds the object of this key."""
        return self._objects / key

    def key_of(self, path: Path) -> str:
        """Return the key of the object that a file of this spool holds."""
        return str(path.relative_to(self._objects))

    def is_whole(self, key: str) -> bool:
        """Tell whether the object's file is there and holds the bytes that its name says: it is read as a whole."""
        path = self.path(key)
        return path.exists() and not is_damaged(path, path.stem)

    def remove(self, key: str, untouched_s: float) -> bool:
        """Delete an object's file, durably after `sync`; `False`: somebody has stored the same bytes within so many
        seconds, and the file stays, for it is theirs to enter. Raises `OSError`.

        It is put aside first: whoever stores the same bytes from then on does not find them, and writes them.
        """
        path = self.path(key)
        aside = self._incoming / f"removed-{path.name}.part"
        with suppress(FileNotFoundError):
            path.rename(aside)
        try:
            if time.time() - aside.stat().st_mtime < untouched_s:
                aside.rename(path)
                return False
        except FileNotFoundError:  # it went before
            return True
        aside.unlink(missing_ok=True)
        return True

    def free_bytes(self) -> int:
        """Return how much the file system below the spool still takes."""
        return shutil.disk_usage(self.folder).free

    def remove_parts(self, owner: str = "") -> int:
        """Delete what a crash left half-written (never acknowledged), of one owner or all; return how many."""
        parts = list(self._incoming.glob(f"{owner}-*.part" if owner else "*.part"))
        for part in parts:
            part.unlink(missing_ok=True)
        return len(parts)

    def remove_abandoned_parts(self) -> int:
        """Delete parts that nobody has written to for so long that whoever began them is gone; return how many."""
        before, count = time.time() - _ABANDONED_S, 0
        for part in self._incoming.glob("*.part"):
            with suppress(FileNotFoundError):  # kept or discarded by its owner at this moment
                if part.stat().st_mtime < before:
                    part.unlink()
                    count += 1
        return count

    def keys(self, suffix: str) -> Iterator[str]:
        """Yield the keys of all objects with this suffix, in no order."""
        for folder in os.scandir(self._objects):
            if folder.is_dir():
                yield from (
                    f"{folder.name}/{file.name}" for file in os.scandir(folder.path) if file.name.endswith(suffix)
                )


class SpoolPart:
    """An object that is being written; it is nothing until it is kept. Every failure leaves no trace."""

    def __init__(self, spool: Spool, path: Path) -> None:
        """Raises `SpoolUnavailable`."""
        self._spool = spool
        self.path = path
        self.size_bytes = 0
        with self._told():
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, piece: Buffer) -> None:
        """Append. Raises `SpoolUnavailable` when the disk does not take it; the part is gone then."""
        with self._told():
            view = memoryview(piece)
            self.size_bytes += len(view)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def fill(self, copy: Callable[[int], None]) -> None:
        """Let `copy` write into the open file, whose descriptor it gets. Raises `SpoolUnavailable` as `write` does."""
        with self._told():
            copy(self._descriptor)
            self.size_bytes = os.fstat(self._descriptor).st_size

    def finish(self) -> Path:
        """Close it without making it durable or giving it a name; that is left to the caller."""
        self._close()
        return self.path

    def keep(self, sha256: str, suffix: str) -> StoredObject:
        """Make it an object, named by the digest of its content; it is durable when this returns.

        Content that is there already is kept once, unless its file was damaged since. Raises `SpoolUnavailable`; the
        part is gone then.
        """
        key = object_key(sha256, suffix)
        with self._told():
            if self._spool.is_here(key):
                self.discard()
            else:
                os.fdatasync(self._descriptor)
                self._close()
                self._spool.move_durably(self.path, key)
        return StoredObject(key, sha256, self.size_bytes)

    def discard(self) -> None:
        """Delete it; nothing happens when it was kept or discarded before."""
        if self._descriptor >= 0:
            self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.size_bytes or self.path.exists():
                self.discard()
            raise _unavailable(self._spool.folder, error) from error


def _unavailable(folder: Path, error: OSError) -> SpoolUnavailable:
    return SpoolUnavailable(
        f"An object could not be written below {folder}: {error.strerror}. Free space there or repair the disk; the "
        "sender is asked to try again."
    )


def object_key(sha256: str, suffix: str) -> str:
    """Return the key under which content of this digest is kept."""
    return f"{sha256[:2]}/{sha256}{suffix}"

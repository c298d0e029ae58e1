"""A folder of backups: snapshots by their time, and below `objects` what they share, each named by its content.

`FOLDER/snapshots/<UTC time>/` is one snapshot, `FOLDER/objects/ab/<sha256>.dcm` one object of any of them. A snapshot
is made under a name that begins with a dot and renamed when its manifest is durable.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.core.errors import BackupFault, NotFound
from dicom_node.operate.backup.manifest import MANIFEST, OBJECTS, KeptFile, Manifest, read_manifest, write_manifest
from dicom_node.storage.digest import is_damaged
from dicom_node.storage.durable import sync_folder
from dicom_node.storage.folder import make_private
from dicom_node.storage.owners import try_lock
from dicom_node.storage.spool import Spool, object_key

_PART = ".part"
#: Suffix of files of a node that snapshots share; models are large and change seldom.
SHARED = ".file"
#: Files from this size on are shared.
_SHARED_FROM_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


class BackupFolder:
    """Where backups of one node lie."""

    def __init__(self, folder: Path) -> None:
        """Raises `SettingsError` where it cannot be made."""
        self.folder = folder.resolve()
        self.snapshots = self.folder / "snapshots"
        make_private(self.folder)
        make_private(self.snapshots)
        self.pool = Spool(self.folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from writing here meanwhile. Raises `BackupFault`."""
        lock = try_lock(self.folder / "lock", os.O_CREAT)
        if lock is None:
            raise BackupFault(f"Another backup into {self.folder} is being made. Wait for its end.")
        try:
            yield
        finally:
            os.close(lock)

    def names(self) -> list[str]:
        """Return the snapshots, oldest first."""
        return sorted(path.parent.name for path in self.snapshots.glob(f"[!.]*/{MANIFEST}"))

    def read(self, name: str = "") -> tuple[Path, Manifest]:
        """Return a snapshot, the latest if none is named. Raises `NotFound` and `BackupFault`."""
        known = self.names()
        if not known or (name and name not in known):
            there_are = f"it has {', '.join(known)}" if known else "it has none that was finished"
            raise NotFound(f"{self.folder} has no snapshot {name or 'at all'}; {there_are}.")
        path = self.snapshots / (name or known[-1])
        return path, read_manifest(path)

    # --- writing ---

    def begin(self, at: datetime) -> Path:
        """Make the folder of a new snapshot; what an earlier backup left unfinished is removed."""
        for left in self.snapshots.glob(f".*{_PART}"):
            shutil.rmtree(left)
        self.pool.remove_parts()
        stem = f"{at.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}"
        taken = set(self.names())
        name = next(one for one in (stem, *(f"{stem}-{n}" for n in range(2, 1000))) if one not in taken)
        part = self.snapshots / f".{name}{_PART}"
        part.mkdir(mode=0o700)
        return part

    @staticmethod
    def name_of(part: Path) -> str:
        """Return what the snapshot will be called."""
        return part.name.removeprefix(".").removesuffix(_PART)

    def finish(self, part: Path, manifest: Manifest) -> Path:
        """Make a snapshot durable and let it be one."""
        write_manifest(part, manifest)
        self.pool.sync()
        kept = self.snapshots / manifest.name
        part.rename(kept)
        sync_folder(self.snapshots)
        return kept

    def keep_file(self, source: Path, part: Path, path: str, target: str) -> KeptFile:
        """Copy a file into a snapshot, or where it is large to what all share. Raises `OSError`."""
        copy = part / path
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sha256, size = copy_file(source, copy)
        if size < _SHARED_FROM_BYTES:
            return KeptFile(path=path, target=target, sha256=sha256, size_bytes=size)
        key = object_key(sha256, SHARED)
        self.pool.move(copy, key)
        return KeptFile(shared=key, target=target, sha256=sha256, size_bytes=size)

    # --- reading ---

    def source_of(self, snapshot: Path, file: KeptFile) -> Path:
        """Return where a file of a snapshot lies."""
        return self.pool.path(file.shared) if file.shared else snapshot / file.path

    def faults_of(self, snapshot: Path, manifest: Manifest) -> Iterator[str]:
        """Read everything of a snapshot again and yield what is damaged or gone, by name."""
        for file in manifest.all_files:
            path = self.source_of(snapshot, file)
            if is_other(path, file.sha256):
                yield f"{path} {'holds other bytes than were written' if path.exists() else 'is gone'}"
        for key, size in objects_in(snapshot):
            path = self.pool.path(key)
            if not path.exists() or path.stat().st_size != size or is_damaged(path, path.stem):
                yield f"{path} {'holds other bytes than were written' if path.exists() else 'is gone'}"

    # --- taking away ---

    def prune(self, keep: int) -> tuple[list[str], int]:
        """Remove all but the latest snapshots, and the objects that no snapshot names; return both."""
        old = self.names()[:-keep]
        for name in old:
            # Without its manifest it is no snapshot, however far the removal comes.
            (self.snapshots / name / MANIFEST).unlink()
            sync_folder(self.snapshots / name)
            shutil.rmtree(self.snapshots / name)
        return old, self._remove_unnamed(self._named())

    def _named(self) -> Collection[str]:
        named = set()
        for name in self.names():
            snapshot, manifest = self.read(name)
            named |= {key for key, _ in objects_in(snapshot)} | {one.shared for one in manifest.files if one.shared}
        return named

    def _remove_unnamed(self, named: Collection[str]) -> int:
        found = [key for key in self.pool.keys("") if key not in named]
        for key in found:
            self.pool.path(key).unlink(missing_ok=True)
        for folder in self.pool.objects.iterdir():
            with suppress(OSError):  # others are in it
                folder.rmdir()
        return len(found)


def objects_in(snapshot: Path) -> Iterator[tuple[str, int]]:
    """Yield key and size of every object of a snapshot."""
    with (snapshot / OBJECTS).open(encoding="ascii") as lines:
        for line in lines:
            key, _, size = line.rstrip("\n").partition(" ")
            yield key, int(size)


def copy_file(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file for its owner alone; return digest and size of what was read. Raises `OSError`."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as copy, source.open("rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, opened with its mode
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            copy.write(piece)
    return digest.hexdigest(), size


def sha256_of(path: Path) -> str:
    """Return the digest of all bytes of a file, in hexadecimal. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_other(path: Path, sha256: str) -> bool:
    """Tell whether a file is gone, or holds other bytes than those of this digest."""
    try:
        return sha256_of(path) != sha256
    except OSError:
        return True

"""What a snapshot says of itself. It is written last: a folder without it is no snapshot."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from dicom_node.core.errors import BackupFault

#: Of this layout; a program that finds a higher number does not know what else there is to put back.
FORMAT = 1
#: Names of files in a snapshot.
MANIFEST, MANIFEST_DIGEST, OBJECTS = "manifest.json", "manifest.sha256", "objects.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """One file of a snapshot.

    `path` is where it lies in the snapshot; `shared`, instead, under which key among the objects of the folder.
    `target` is where it goes, below the data folder of the restored node.
    """

    path: str = ""
    shared: str = ""
    target: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path or self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTable:
    """One table of a PostgreSQL database, as COPY writes it, in a compressed file."""

    name: str
    columns: tuple[str, ...]
    rows: int
    file: KeptFile


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDatabase:
    """The database as it was at one moment: SQLite's file, or the tables of PostgreSQL in the order to put back."""

    kind: Literal["sqlite", "postgresql"]
    schema: str
    file: KeptFile | None = None
    tables: tuple[KeptTable, ...] = ()

    @property
    def files(self) -> tuple[KeptFile, ...]:
        """All of it."""
        return (*((self.file,) if self.file else ()), *(one.file for one in self.tables))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One snapshot. Times are ISO 8601 in UTC.

    `counts`: rows by table. `objects`: the list of kept objects, a key and a size a line. `gone`: keys of objects that
    the node deleted while the snapshot was made. `faults`: what is not in it and should be. `named`: files of the
    snapshot that the settings name outside the data folder, and where they lay. `destinations`: names of where results
    go. `not_in_it`: what belongs to the node and is not in the snapshot, in sentences.
    """

    format: int = FORMAT
    name: str
    began_at: str
    ended_at: str
    version: str
    database: KeptDatabase
    counts: dict[str, int]
    objects: KeptFile
    object_count: int
    object_bytes: int
    files: tuple[KeptFile, ...]
    named: dict[str, str]
    destinations: tuple[str, ...]
    gone: tuple[str, ...]
    faults: tuple[str, ...]
    not_in_it: tuple[str, ...]

    @property
    def all_files(self) -> tuple[KeptFile, ...]:
        """Everything but the objects of studies and results."""
        return (*self.database.files, self.objects, *self.files)


_MANIFESTS = TypeAdapter(Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it into the folder of its snapshot, its digest before it, as `sha256sum -c` reads it."""
    content = _MANIFESTS.dump_json(manifest, indent=2) + b"\n"
    for name, said in ((MANIFEST_DIGEST, _digest_line(content)), (MANIFEST, content)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(said)


def _digest_line(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a snapshot. Raises `BackupFault` where it is not as it was written, or none that this
    version knows."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        if (folder / MANIFEST_DIGEST).read_bytes() != _digest_line(content):
            raise BackupFault(
                f"{path} or {MANIFEST_DIGEST} beside it is not as it was written. Choose another snapshot."
            )
        found = _MANIFESTS.validate_json(content)
    except OSError as error:
        raise BackupFault(f"{path} cannot be read: {error.strerror}. Choose another snapshot.") from error
    except ValidationError as error:
        raise BackupFault(
            f"{path} is damaged, or of a version that this one does not know. Choose another snapshot, or install the "
            "version that made it."
        ) from error
    if found.format > FORMAT:
        raise BackupFault(f"{path} has layout {found.format}; this version knows {FORMAT}. Install a newer one.")
    return found

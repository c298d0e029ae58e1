"""Takes a backup of a node that goes on meanwhile.

The order is the point. Objects that the index names now are copied first, which may take hours and needs no moment of
its own. Then come the anchor of the audit trail and the journals, then the database as it is at one moment, then what
the database names and is not in the folder yet: whatever was acknowledged before is in a journal or in the database,
and an object never changes. The manifest is last.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import dicom_node
from dicom_node.config.settings import Settings
from dicom_node.core.errors import BackupFault
from dicom_node.index.database import Database
from dicom_node.operate.backup.folder import BackupFolder, sha256_of
from dicom_node.operate.backup.journals import KeptSlots, copy_journals
from dicom_node.operate.backup.manifest import OBJECTS, KeptDatabase, KeptFile, Manifest
from dicom_node.operate.backup.objects import CopiedObjects, ObjectCopies, is_named, named_now
from dicom_node.operate.backup.outcome import BackupOutcome, note_made
from dicom_node.operate.backup.postgresql import copy_postgresql
from dicom_node.operate.backup.site_files import SiteFiles, site_files
from dicom_node.operate.backup.sqlite import copy_sqlite
from dicom_node.storage.spool import Spool

_KEYS = "keys"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBackup:
    """A backup that was made, and how much of it was copied now."""

    path: Path
    manifest: Manifest
    copied: int
    copied_bytes: int
    removed_snapshots: tuple[str, ...]
    removed_objects: int


class Backup:
    """Takes backups of one node into one folder."""

    def __init__(self, settings: Settings, config: Path | None, folder: Path) -> None:
        """`config` is the file that the settings were read from."""
        self._settings = settings
        self._config = config
        self._data_dir = settings.node.data_dir.resolve()
        self._place = folder.resolve()

    @cached_property
    def _folder(self) -> BackupFolder:
        """Raises `BackupFault`: one that is missing is not made, for its disk may not be mounted."""
        if self._place.is_relative_to(self._data_dir) or self._data_dir.is_relative_to(self._place):
            raise BackupFault(f"{self._place} lies in the data folder, or holds it. Name one on another disk.")
        if not self._place.is_dir():
            raise BackupFault(f"There is no folder {self._place}. Mount its disk; or make it, for the first backup.")
        return BackupFolder(self._place)

    def make(self, keep: int = 0, *, verify: bool = False) -> MadeBackup:
        """Make one, and keep the latest `keep` of all, 0: every one.

        `verify`: read everything again that is in it. Raises `NodeError`.
        """
        try:
            with self._folder.held():
                return self._made(keep, verify=verify)
        except OSError as error:
            why = f"{error.filename or self._place}: {error.strerror}. Make room, or correct its rights."
            raise BackupFault(f"The backup failed. {why}") from error

    def _made(self, keep: int, *, verify: bool) -> MadeBackup:
        began_at = datetime.now(UTC)
        part = self._folder.begin(began_at)
        with closing(Database(self._settings.database_url)) as database:
            database.check_schema()
            copies = self._copies(database)
            early = copies.copy(named_now(database), lambda _key, _size: None)
            manifest, late = self._snapshot(part, began_at, copies)
        if verify:
            self._verify(part, manifest)
        path = self._folder.finish(part, manifest)
        copied, copied_bytes = early.copied + late.copied, early.copied_bytes + late.copied_bytes
        self._note(manifest, copied_bytes, began_at)
        removed, unnamed = self._folder.prune(keep) if keep else ([], 0)
        return MadeBackup(
            path=path, manifest=manifest, copied=copied, copied_bytes=copied_bytes, removed_snapshots=tuple(removed),
            removed_objects=unnamed,
        )  # fmt: skip

    def _copies(self, database: Database) -> ObjectCopies:
        return ObjectCopies(Spool(self._data_dir / "spool"), self._folder.pool, lambda key: is_named(database, key))

    def _snapshot(self, part: Path, began_at: datetime, copies: ObjectCopies) -> tuple[Manifest, CopiedObjects]:
        """Copy what must be of one moment, in the order that makes it so."""
        site = site_files(self._settings, self._config)
        files = list(self._kept(site, part, is_early=True))
        slots = copy_journals(self._settings, part)
        kept, counts = self._database(part)
        files += [*slots.files, *self._kept(site, part, is_early=False)]
        listed, objects = self._objects(part, slots, copies)
        return self._manifest(part, began_at, site, (kept, counts), (tuple(files), listed, objects)), objects

    def _database(self, part: Path) -> tuple[KeptDatabase, dict[str, int]]:
        url = self._settings.database_url
        copy = copy_sqlite if url.startswith("sqlite") else copy_postgresql
        return copy(url, part, part / _KEYS)

    def _kept(self, site: SiteFiles, part: Path, *, is_early: bool) -> Iterator[KeptFile]:
        for source, target in (site.early if is_early else site.late).items():
            try:
                yield self._folder.keep_file(source, part, f"files/{target}", target)
            except FileNotFoundError:  # removed since it was found
                continue

    def _objects(self, part: Path, slots: KeptSlots, copies: ObjectCopies) -> tuple[KeptFile, CopiedObjects]:
        """Copy what database and journals name and is not there yet, and list it."""
        path = part / OBJECTS
        path.touch(mode=0o600)
        with (part / _KEYS).open(encoding="ascii") as keys, path.open("w", encoding="ascii") as listed:
            named = dict.fromkeys(slots.keys)
            from_index = (key for line in keys if (key := line.rstrip("\n")) not in named)
            found = copies.copy((*named, *from_index), lambda key, size: listed.write(f"{key} {size}\n"))
        (part / _KEYS).unlink()
        return KeptFile(path=OBJECTS, target="", sha256=sha256_of(path), size_bytes=path.stat().st_size), found

    def _manifest(
        self, part: Path, began_at: datetime, site: SiteFiles, kept: tuple[KeptDatabase, dict[str, int]],
        copied: tuple[tuple[KeptFile, ...], KeptFile, CopiedObjects],
    ) -> Manifest:  # fmt: skip
        files, listed, objects = copied
        return Manifest(
            name=self._folder.name_of(part), began_at=began_at.isoformat(), ended_at=datetime.now(UTC).isoformat(),
            version=dicom_node.__version__, database=kept[0], counts=kept[1], objects=listed,
            object_count=objects.count, object_bytes=objects.total_bytes, files=files, named=dict(site.named),
            destinations=tuple(one.name for one in self._settings.destination), gone=tuple(objects.gone),
            faults=tuple(objects.faults), not_in_it=site.not_in_it,
        )  # fmt: skip

    def _verify(self, part: Path, manifest: Manifest) -> None:
        """Read everything again. Raises `BackupFault` that names what is damaged; the snapshot is none then."""
        self._folder.pool.sync()
        found = list(self._folder.faults_of(part, manifest))
        if found:
            shutil.rmtree(part)
            raise BackupFault(
                f"{_first(found)} Remove what is named below {self._place}: the next backup copies it again."
            )

    def _note(self, manifest: Manifest, copied_bytes: int, began_at: datetime) -> None:
        """Keep that it was made, for doctor, API and page."""
        outcome = BackupOutcome(
            made_at=began_at, folder=str(self._place), snapshot=manifest.name,
            took_s=round((datetime.now(UTC) - began_at).total_seconds(), 1), objects=manifest.object_count,
            copied_bytes=copied_bytes, faults=len(manifest.faults),
        )  # fmt: skip
        note_made(self._data_dir, outcome)
        told = {"folder": outcome.folder, "snapshot": outcome.snapshot, "objects": outcome.objects}
        _log.info("backup made", extra=told | {"took_s": outcome.took_s, "copied_bytes": copied_bytes})


def _first(faults: list[str]) -> str:
    more = f" And {len(faults) - 1} more." if len(faults) > 1 else ""
    return f"{faults[0]}.{more}"

"""Puts a snapshot back, into an empty data folder and an empty database.

What was delivered after the snapshot is still owed in it. Where a destination can tell what it has, it is asked before
anything is sent again (`deliver.dispatch.already_there`); where it cannot, a person must look. So every destination is
suspended, and the node that starts sends nothing before somebody resumes them.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import DeliveryState
from dicom_node.core.errors import BackupFault
from dicom_node.core.principal import Principal
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.outbox.destinations import suspend
from dicom_node.index.tables import deliveries
from dicom_node.operate.backup.folder import BackupFolder, copy_file, is_other, objects_in
from dicom_node.operate.backup.journals import is_slot, restore_slot
from dicom_node.operate.backup.manifest import OBJECTS, Manifest
from dicom_node.operate.backup.postgresql import restore_postgresql
from dicom_node.operate.backup.restored import Restoration, write_restoration
from dicom_node.operate.backup.sqlite import restore_sqlite
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail, audited_act
from dicom_node.storage.digest import is_damaged
from dicom_node.storage.durable import sync_folder
from dicom_node.storage.folder import make_private
from dicom_node.storage.spool import Spool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was put back. `suspended`: the destinations that get nothing until somebody resumes them. `elsewhere`: files
    that lie below the data folder now and lay elsewhere before, with the place."""

    snapshot: str
    data_dir: Path
    objects: int
    suspended: tuple[str, ...]
    elsewhere: dict[str, str]
    not_in_it: tuple[str, ...]
    gone: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestorePlace:
    """Where to put a node: its data folder, and the URL of an empty database; "" is SQLite in the data folder."""

    data_dir: Path
    database_url: str = ""

    @property
    def url(self) -> str:
        """The URL of its database."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'node.sqlite'}"


def restore(folder: Path, snapshot: str, place: RestorePlace, actor: Principal) -> Restored:
    """Put a snapshot back, the latest if none is named. Raises `NotFound`, `BackupFault` and `SettingsError`.

    Every digest is compared. What was not finished is no data folder of a node: its name ends in ``.restoring``.
    """
    if not folder.is_dir():
        raise BackupFault(f"There is no folder {folder}.")
    kept = BackupFolder(folder)
    path, manifest = kept.read(snapshot)
    _require_possible(manifest, place)
    draft = place.data_dir.resolve().with_name(f"{place.data_dir.resolve().name}.restoring")
    shutil.rmtree(draft, ignore_errors=True)
    make_private(draft)
    try:
        _put_files(kept, path, manifest, draft)
        if is_other(path / OBJECTS, manifest.objects.sha256):
            raise _damaged(path / OBJECTS)
        _put_objects(kept, path, draft)
        _put_database(path, manifest, place, draft)
        suspended = _hold(manifest, place, draft, actor)
        write_restoration(draft, Restoration(manifest.name, _time(manifest.began_at), datetime.now(UTC)))
        _finish(draft, place.data_dir.resolve())
    except OSError as error:
        raise BackupFault(f"{error.filename or draft}: {error.strerror}. Make room, or correct its rights.") from error
    return Restored(
        snapshot=manifest.name, data_dir=place.data_dir, objects=manifest.object_count, suspended=suspended,
        elsewhere=dict(manifest.named), not_in_it=manifest.not_in_it, gone=manifest.gone, faults=manifest.faults,
    )  # fmt: skip


def _require_possible(manifest: Manifest, place: RestorePlace) -> None:
    if manifest.database.schema > SCHEMA_HEAD:
        raise BackupFault(
            f"The snapshot has schema {manifest.database.schema}, newer than this program's {SCHEMA_HEAD}. Install "
            f"version {manifest.version} of the node, or a newer one."
        )
    if place.data_dir.exists() and (not place.data_dir.is_dir() or any(place.data_dir.iterdir())):
        raise BackupFault(f"{place.data_dir} is not empty. Name a new or an empty folder.")
    kind = place.url.partition(":")[0].partition("+")[0]
    if kind != manifest.database.kind:
        wanted = "an empty database of PostgreSQL" if manifest.database.kind == "postgresql" else "none, or sqlite:///…"
        raise BackupFault(f"The snapshot holds a database of {manifest.database.kind}. Name by --database {wanted}.")


def _put_files(kept: BackupFolder, snapshot: Path, manifest: Manifest, draft: Path) -> None:
    for file in manifest.files:
        source, target = kept.source_of(snapshot, file), draft / file.target
        if not target.resolve().is_relative_to(draft):
            raise BackupFault(f"{snapshot} names {file.target}, which does not lie in a data folder. It was changed.")
        if is_other(source, file.sha256):
            raise _damaged(source)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_slot(target):
            restore_slot(source, target)
        else:
            copy_file(source, target)


def _put_objects(kept: BackupFolder, snapshot: Path, draft: Path) -> None:
    spool = Spool(draft / "spool")
    for key, size in objects_in(snapshot):
        source, target = kept.pool.path(key), spool.path(key)
        if not source.exists() or source.stat().st_size != size:
            raise _damaged(source)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        copy_file(source, target)
        if is_damaged(target, target.stem):
            raise _damaged(source)
    spool.sync()


def _put_database(snapshot: Path, manifest: Manifest, place: RestorePlace, draft: Path) -> None:
    for file in manifest.database.files:
        if is_other(snapshot / file.path, file.sha256):
            raise _damaged(snapshot / file.path)
    if manifest.database.kind == "postgresql":
        restore_postgresql(snapshot, manifest.database, place.url)
    else:
        assert manifest.database.file is not None
        restore_sqlite(snapshot, manifest.database.file, _url_in(place, draft))


def _url_in(place: RestorePlace, draft: Path) -> str:
    """Return the URL while the data folder has not its name yet."""
    return place.database_url or f"sqlite:///{draft / 'node.sqlite'}"


def _hold(manifest: Manifest, place: RestorePlace, draft: Path, actor: Principal) -> tuple[str, ...]:
    """Bring the schema up to this program's, and suspend every destination."""
    reason = (
        f"The node was restored from the backup of {manifest.began_at[:16].replace('T', ' ')} UTC. What was delivered "
        "after it is owed again: see docs/how-to/back-up-and-restore.md, then resume"
    )
    now = datetime.now(UTC)
    with closing(Database(_url_in(place, draft))) as database:
        database.migrate()
        with database.write() as connection:
            pending = deliveries.c.state == DeliveryState.PENDING
            owed = connection.execute(select(deliveries.c.destination).where(pending).distinct()).scalars()
            names = sorted({*manifest.destinations, *owed})
            for name in names:
                suspend(connection, name, reason, now, actor)
        _write_down(database, manifest, draft, actor)
    return tuple(names)


def _write_down(database: Database, manifest: Manifest, draft: Path, actor: Principal) -> None:
    """Say in the audit trail that the backup was put back, where its key was in the data folder."""
    keys = AuditKeys(draft / "audit" / "key")
    if keys.path.exists():
        detail = {"snapshot": manifest.name, "reason": "a backup was put back"}
        event = AuditedEvent(act=AuditedAct.AUDIT_ACCEPTED, actor=actor, detail=detail)
        spool = AuditSpool(draft / "audit" / "waiting")
        with audited_act(AuditTrail(database, keys, Anchor(draft / "audit" / "anchor"), spool), event):
            pass


def _finish(draft: Path, data_dir: Path) -> None:
    if data_dir.exists():
        data_dir.rmdir()
    draft.rename(data_dir)
    sync_folder(data_dir.parent)


def _damaged(path: Path) -> BackupFault:
    what = "holds other bytes than were written" if path.exists() else "is gone"
    return BackupFault(
        f"{path} {what}. Choose another snapshot; what else is wrong with this one tells "
        "dicom-node backup FOLDER --check SNAPSHOT."
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

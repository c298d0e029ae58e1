"""The kept objects: each is copied once, whatever number of snapshots names it, and read as a whole when it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import exists, literal, or_, select

from dicom_node.core.entities import ObjectState
from dicom_node.core.errors import BackupFault, SpoolUnavailable
from dicom_node.index.database import Database
from dicom_node.index.tables import artifacts, instances, results, studies
from dicom_node.storage.digest import file_sha256
from dicom_node.storage.journal import LOST_BYTES
from dicom_node.storage.spool import Spool

_PAGE = 1000
_MOST_NAMED = 1000
_IS_KEPT = artifacts.c.state == ObjectState.STORED


@dataclass(slots=True)
class CopiedObjects:
    """What became of objects. `copied`: those that were not in the folder before, and their bytes. `gone`: keys of
    those that the node has deleted; `faults`: of those that it should have and has not whole."""

    copied: int = 0
    copied_bytes: int = 0
    count: int = 0
    total_bytes: int = 0
    gone: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def named_now(database: Database) -> Iterator[str]:
    """Yield the keys of everything that the index names at this moment, page by page: no transaction stays open while
    somebody copies. Raises `IndexUnavailable`."""
    last_id = 0
    while True:
        query = select(instances.c.id, instances.c.object_key).where(instances.c.id > last_id)
        with database.read() as connection:
            images = connection.execute(query.order_by(instances.c.id).limit(_PAGE)).all()
        yield from (row.object_key for row in images)
        if not images:
            break
        last_id = images[-1].id
    last_uid = ""
    while True:
        made = select(artifacts.c.uid, artifacts.c.object_key, artifacts.c.preview_key).where(_IS_KEPT)
        with database.read() as connection:
            rows = connection.execute(made.where(artifacts.c.uid > last_uid).order_by(artifacts.c.uid).limit(_PAGE))
            results = rows.all()
        yield from (key for row in results for key in (row.object_key, row.preview_key) if key)
        if not results:
            break
        last_uid = results[-1].uid


def is_named(database: Database, key: str) -> bool:
    """Tell whether the index still names an object: what retention has deleted, or is deleting, it does not."""
    in_deletion = select(studies.c.study_instance_uid).where(studies.c.deleting != "")
    of_a_deletion = exists().where(
        results.c.job_key == artifacts.c.job_key, results.c.study_instance_uid.in_(in_deletion)
    )
    query = select(
        or_(
            exists().where(instances.c.object_key == key, instances.c.study_instance_uid.not_in(in_deletion)),
            exists().where(
                or_(artifacts.c.object_key == key, artifacts.c.preview_key == key), _IS_KEPT, ~of_a_deletion
            ),
        )
    ).select_from(select(literal(1)).subquery())
    with database.read() as connection:
        return bool(connection.execute(query).scalar())


class ObjectCopies:
    """Copies objects of a node into the folder that snapshots share."""

    def __init__(self, spool: Spool, pool: Spool, is_still_named: Callable[[str], bool]) -> None:
        self._spool = spool
        self._pool = pool
        self._is_still_named = is_still_named

    def copy(self, keys: Iterable[str], kept: Callable[[str, int], object]) -> CopiedObjects:
        """Copy what is not there; `kept` is told key and size of each that is there then.

        Raises `BackupFault` where the folder takes nothing.
        """
        found = CopiedObjects()
        for key in keys:
            size = self._size_in_pool(key)
            if size is None:
                size = self._copied(key, found)
            if size is not None:
                found.count += 1
                found.total_bytes += size
                kept(key, size)
        return found

    def _size_in_pool(self, key: str) -> int | None:
        """Return the size of an object that was copied before; one that a power cut has left short is copied again."""
        try:
            size = self._pool.path(key).stat().st_size
        except FileNotFoundError:
            return None
        try:
            return size if self._spool.path(key).stat().st_size == size else None
        except FileNotFoundError:
            return size if file_sha256(self._pool.path(key)) == Path(key).stem else None

    def _copied(self, key: str, found: CopiedObjects) -> int | None:
        part = self._pool.new_part("backup")
        source = self._spool.path(key)
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            part.discard()
            self._missing(key, found, error.strerror or "it cannot be opened")
            return None
        try:
            part.fill(lambda target: _copy_all(descriptor, target))
        except SpoolUnavailable as error:
            self._unreadable(key, found, error)
            return None
        finally:
            os.close(descriptor)
        path = part.finish()
        if file_sha256(path, source.suffix) != source.stem:
            path.unlink()
            self._missing(key, found, "it holds other bytes than came or were made")
            return None
        size = path.stat().st_size
        self._pool.move(path, key)
        found.copied += 1
        found.copied_bytes += size
        return size

    def _unreadable(self, key: str, found: CopiedObjects, error: SpoolUnavailable) -> None:
        """Note an object that the disk of the node does not give. Raises `BackupFault` where the folder is at fault."""
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in LOST_BYTES:
            self._missing(key, found, cause.strerror or "it cannot be read")
            return
        raise BackupFault(
            f"Nothing can be written below {self._pool.folder}: {getattr(cause, 'strerror', error)}. Make room there."
        ) from error

    def _missing(self, key: str, found: CopiedObjects, why: str) -> None:
        if not self._is_still_named(key):
            found.gone.append(key)
            return
        if len(found.faults) >= _MOST_NAMED:
            raise BackupFault(
                f"More than {_MOST_NAMED} kept objects cannot be read; the first: {found.faults[0]} Look at the disk "
                "of node.data_dir; the latest snapshot is the one before."
            )
        found.faults.append(f"{self._spool.path(key)}: {why}.")


def _copy_all(source: int, target: int) -> None:
    while os.sendfile(target, source, None, 1 << 24):
        pass

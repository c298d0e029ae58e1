"""A SQLite database, copied as it is at one moment, and put back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url

from dicom_node.core.errors import BackupFault
from dicom_node.index.tables import metadata
from dicom_node.operate.backup.folder import copy_file, is_other, sha256_of
from dicom_node.operate.backup.manifest import KeptDatabase, KeptFile

#: What the database says of kept objects: everything it names is in a snapshot, but for what was deleted (PURGED).
NAMED_KEYS = (
    "SELECT object_key FROM instances UNION SELECT object_key FROM artifacts WHERE state = 'STORED' "
    "UNION SELECT preview_key FROM artifacts WHERE preview_key <> '' AND state = 'STORED' ORDER BY 1"
)
_FILE = "database/node.sqlite"
_PATIENCE_S = 60.0


def copy_sqlite(url: str, part: Path, keys: Path) -> tuple[KeptDatabase, dict[str, int]]:
    """Copy the database into a snapshot, and into `keys` which objects it names; return what was copied and how many
    rows each table has.

    SQLite's own backup, all pages in one step: a reader's transaction, beside which the node goes on to write.
    """
    target = part / _FILE
    target.parent.mkdir(mode=0o700)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with _told(), closing(_opened(url)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, and none beside it
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise BackupFault(f"The database is damaged ({found}). Put an earlier snapshot back.")
        schema = copy.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        counts = {one.name: _count(copy, one.name) for one in metadata.sorted_tables}
        with keys.open("x", encoding="ascii") as lines:
            lines.writelines(f"{row[0]}\n" for row in copy.execute(NAMED_KEYS))
    file = KeptFile(path=_FILE, target="node.sqlite", sha256=sha256_of(target), size_bytes=target.stat().st_size)
    return KeptDatabase(kind="sqlite", schema=schema, file=file), counts


def restore_sqlite(snapshot: Path, file: KeptFile, url: str) -> None:
    """Put the file where the URL says. Raises `BackupFault` where there is one."""
    target = sqlite_file(url)
    if target.exists():
        raise BackupFault(f"{target} is there already. Name an empty place.")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    copy_file(snapshot / file.path, target)
    if is_other(target, file.sha256):
        raise BackupFault(f"{snapshot / file.path} holds other bytes than were written. Choose another snapshot.")


def sqlite_file(url: str) -> Path:
    """Return the file of a SQLite database."""
    return Path(make_url(url).database or "").resolve()


def _opened(url: str) -> sqlite3.Connection:
    path = sqlite_file(url)
    if not path.exists():
        raise BackupFault(f"There is no database {path}. Check database.url and node.data_dir.")
    return sqlite3.connect(path, timeout=_PATIENCE_S)


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # noqa: S608 - our own names


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BackupFault(f"The database could not be copied ({error}). Look at the disk, and try again.") from error

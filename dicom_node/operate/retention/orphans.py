"""Files of the store that no row knows: told, and deleted only where it is sure that nobody will ask for them.

A received object without a row is taken up at the next start of a node that receives, so it stays. What a worker wrote
and did not enter (a crash fell between the two) is made again, in equal bytes, when its analysis runs again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from dicom_node.index.database import Database
from dicom_node.index.retention.deletions import known_keys
from dicom_node.storage.spool import Spool

#: Nothing younger is looked at: what writes a file enters it within its lease.
LEAST_AGE_S = 7 * 86400.0
_AT_ONCE = 500
_RECEIVED = ".dcm"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A file that no row knows; `fate` says what becomes of it."""

    key: str
    size_bytes: int
    changed_at: datetime
    is_needless: bool
    fate: str


def find_orphans(database: Database, spool: Spool, least_age_s: float = LEAST_AGE_S) -> list[Orphan]:
    """Return the files that have been there for so long and that no row knows. Raises `IndexUnavailable`."""
    found: list[Orphan] = []
    before = time.time() - least_age_s
    files = _files(spool.objects, before)
    while batch := list(islice(files, _AT_ONCE)):
        with database.read() as connection:
            known = known_keys(connection, [key for key, _ in batch])
        found += [_orphan(key, path) for key, path in batch if key not in known and path.exists()]
    return found


def remove_orphans(database: Database, spool: Spool, least_age_s: float = LEAST_AGE_S) -> list[Orphan]:
    """Delete what is needless of them; return all. What is being stored again at this moment stays."""
    found = find_orphans(database, spool, least_age_s)
    for one in found:
        if one.is_needless and spool.remove(one.key, least_age_s):
            _log.warning("orphan deleted", extra={"object": one.key, "bytes": one.size_bytes})
    kept = sum(not one.is_needless for one in found)
    if kept:
        advice = (
            "They are taken up at the next start; what cannot be read then stays here. dicom-node purge lists them."
        )
        _log.warning("objects that no row knows", extra={"objects": kept, "advice": advice})
    return found


def _orphan(key: str, path: Path) -> Orphan:
    status = path.stat()
    is_needless = not key.endswith(_RECEIVED)
    fate = "deleted: nobody entered it" if is_needless else "stays: taken up at the next start, if it can be read"
    return Orphan(
        key=key, size_bytes=status.st_size, changed_at=datetime.fromtimestamp(status.st_mtime, UTC),
        is_needless=is_needless, fate=fate,
    )  # fmt: skip


def _files(objects: Path, before: float) -> Iterator[tuple[str, Path]]:
    for folder in sorted(objects.iterdir()):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    yield f"{folder.name}/{path.name}", path

"""A database and a data folder belong together: a node that has one of them wrongly must not start.

Two nodes with folders of their own on one database take each other's jobs and find none of the files.
"""

from __future__ import annotations

from pathlib import Path

from dicom_node.core.errors import SettingsError
from dicom_node.index.database import Database, claim_store_id, store_id
from dicom_node.storage.spool import Spool


def require_own_store(database: Database, spool: Spool) -> None:
    """Return when database and store carry one name, which the first start gives them.

    The store is named first: a database that has a name was given it by a store that has it, too. Raises
    `IndexUnavailable`, and `SettingsError` for a database of another store.
    """
    with database.read() as connection:
        known = store_id(connection)
    ours = spool.name() if known is None else spool.known_name()
    if known is None and ours is not None:
        with database.write() as connection:
            known = claim_store_id(connection, ours)
    if ours != known:
        raise SettingsError(_refusal(spool.folder, str(known)))


def _refusal(folder: Path, known: str) -> str:
    return (
        f"The database belongs to another data folder than the one with {folder}. Correct node.data_dir or "
        "database.url: processes of one node share both, and every other node has its own. If the other folder is lost "
        f"for good, and its images with it, write {known} into {folder / Spool.NAME_FILE}."
    )

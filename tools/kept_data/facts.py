"""What is in a kept data folder, as facts for a test; and the folder packed.

Read with plain SQL from a copy, so that the log of the database stays as the kill left it. A later version whose tables
differ changes what is asked here.
"""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.kept_data.images import Modality

#: What a start makes anew, and what nobody else may have.
_LEFT_OUT = {"api-token", "ports.json", "__pycache__"}

_STUDIES = """
    SELECT study_instance_uid, state, revision, (
        SELECT count(*) FROM instances i WHERE i.study_instance_uid = s.study_instance_uid AND superseded_at IS NULL
    ) AS instances, (
        SELECT count(*) FROM instances i WHERE i.study_instance_uid = s.study_instance_uid AND superseded_at IS NOT NULL
    ) AS superseded FROM studies s
"""
_JOBS = "SELECT study_instance_uid, revision, route, model, state, attempts, shadow_of, job_key FROM jobs ORDER BY id"
_RESULTS = "SELECT study_instance_uid, route, revision, state, job_key FROM results ORDER BY created_at, job_key"
_DELIVERIES = """
    SELECT r.study_instance_uid, d.job_key, d.destination, d.state, d.attempts, d.artifact_uid, a.kind
    FROM deliveries d JOIN results r USING (job_key) JOIN artifacts a ON a.uid = d.artifact_uid ORDER BY d.id
"""
_DECISIONS = "SELECT kind, model, version, digest FROM model_decisions ORDER BY id"
_COMMITMENTS = "SELECT transaction_uid, state FROM commitments ORDER BY id"
_RETRIEVALS = "SELECT id, source, study_instance_uid FROM retrievals"


def manifest(data_dir: Path, studies: Mapping[str, str], modality: Modality) -> dict[str, Any]:
    """Return the facts; `studies` are UIDs by name. Raises `RuntimeError` where the folder is not what it should be."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(data_dir, Path(folder, "data"), symlinks=True)
        found = {
            "studies": _rows(copy, _STUDIES),
            "jobs": _rows(copy, _JOBS),
            "results": _rows(copy, _RESULTS),
            "deliveries": _rows(copy, _DELIVERIES),
            "decisions": _rows(copy, _DECISIONS),
            "commitments": _rows(copy, _COMMITMENTS),
            "retrievals": _rows(copy, _RETRIEVALS),
        }
        in_index = {row["sop_instance_uid"] for row in _rows(copy, "SELECT sop_instance_uid FROM instances")}
    acknowledged = {one for uids in modality.acknowledged.values() for one in uids}
    lost = acknowledged - in_index - set(modality.unfiled)
    waiting = [one for one in modality.unfiled if one not in in_index and _is_in_the_journal(data_dir, one)]
    asked = [one for one in modality.transactions if _is_in_the_journal(data_dir, one)]
    if lost or waiting != modality.unfiled or not set(asked) - {row["transaction_uid"] for row in found["commitments"]}:
        raise RuntimeError(f"not as planned: lost {lost}, waiting in the journal {waiting} and {asked}")
    return {
        "names": dict(studies),
        "acknowledged": modality.acknowledged,
        "only_in_journal": waiting,
        "transactions": modality.transactions,
        **found,
    }


def _is_in_the_journal(data_dir: Path, uid: str) -> bool:
    return any(uid.encode() in path.read_bytes() for path in (data_dir / "journal").iterdir())


def _rows(data_dir: Path, query: str) -> list[dict[str, Any]]:
    database = sqlite3.connect(data_dir / "node.sqlite")
    try:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query)]
    finally:
        database.close()


def forget_the_processor(data_dir: Path) -> None:
    """Take out of the activations what processor they ran on, before the node starts; no trace of it is left."""
    database = sqlite3.connect(data_dir / "node.sqlite")
    try:
        for key, told in database.execute("SELECT id, environment FROM model_decisions").fetchall():
            parts = told.split("; ")
            parts[2:3] = ["a processor of the past"] * bool(parts[2:3])
            database.execute("UPDATE model_decisions SET environment = ? WHERE id = ?", ("; ".join(parts), key))
        database.commit()
        database.execute("VACUUM")
    finally:
        database.close()


def pack(root: Path, folders: Sequence[str], target: Path) -> None:
    """Pack folders below `root`, without tokens and ports, owned by nobody."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return None if Path(member.name).name in _LEFT_OUT else member

    with tarfile.open(target, "w:xz", preset=9) as packed:
        for folder in folders:
            packed.add(root / folder, folder, filter=kept)

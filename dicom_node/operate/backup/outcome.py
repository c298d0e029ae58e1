"""What became of the last backups of a node: kept in its data folder, told by doctor, API and page."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dicom_node.core.errors import NodeError

OUTCOME_FILE = "last-backup.json"
#: A node whose last backup is older than this is told of: whoever made them has stopped.
_EXPECTED_WITHIN = timedelta(days=8)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOutcome:
    """When a backup last began that was finished, where it is, and what it left out; and when one last failed, and why.

    `faults`: how many kept objects could not be read, so that the backup lacks them.
    """

    made_at: datetime | None = None
    folder: str = ""
    snapshot: str = ""
    took_s: float = 0.0
    objects: int = 0
    copied_bytes: int = 0
    faults: int = 0
    failed_at: datetime | None = None
    why_failed: str = ""

    def in_words(self) -> str:
        """Say it in one or two sentences."""
        if self.made_at is None:
            made = "No backup has been made of this node"
        else:
            made = f"last backup {_time(self.made_at)} ({self.folder}, {self.snapshot}, {self.objects} objects)"
        lacks = f"; it lacks {self.faults} objects, which cannot be read" if self.faults else ""
        failed = f"; failed {_time(self.failed_at)}: {self.why_failed}" if self.failed_at else ""
        return f"{made}{lacks}{failed}"

    def advice(self, now: datetime) -> str:
        """Return what to do, "" when nothing is wrong; that no backup was ever made is not for the node to judge."""
        if self.failed_at is not None:
            return "Correct the cause, then: dicom-node backup FOLDER"
        if self.faults:
            return "Look at the disk; damaged objects are listed by dicom-node doctor and the log."
        if self.made_at is not None and now - self.made_at > _EXPECTED_WITHIN:
            return "See why the timer of backups no longer runs, then: dicom-node backup FOLDER"
        return ""


_OUTCOMES = TypeAdapter(BackupOutcome)


def last_backup(data_dir: Path) -> BackupOutcome | None:
    """Return what became of the last backups; `None`: none was ever begun."""
    try:
        return _OUTCOMES.validate_json((data_dir / OUTCOME_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        return BackupOutcome(
            failed_at=datetime.now(UTC), why_failed=f"{OUTCOME_FILE} cannot be read ({type(error).__name__})."
        )


def note_made(data_dir: Path, outcome: BackupOutcome) -> None:
    """Keep that a backup was finished; that an earlier one failed is of no more interest."""
    _write(data_dir, outcome)


def note_failed(data_dir: Path, why: str) -> None:
    """Keep that a backup failed; the one before stays the last that was made."""
    known = last_backup(data_dir) or BackupOutcome()
    _write(data_dir, replace(known, failed_at=datetime.now(UTC), why_failed=why))


@contextmanager
def failure_noted(data_dir: Path) -> Iterator[None]:
    """Keep why what is done here failed, whatever it failed at: nobody looks at the exit status of a timer."""
    try:
        yield
    except NodeError as error:
        _log.error("backup failed", extra={"why": str(error)})
        with suppress(OSError):  # the disk that it failed for
            note_failed(data_dir, str(error))
        raise


def _write(data_dir: Path, outcome: BackupOutcome) -> None:
    draft = data_dir / f".{OUTCOME_FILE}.{os.getpid()}"
    draft.touch(mode=0o600)
    told = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(outcome).items()}
    draft.write_text(json.dumps(told), encoding="utf-8")
    draft.replace(data_dir / OUTCOME_FILE)


def _time(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M %Z}"

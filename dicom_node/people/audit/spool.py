"""A file in which acts of care stand until they are in the audit trail: a crash, or a trail that cannot be written,
loses none of them."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)


class AuditSpool:
    """The file of this process, which holds its lock for as long as it lives; beside it lie those of others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{uuid.uuid4().hex}.jsonl"
        self._descriptor = -1
        self._is_clear = True

    def add(self, line: str) -> None:
        """Add one act. A disk that does not take it leaves it in memory alone, as the log says."""
        try:
            if self._descriptor < 0:
                self._open()
            os.write(self._descriptor, f"{line}\n".encode())
            self._is_clear = False
        except OSError as error:
            _log.error("an act waits for the audit trail in memory only", extra={"why": error.strerror})

    def clear(self) -> None:
        """Forget everything: it is in the trail."""
        if not self._is_clear:
            os.ftruncate(self._descriptor, 0)
            self._is_clear = True

    def close(self, *, is_empty: bool) -> None:
        """Leave what is not in the trail to the next process."""
        if self._descriptor < 0:
            return
        if is_empty:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def left_by_others(self) -> Iterator[Mapping[str, object]]:
        """Yield what processes that are gone have left, and remove their files when all of it was taken over."""
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == self._path:
                continue
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield from _whole_lines(file)
                path.unlink()

    def _open(self) -> None:
        """Make the file under another name first, so that nobody finds it before it is locked."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        draft.replace(self._path)
        self._descriptor = descriptor


def _whole_lines(lines: Iterator[bytes]) -> Iterator[Mapping[str, object]]:
    for line in lines:
        with suppress(ValueError):  # cut off by a crash
            yield json.loads(line)

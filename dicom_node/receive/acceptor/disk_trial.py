"""A few bytes written and synchronised now and again where objects go: only that proves that a disk takes them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_EVERY_S = 5.0
#: A write that takes longer than this is as good as none.
_PATIENCE_S = 20.0


class DiskTrial:
    """Tries the folders; in a thread of its own, for a disk that hangs keeps whoever writes to it."""

    def __init__(self, folders: Sequence[Path], owner: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        """`owner` makes the file's name: several receivers may share a folder."""
        self._folders = folders
        self._name = f".trial-{owner}"
        self._clock_s = clock_s
        self._fault = ""
        self._began_at = 0.0
        self._is_writing = False

    def fault(self) -> str:
        """Return why nothing can be written, "" when it can."""
        if self._is_writing and self._clock_s() - self._began_at > _PATIENCE_S:
            return f"the disk has not taken a few bytes for {_PATIENCE_S:g} s"
        return self._fault

    def run(self) -> None:
        """Try again and again, for ever."""
        while True:
            self.once()
            time.sleep(_EVERY_S)

    def once(self) -> None:
        """Try every folder."""
        self._began_at, self._is_writing = self._clock_s(), True
        try:
            for folder in self._folders:
                _write(folder / self._name)
            self._fault = ""
        except OSError as error:
            self._fault = f"{error.filename}: {error.strerror}"
        finally:
            self._is_writing = False


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, b"trial\n", 0)
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)

"""Folders of the node: made for its user alone; and can files be made in one? Tried, because rights alone do not tell
(read-only file systems, quotas, root); and again and again while the node runs, for only a few bytes written and
synchronised prove that a disk takes them."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.core.errors import SettingsError, SpoolUnavailable

_OTHERS = 0o077
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_folder(folder: Path) -> None:
    """Make a folder that only the node's user may enter; one that is there stays as the site made it.

    Raises `SettingsError` when it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(
            f"The folder {folder} cannot be made: {error.strerror}. Give the node's user the right to, or correct "
            "node.data_dir."
        ) from error


def make_private(folder: Path) -> None:
    """Make a folder of the node's own, and close one that others may enter (of a version that left it open).

    Raises `SettingsError` when it cannot be made.
    """
    make_folder(folder)
    if folder.stat().st_mode & _OTHERS:
        with suppress(PermissionError):  # another user's folder, who lets this one in
            folder.chmod(0o700)


def existing_part(folder: Path) -> Path:
    """The folder itself, or the nearest folder above it that exists."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if path.exists())


def why_not_writable(folder: Path) -> str:
    """Make and remove a file in an existing folder; returns the system's reason if that fails, else an empty text."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


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


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Raise `SpoolUnavailable` for what finds no room below a folder: the disk or a quota is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SpoolUnavailable(
            f"There is no room below {folder}: {error.strerror}. Free space; the studies that wait are analysed then."
        ) from error

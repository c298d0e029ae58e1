"""Folders of the node: made for its user alone; and can files be made in one? Tried, because rights alone do not tell
(read-only file systems, quotas, root)."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from dicom_node.core.errors import SettingsError

_OTHERS = 0o077


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

"""Can files be made in a folder? Tried, because rights alone do not tell (read-only file systems, quotas, root)."""

from __future__ import annotations

import tempfile
from pathlib import Path


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

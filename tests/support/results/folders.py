"""What a destination of kind folder holds."""

from __future__ import annotations

from pathlib import Path


def objects_in(folder: Path) -> list[Path]:
    """Return the delivered objects, without the sidecars that tell of them."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.endswith(".dcm.json"))

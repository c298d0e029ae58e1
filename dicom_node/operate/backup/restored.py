"""That a data folder was put back from a backup, and of when: what a restored node must know of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dicom_node.core.errors import SettingsError

_FILE = "restored.json"


@dataclass(frozen=True, slots=True)
class Restoration:
    """Which snapshot was put back, as of when it knows of everything, and when that was done."""

    snapshot: str
    as_of: datetime
    restored_at: datetime


_RESTORATIONS = TypeAdapter(Restoration)


def restoration_of(data_dir: Path) -> Restoration | None:
    """Return what is known of it; `None`: the folder was never restored. Raises `SettingsError`."""
    path = data_dir / _FILE
    try:
        return _RESTORATIONS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise SettingsError(
            f"{path} cannot be read ({type(error).__name__}). It says that the node was restored, so that destinations "
            "are asked before anything is sent twice. Repair it, or remove it."
        ) from error


def write_restoration(data_dir: Path, restoration: Restoration) -> None:
    """Keep it in the data folder."""
    path = data_dir / _FILE
    path.touch(mode=0o600)
    told = {"snapshot": restoration.snapshot, "as_of": restoration.as_of.isoformat(),
            "restored_at": restoration.restored_at.isoformat()}  # fmt: skip
    path.write_text(json.dumps(told) + "\n", encoding="utf-8")

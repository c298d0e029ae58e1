"""The node's own models folder: a model comes in whole or not at all, and a running node keeps the one it has.

``models/NAME`` is a link to ``models/.versions/NAME-DIGEST``; putting the link in place is the one step that counts.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from dicom_node.core.errors import SettingsError
from dicom_node.inference.cards.card import CARD_NAME, ModelCard, load_card
from dicom_node.inference.cards.digest import folder_files
from dicom_node.storage.durable import sync_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add_model(folder: Path, models_dir: Path, *, replace: bool = False) -> ModelCard:
    """Copy a model folder in and return its card there. Compiled Python and hidden files stay behind.

    Raises `SettingsError` or `ModelUnavailable` for a folder that cannot be read, and for a name that is taken unless
    `replace`.
    """
    card = load_card(folder)
    if _NAME.fullmatch(card.name) is None:
        raise SettingsError(f"{folder / CARD_NAME}: name {card.name!r} must be letters, digits, dots and hyphens.")
    place = models_dir / card.name
    if place.exists() and not replace:
        raise SettingsError(f"There is a model {card.name} in {models_dir} already. Use --replace for a new version.")
    versions = models_dir / ".versions"
    versions.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=versions, prefix=".new-") as made:
        copy = Path(made, card.name)
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        digest = load_card(copy).folder_digest
        _make_durable(copy)
        kept = versions / f"{card.name}-{digest[:16]}"
        if not kept.exists():
            copy.rename(kept)
        _link(place, kept)
    return load_card(place)


def _make_durable(folder: Path) -> None:
    for _, path in folder_files(folder):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def _link(place: Path, kept: Path) -> None:
    """Put a link in place of whatever stands there, in one step."""
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(kept.relative_to(place.parent))
    new.replace(place)
    sync_folder(place.parent)

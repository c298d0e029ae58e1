"""Seals what must be kept or handed out, and read by nobody else: AES and HMAC by a key in the data folder (Fernet)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from dicom_node.config.section import require_private
from dicom_node.core.errors import SettingsError
from dicom_node.storage.durable import write_new_file


class Seal:
    """Seals small things for one purpose, named `purpose`; what was sealed for one is no good for another."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._fernet = Fernet(key)
        self._purpose = purpose

    def sealed(self, thing: Mapping[str, object]) -> str:
        """Return a thing as text that says nothing to anybody else."""
        return self._fernet.encrypt(json.dumps([self._purpose, thing]).encode()).decode("ascii")

    def opened(self, text: str, no_older_than_s: int | None = None) -> Mapping[str, object] | None:
        """Return what was sealed; `None` for what this node did not seal for this purpose, or too long ago."""
        try:
            purpose, thing = json.loads(self._fernet.decrypt(text, no_older_than_s))
        except (InvalidToken, ValueError):
            return None
        return thing if purpose == self._purpose else None


def load_or_create_key(path: Path) -> bytes:
    """Return the key in a file that only the node's user can read, made by whoever comes first.

    Raises `SettingsError` where the file cannot be used. A lost file ends the sessions that it sealed, no more.
    """
    try:
        if not path.exists():
            _create(path)
        require_private(path)
        key = path.read_bytes().strip()
        Fernet(key)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(
            f"The key file {path} cannot be used: {why}. Mend its rights; or delete it, and the node makes another, "
            "which signs out whoever came by OpenID Connect."
        ) from None
    return key


def _create(path: Path) -> None:
    """Write a new key under `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new_file(path, Fernet.generate_key())

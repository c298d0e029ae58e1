"""The API token: made at the first start, kept in a file only its owner can read, known to the API as a digest."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from dicom_node.errors import SettingsError

_MIN_LENGTH = 20


def load_or_create_token(path: Path) -> tuple[str | None, str]:
    """Return the new token (only when this call made it, to be shown once) and the digest of the token in force.

    Two processes starting at once agree on one token. Raises `SettingsError` when the file cannot be used.
    """
    try:
        created = None if path.exists() else _create(path)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The API token file {path} cannot be read or written ({type(error).__name__}). Check api.token_file and "
            "the rights of its folder."
        ) from error
    if len(token) < _MIN_LENGTH:
        raise SettingsError(
            f"The API token in {path} is shorter than {_MIN_LENGTH} characters. Put in a longer one, or delete the "
            "file and let the node make one."
        )
    return created, digest_of(token)


def digest_of(token: str) -> str:
    """Return the sha256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def _create(path: Path) -> str | None:
    """Write a new token under `path`, whole or not at all; `None` when another process was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, opened with its mode
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
            return token
        return None
    finally:
        draft.unlink()

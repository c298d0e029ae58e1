"""The node's public keys, for servers that it signs in to by SMART Backend Services; without a token, as is the use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response

from dicom_node.api.parts import Parts
from dicom_node.core.errors import SettingsError
from dicom_node.deliver.connections.signing_keys import SigningKey, jwk_set, key_files, read_key
from dicom_node.deliver.kinds import destinations_of

#: A server that meets a key it does not know looks again at once; others may take this long to see a new one.
_HOLDS_S = 600
router = APIRouter(tags=["node"])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JwkSet:
    """A JWK Set (RFC 7517 5)."""

    keys: list[dict[str, Any]]


@router.get("/.well-known/jwks.json", summary="The node's public keys")
def get_jwks(parts: Parts, response: Response) -> JwkSet:
    """The public part of each `private_key` and `next_private_key` of the destinations; what cannot be read is left
    out, as the log and `dicom-node doctor` say."""
    response.headers["Cache-Control"] = f"public, max-age={_HOLDS_S}"
    keys = [_key(path, _changed_at(path)) for path in key_files(destinations_of(parts.settings))]
    return JwkSet(jwk_set(key for key in keys if key)["keys"])


def _changed_at(path: Path) -> tuple[int, int]:
    """Return what tells one state of a file from the next: its time and its mode; zeros where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_mode)


@lru_cache(maxsize=64)
def _key(path: Path, _changed_at: tuple[int, int]) -> SigningKey | None:
    """Read each state of a file once: anybody may ask."""
    try:
        return read_key(path)
    except SettingsError as error:
        _log.error("signing key not shown", extra={"why": str(error)})
        return None

"""What is told without a token: the node's public keys (SMART Backend Services), and the kinds of problems."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as UrlPath

from dicom_node.api.addresses import V1
from dicom_node.api.answers.problem_kinds import PROBLEM_KINDS
from dicom_node.api.answers.problems import described
from dicom_node.api.parts import Parts
from dicom_node.core.errors import NotFound, SettingsError
from dicom_node.deliver.connections.signing_keys import SigningKey, jwk_set, key_files, read_key
from dicom_node.deliver.kinds import destinations_of

#: A server that meets a key it does not know looks again at once; others may take this long to see a new one.
_HOLDS_S = 600
router = APIRouter()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JwkSet:
    """A JWK Set (RFC 7517 5)."""

    keys: list[dict[str, Any]]


@router.get("/.well-known/jwks.json", tags=["node"], summary="The node's public keys")
def get_jwks(parts: Parts, response: Response) -> JwkSet:
    """The public part of each `private_key` and `next_private_key` of the destinations; what cannot be read is left
    out, as the log and `dicom-node doctor` say."""
    response.headers["Cache-Control"] = f"public, max-age={_HOLDS_S}"
    keys = [_key(path, _changed_at(path)) for path in key_files(destinations_of(parts.settings))]
    return JwkSet(jwk_set(key for key in keys if key)["keys"])


@dataclass(frozen=True, slots=True)
class ProblemKindView:
    """A kind of problem: what it means, and what to do about it."""

    type: str
    title: str
    status: int
    meaning: str
    remedy: str


@router.get(f"{V1}/problems/{{name}}", tags=["problems"], summary="What a problem means", responses=described(404, 422))
def get_problem_kind(
    name: Annotated[
        str, UrlPath(max_length=64, pattern="^[a-z-]+$", description="The kind.", examples=["not-signed-in"])
    ],
) -> ProblemKindView:
    """The kind that `type` of a problem names."""
    known = next((one for one in PROBLEM_KINDS if one.name == name), None)
    if known is None:
        raise NotFound(f"There is no kind of problem {name!r}. docs/reference/problems.md lists them.")
    return ProblemKindView(known.type, known.title, known.status, known.meaning, known.remedy)


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

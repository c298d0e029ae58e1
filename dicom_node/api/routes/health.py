"""For load balancers and watchdogs, without a token: does the process live, can it take studies."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request

from dicom_node.api.answers.problem_kinds import NOT_READY
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.index.damage import damage_counts
from dicom_node.index.database import DatabaseProbe

router = APIRouter(tags=["health"])
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alive:
    """The process answers."""

    status: Literal["alive"] = "alive"


@dataclass(frozen=True, slots=True)
class Ready:
    """The node takes studies. `damaged_objects` counts what the disk has changed, which somebody must look at, as they
    must at `clock_fault`: why the clock of this machine is not to be believed."""

    status: Literal["ready"] = "ready"
    damaged_objects: int = 0
    clock_fault: str = ""


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> Alive:
    """Answered as long as the process serves at all; restart it when this fails."""
    # needs none of the threads that wait for databases, peers and clients
    return Alive()


@router.get("/readyz", summary="Can the node take studies?", responses=described(503))
def readyz(request: Request, parts: Parts) -> Ready:
    """The database takes changes, the receiver answers, what it acknowledges is written and filed, every role of the
    node is at work, and there is more free disk than the reserve. Answered within seconds, whatever is silent."""
    reasons = why_not_ready(request, parts)
    if reasons:
        raise ProblemError(503, " ".join(reasons), {"Retry-After": "10"}, kind=NOT_READY)
    with parts.database.read() as connection:
        damaged = damage_counts(connection).total
    clock = parts.clock()
    return Ready(damaged_objects=damaged, clock_fault=clock.fault if clock else "")


def why_not_ready(request: Request, parts: ApiParts) -> Sequence[str]:
    """Return what keeps the node from taking studies, one sentence each; nothing when it is ready."""
    return list(_not_ready(parts, request.app.state.database_probe))


def _not_ready(parts: ApiParts, probe: DatabaseProbe) -> Iterator[str]:
    if reason := probe.unavailable_reason():
        yield reason
    if not parts.receiver_ready():
        yield "The DICOM receiver does not listen, or cannot file what comes; the log says why."
    for role, why in parts.roles_not_at_work().items():
        yield f"The role {role} is not at work: {why}."
    try:
        free_mb = shutil.disk_usage(parts.settings.node.data_dir).free >> 20
    except OSError:
        yield "The data folder cannot be reached; check node.data_dir."
    else:
        if free_mb < parts.settings.node.min_free_mb:
            yield (
                f"Only {free_mb} MB of disk are free, less than the reserve (node.min_free_mb): images are refused "
                "until there is more. Free some space."
            )

"""The node itself: deliveries, models, routes, counts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request

from dicom_node.api.access import CurrentPrincipal, SignedIn
from dicom_node.api.parts import DeliveryId, Parts
from dicom_node.api.problems import described
from dicom_node.api.routes.health import why_not_ready
from dicom_node.api.routes.studies import Requeued, StatedReason
from dicom_node.core.entities import DeliveryState, Route
from dicom_node.governance.standing import ModelView
from dicom_node.index import actions
from dicom_node.index.damage import DamageCounts, damage_counts, round_ended_at
from dicom_node.index.outbox.commitments import CommitmentLine, latest_requests
from dicom_node.index.outbox.destinations import Suspension, suspensions
from dicom_node.index.shadows import ShadowReport, shadow_reports
from dicom_node.index.views import lists as views
from dicom_node.index.views.types import Counts, DeliveryView
from dicom_node.receive.refusals import RefusedContexts

router = APIRouter(prefix="/api", dependencies=[SignedIn], responses=described(401, 422, 429, 503))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """How the node does. `oldest_pending_s` is the age of the oldest delivery still to be made, in seconds; `damaged`
    counts kept objects whose bytes are not those that came or were made, `scrubbed_at` is when all were last read;
    `roles_not_at_work` names the roles that no process of the node does now, and why; `not_ready` says what keeps the
    node from taking studies, as `/readyz` does. `refused_contexts` are kinds of objects that peers proposed and cannot
    send, since the receiver's start, the latest first: where nothing comes. `suspended` are the destinations, by
    name, that do not let the node in and get nothing."""

    ae_title: str
    version: str
    intended_use: str
    not_ready: Sequence[str]
    receiver_ready: bool
    roles_not_at_work: Mapping[str, str]
    disk_free_bytes: int
    counts: Counts
    oldest_pending_s: float | None
    damaged: DamageCounts
    scrubbed_at: datetime | None
    refused_contexts: Sequence[RefusedContexts]
    suspended: Mapping[str, Suspension]


@router.get("/status", tags=["node"], summary="How the node does")
def get_status(request: Request, parts: Parts) -> NodeStatus:
    """Counts of studies, jobs and deliveries by state, and what waits for which destination."""
    with parts.database.read() as connection:
        counts = views.counts(connection)
        damaged, scrubbed_at = damage_counts(connection), round_ended_at(connection)
        suspended = suspensions(connection)
    oldest = counts.oldest_pending_at
    return NodeStatus(
        ae_title=parts.settings.node.ae_title,
        version=parts.version,
        intended_use=parts.settings.node.intended_use,
        not_ready=why_not_ready(request, parts),
        receiver_ready=parts.receiver_ready(),
        roles_not_at_work=parts.roles_not_at_work(),
        disk_free_bytes=shutil.disk_usage(parts.settings.node.data_dir).free,
        counts=counts,
        oldest_pending_s=None if oldest is None else (datetime.now(UTC) - oldest).total_seconds(),
        damaged=damaged,
        scrubbed_at=scrubbed_at,
        refused_contexts=parts.refused_contexts(),
        suspended=suspended,
    )


@router.get("/models", tags=["node"], summary="The models, and which may run")
def get_models(parts: Parts) -> Mapping[str, ModelView]:
    """Every model by name: who it is, and whether it may run. `why` says what to do about one that may not."""
    return parts.models()


@router.get("/routes", tags=["node"], summary="Which studies go to which model")
def get_routes(parts: Parts) -> Sequence[Route]:
    """The routes in force, in order."""
    return parts.routes


@router.get("/shadows", tags=["node"], summary="How shadow routes compare with the routes they shadow")
def get_shadows(parts: Parts) -> Sequence[ShadowReport]:
    """How often each shadow route agreed, over the latest studies, and where it did not."""
    with parts.database.read() as connection:
        return shadow_reports(connection)


@router.get("/deliveries", tags=["deliveries"], summary="List deliveries, newest first")
def list_deliveries(
    parts: Parts,
    state: DeliveryState | None = None,
    destination: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[DeliveryView]:
    """What goes, or went, to the destinations; parked ones wait for a human."""
    with parts.database.read() as connection:
        return views.list_deliveries(connection, state, destination, limit)


@router.get("/commitments", tags=["node"], summary="Storage commitment: what peers asked, newest first")
def list_commitments(parts: Parts, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Sequence[CommitmentLine]:
    """What modalities asked to be committed to, and whether they have heard the outcome."""
    with parts.database.read() as connection:
        return latest_requests(connection, limit)


@router.post(
    "/deliveries/{id}/retry", tags=["operator"], summary="Send one object again", responses=described(403, 404, 409)
)
def retry_delivery(parts: Parts, principal: CurrentPrincipal, delivery_id: DeliveryId) -> Requeued:
    """Make one delivery due now. The kept bytes are sent, nothing is rebuilt."""
    with parts.database.write() as connection:
        actions.retry_delivery(connection, delivery_id, principal, datetime.now(UTC))
    parts.wake()
    return Requeued([delivery_id])


@router.post(
    "/deliveries/{id}/discard", tags=["operator"], summary="Give one delivery up", responses=described(403, 404, 409)
)
def discard_delivery(
    parts: Parts, principal: CurrentPrincipal, delivery_id: DeliveryId, wanted: StatedReason
) -> Requeued:
    """Owe an object that waits or is parked to its destination no more. What has arrived is withdrawn instead."""
    with parts.database.write() as connection:
        actions.discard_delivery(connection, delivery_id, wanted.reason, principal, datetime.now(UTC))
    parts.wake()
    return Requeued([delivery_id])

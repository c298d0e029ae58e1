"""The node itself: deliveries, models, routes, counts."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from dicom_node.api import viewer
from dicom_node.api.access import CurrentAccess, CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, NumberPageQuery, TextPageQuery
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.front.tls import CertificateState
from dicom_node.api.parts import ApiParts, DeliveryId, Parts
from dicom_node.api.routes.health import why_not_ready
from dicom_node.api.routes.studies import Requeued, StatedReason
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import DeliveryState
from dicom_node.deliver.owed_to_nobody import Waiting, owed_to_nobody
from dicom_node.governance.standing import ModelView
from dicom_node.index.damage import DamageCounts, damage_counts, round_ended_at
from dicom_node.index.decided import actions
from dicom_node.index.outbox.commitments import CommitmentLine, latest_requests
from dicom_node.index.outbox.destinations import Suspension, suspensions
from dicom_node.index.shadows import ShadowReport, shadow_reports
from dicom_node.index.views import lists as views
from dicom_node.index.views.types import Counts, DeliveryView
from dicom_node.operate.backup.outcome import BackupOutcome, last_backup
from dicom_node.operate.clock import ClockState
from dicom_node.receive.refusals import RefusedContexts

router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """How the node does. `oldest_pending_s` is the age of the oldest delivery still to be made, in seconds; `damaged`
    counts kept objects whose bytes are not those that came or were made, `scrubbed_at` is when all were last read;
    `roles_not_at_work` names the roles that no process of the node does now, and why; `not_ready` says what keeps the
    node from taking studies, as `/readyz` does. `refused_contexts` are kinds of objects that peers proposed and cannot
    send, since the receiver's start, the latest first: where nothing comes. `suspended` are the destinations, by
    name, that do not let the node in and get nothing; `owed_to_nobody` says what waits for destinations that the
    settings have no more. `certificate` is the one that the API shows, and what is wrong with a newer one; none: it
    speaks no TLS. `audit_fault` says why acts cannot be written into the audit trail: those of people are refused
    meanwhile. `sign_in_fault` says why nobody can sign in at the OpenID provider now. `clock` says how far the clock of
    this machine is from the time servers, and why it is not to be believed; none: `time.servers` names none. `viewer`
    is the address on this host at which the node serves OHIF, to be called with `?StudyInstanceUIDs=`; none: it does
    not. `settings_fault` says how the settings that run differ from their file, and what to do. `last_backup` says when
    a backup of the node was made last, and why one failed since; none: none was begun.
    """

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
    owed_to_nobody: Mapping[str, Waiting]
    certificate: CertificateState | None
    clock: ClockState | None = None
    audit_fault: str = ""
    sign_in_fault: str = ""
    settings_fault: str = ""
    viewer: str = ""
    last_backup: BackupOutcome | None = None


@router.get("/status", tags=["node"], summary="How the node does")
def get_status(request: Request, parts: Parts, access: CurrentAccess) -> NodeStatus:
    """Counts of studies, jobs and deliveries by state, and what waits for which destination."""
    with parts.database.read() as connection:
        counts = views.counts(connection)
        damaged, scrubbed_at = damage_counts(connection), round_ended_at(connection)
        suspended, left = suspensions(connection), owed_to_nobody(connection, parts.settings)
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
        audit_fault=parts.audit.fault,
        settings_fault=_settings_fault(parts),
        sign_in_fault=access.provider.sign_in.fault() if access.provider else "",
        certificate=parts.certificate(),
        clock=parts.clock(),
        owed_to_nobody=left,
        viewer=viewer.AT if parts.settings.viewer.ohif else "",
        last_backup=last_backup(parts.settings.node.data_dir),
    )


def _settings_fault(parts: ApiParts) -> str:
    """Return what is wrong in any process of the node; those that wait for the same reload say it once."""
    states = [] if parts.configuration is None else parts.configuration.states()
    return " ".join(dict.fromkeys(one.fault for one in states if one.fault))


@router.get("/models", tags=["node"], summary="The models, and which may run")
def get_models(parts: Parts) -> Mapping[str, ModelView]:
    """Every model by name: who it is, and whether it may run. `why` says what to do about one that may not."""
    return parts.models()


@router.get(
    "/shadows",
    tags=["node"],
    summary="How shadow routes compare with the routes they shadow",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.QUERY)],
)
def get_shadows(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[TextPageQuery, Query()]
) -> Sequence[ShadowReport]:
    """How often each shadow route agreed, over the latest studies, and where it did not."""
    with parts.database.read() as connection:
        found = shadow_reports(connection)
    return pages.cut_whole(found, asked.limit, asked.cursor, _shadow_cursor)


def _shadow_cursor(report: ShadowReport) -> str:
    return hashlib.sha256(f"{report.route}\n{report.shadow_of}".encode()).hexdigest()[:32]


class DeliveryListQuery(NumberPageQuery):
    """Which deliveries to list."""

    state: DeliveryState | None = Field(None, description="Only those in this state.", examples=["PARKED"])
    destination: str | None = Field(
        None, max_length=64, description="Only those to this destination.", examples=["pacs"]
    )


@router.get(
    "/deliveries",
    tags=["deliveries"],
    summary="List deliveries, newest first",
    responses=PAGED,
    dependencies=[audited(AuditedAct.QUERY)],
)
def list_deliveries(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[DeliveryListQuery, Query()]
) -> list[DeliveryView]:
    """What goes, or went, to the destinations; parked ones wait for a human."""
    with parts.database.read() as connection:
        found = views.list_deliveries(connection, asked.state, asked.destination, asked.limit + 1, asked.cursor)
    return pages.cut(found, asked.limit, lambda one: one.id)


@router.get(
    "/commitments",
    tags=["node"],
    summary="Storage commitment: what peers asked, newest first",
    responses=PAGED,
    dependencies=[audited(AuditedAct.QUERY)],
)
def list_commitments(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[NumberPageQuery, Query()]
) -> Sequence[CommitmentLine]:
    """What modalities asked to be committed to, and whether they have heard the outcome."""
    with parts.database.read() as connection:
        found = latest_requests(connection, asked.limit + 1, asked.cursor)
    return pages.cut(found, asked.limit, lambda one: one.number)


@router.post(
    "/deliveries/{id}/retry",
    tags=["operator"],
    summary="Send one object again",
    dependencies=[Operates, audited(AuditedAct.RETRY)],
    responses=described(403, 404, 409),
)
def retry_delivery(parts: Parts, principal: CurrentPrincipal, delivery_id: DeliveryId) -> Requeued:
    """Make one delivery due now. The kept bytes are sent, nothing is rebuilt."""
    with parts.database.write() as connection:
        actions.retry_delivery(connection, delivery_id, principal, datetime.now(UTC))
    parts.wake()
    return Requeued([delivery_id])


@router.post(
    "/deliveries/{id}/discard",
    tags=["operator"],
    summary="Give one delivery up",
    dependencies=[Operates, audited(AuditedAct.DISCARD)],
    responses=described(403, 404, 409),
)
def discard_delivery(
    parts: Parts, principal: CurrentPrincipal, delivery_id: DeliveryId, wanted: StatedReason
) -> Requeued:
    """Owe an object that waits or is parked to its destination no more. What has arrived is withdrawn instead."""
    with parts.database.write() as connection:
        actions.discard_delivery(connection, delivery_id, wanted.reason, principal, datetime.now(UTC))
    parts.wake()
    return Requeued([delivery_id])

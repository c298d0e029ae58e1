"""What has changed in inputs and outputs of models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from dicom_node.api.access import CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, TextPageQuery
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import Parts
from dicom_node.api.routes.rules import RouteName
from dicom_node.api.routes.studies import StatedReason
from dicom_node.core.audit import AuditedAct
from dicom_node.index.drift.stops import RouteStop, restore_route, route_stops
from dicom_node.index.drift.streams import DriftView, drift_views

router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))


class DriftQuery(TextPageQuery):
    """How much to say of each stream."""

    every: bool = Field(False, description="Every comparison of the last look, also of what does not drift.")


@router.get(
    "/drift",
    tags=["node"],
    summary="What drifts",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.QUERY)],
)
def get_drift(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[DriftQuery, Query()]
) -> Sequence[DriftView]:
    """Each route, scanner and model version with what differs from its reference, as of the last look."""
    with parts.database.read() as connection:
        found = drift_views(connection, every=asked.every)
    return pages.cut_whole(found, asked.limit, asked.cursor, _cursor)


@router.get("/drift/stops", tags=["node"], summary="Which routes are in shadow", responses=described(404))
def get_stops(
    parts: Parts,
    every: Annotated[bool, Query(description="Also those that a person has restored.")] = False,
) -> Sequence[RouteStop]:
    """Routes that run and deliver nothing since they drifted, and why."""
    with parts.database.read() as connection:
        return route_stops(connection, every=every)


class RouteRestoration(StatedReason):
    """Why results of a route are delivered again."""

    new_reference: bool = Field(False, description="Compare with what comes from tomorrow on: the change was meant.")


@router.post(
    "/drift/stops/{name}/restore",
    tags=["operator"],
    summary="Let a route deliver again",
    dependencies=[Operates, audited(AuditedAct.ROUTE_CHANGED)],
    responses=described(403, 404, 409),
)
def restore(
    parts: Parts, principal: CurrentPrincipal, name: RouteName, wanted: RouteRestoration
) -> Sequence[RouteStop]:
    """What comes from now on is delivered; a study of meanwhile when it is run again. Return what is in shadow then."""
    by = (principal.name, wanted.reason)
    with parts.database.write() as connection:
        restore_route(connection, name, by, datetime.now(UTC), new_reference=wanted.new_reference)
        return route_stops(connection)


def _cursor(one: DriftView) -> str:
    named = "\n".join((one.route, one.scanner, one.model, one.model_version, one.began_at.isoformat()))
    return hashlib.sha256(named.encode()).hexdigest()[:32]

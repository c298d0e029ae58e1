"""Routes in shadow: they run and their results are kept, and nothing of them is delivered until a person restores them.

Whether a route is in shadow is read in the transaction that enters a result, so that none is delivered that was entered
after the stop. Such a result shadows its own route, and whoever leaves out the results of shadow routes leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, select, update

from dicom_node.core.entities import Destination
from dicom_node.core.errors import IllegalTransition
from dicom_node.core.principal import Principal
from dicom_node.index.database import insert_of
from dicom_node.index.decided.actions import require_reason
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.shadows import SHADOW
from dicom_node.index.tables import drift_comparisons, drift_streams, jobs, stopped_routes
from dicom_node.index.transitions import record

_NAME_LENGTH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStop:
    """Since when and why a route is in shadow, or was: then `restored_at` says until when, and by whom."""

    route: str
    since: datetime
    stopped_by: str
    reason: str
    detail: Mapping[str, Any]
    restored_at: datetime | None
    restored_by: str
    restored_reason: str


def route_stops(connection: Connection, *, every: bool = False) -> list[RouteStop]:
    """Return the routes that are in shadow, by name; with `every` one also those that were."""
    query = select(stopped_routes).order_by(stopped_routes.c.route, stopped_routes.c.id)
    rows = connection.execute(query if every else query.where(stopped_routes.c.restored_at.is_(None)))
    return [_stop(row) for row in rows]


def _stop(row: Row[Any]) -> RouteStop:
    return RouteStop(
        route=row.route, since=row.since, stopped_by=row.stopped_by, reason=row.reason, detail=row.detail,
        restored_at=row.restored_at, restored_by=row.restored_by, restored_reason=row.restored_reason,
    )  # fmt: skip


def is_stopped(connection: Connection, route: str) -> bool:
    """Tell whether a route is in shadow."""
    standing = and_(stopped_routes.c.route == route, stopped_routes.c.restored_at.is_(None))
    return connection.execute(select(stopped_routes.c.id).where(standing)).first() is not None


def stop_route(
    connection: Connection, route: str, told: tuple[str, Mapping[str, Any]], actor: Principal, now: datetime
) -> bool:
    """Move a route to shadow; `told` is why, and what was seen. `False`: it is there already."""
    reason, detail = told
    row = {"route": route, "since": now, "stopped_by": actor.name[:_NAME_LENGTH], "reason": reason, "detail": detail,
           "restored_by": "", "restored_reason": ""}  # fmt: skip
    return connection.execute(insert_of(connection)(stopped_routes).values(row).on_conflict_do_nothing()).rowcount == 1


def restore_route(
    connection: Connection, route: str, by: tuple[str, str], now: datetime, *, new_reference: bool = False
) -> None:
    """Let results of a route be delivered again, `by` whom and why. Comparisons begin anew from the next day on; with a
    `new_reference`, what comes from then on is what later results are compared with.

    Raises `IllegalTransition` where it is not in shadow, and without a reason.
    """
    name, reason = by
    require_reason(reason)
    standing = and_(stopped_routes.c.route == route, stopped_routes.c.restored_at.is_(None))
    ended = {"restored_at": now, "restored_by": name[:_NAME_LENGTH], "restored_reason": reason.strip()}
    if connection.execute(update(stopped_routes).where(standing).values(ended)).rowcount == 0:
        raise IllegalTransition(f"Route {route} is not in shadow.")
    mine = drift_streams.c.route == route
    numbers = select(drift_streams.c.id).where(mine)
    connection.execute(delete(drift_comparisons).where(drift_comparisons.c.stream_id.in_(numbers)))
    tomorrow = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    if new_reference:
        anew = {"began_at": tomorrow, "compared_from": None, "reference": None, "reference_results": 0}
        connection.execute(update(drift_streams).where(mine).values(anew))
    else:
        complete = and_(mine, drift_streams.c.compared_from.is_not(None))
        connection.execute(update(drift_streams).where(complete).values(compared_from=tomorrow))


# --- jobs of such a route ------------------------------------------------------------------------------------------


def as_it_stands(connection: Connection, job: ClaimedJob) -> ClaimedJob:
    """Return a job that is about to end as one that shadows its own route, where that is in shadow by now; and as one
    that delivers, where it is not any more."""
    if job.shadow_of not in ("", job.route):
        return job
    shadow_of = job.route if is_stopped(connection, job.route) else ""
    if shadow_of != job.shadow_of:
        mine = and_(jobs.c.id == job.id, jobs.c.fence == job.fence)
        connection.execute(update(jobs).where(mine).values(shadow_of=shadow_of))
    return replace(job, shadow_of=shadow_of)


def tell_shadow(connection: Connection, job: ClaimedJob, now: datetime) -> None:
    """Say in the timeline, of a job that has ended in the shadow of its own route, that nothing is delivered."""
    if job.shadow_of == job.route:
        text = f"Route {job.route} is in shadow: its result is kept, and nothing of it is delivered."
        record(connection, job.study_instance_uid, now, (SHADOW, text), route=job.route)


def deliverable(connection: Connection, route: str, destinations: Sequence[Destination]) -> Sequence[Destination]:
    """Return who gets results of a route: nobody while it is in shadow."""
    return () if is_stopped(connection, route) else destinations

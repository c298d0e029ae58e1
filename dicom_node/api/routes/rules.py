"""The rules by which studies go to models: the routes, whether a person has suspended one, and what they would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy import Connection

from dicom_node.api.access import Administers, CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, NumberPageQuery
from dicom_node.api.answers.preconditions import LookedAt, MustBeLookedAt, MustBeLookedAtOrAbsent
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.api.routes.studies import StatedReason
from dicom_node.api.suspendable import Suspendable
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import DestinationState, Route
from dicom_node.core.errors import NotFound, SettingsError
from dicom_node.core.series.trial import RulesTrial
from dicom_node.governance.admission import Standing
from dicom_node.index.decided.route_edits import RouteEdit, newest_edits, versions_of
from dicom_node.index.decided.suspensions import held_counts, route_suspensions
from dicom_node.index.decided.suspensions import resume_route as resume
from dicom_node.index.decided.suspensions import suspend_route as suspend
from dicom_node.index.decided.versions_looked_at import version_of
from dicom_node.index.outbox.destinations import Suspension
from dicom_node.operate.routes_in_force import RouteChange, RouteOrigin
from dicom_node.operate.rules import MOST_STUDIES, proposed_routes, rules_of, try_rules, with_routes

router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))

RouteName = Annotated[
    str,
    Path(max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$", description="Name of a route.", examples=["chest-ct"]),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView(Route):
    """A route in force. One that a person has suspended (`state`, as of a destination) has who did it, the `reason` and
    the time `since` which it starts no analysis; `held` studies wait for it.
    `parameters` are those of its model that it sets otherwise.
    `edited` says who wrote it anew, over the configuration file's; `null`: nobody has.
    `version` is another after every change by a person; a change names the one that it was made from (`If-Match`)."""

    state: DestinationState = DestinationState.ACTIVE
    reason: str = ""
    since: datetime | None = None
    suspended_by: str = ""
    held: int = 0
    parameters: Mapping[str, float] = field(default_factory=dict)
    edited: RouteOrigin | None = None
    version: str = ""


@router.get("/routes", tags=["node"], summary="Which studies go to which model")
def get_routes(parts: Parts) -> Sequence[RouteView]:
    """The routes in force, in order."""
    with parts.database.read() as connection:
        return _views(connection, parts)


@router.post(
    "/routes/{name}/suspend",
    tags=["operator"],
    summary="Start no analysis by a route until a person resumes it",
    dependencies=[Operates, audited(AuditedAct.ROUTE_CHANGED)],
    responses=described(403, 404, 409, 412),
)
def suspend_route(
    parts: Parts, principal: CurrentPrincipal, name: RouteName, wanted: StatedReason, looked_at: LookedAt
) -> RouteView:
    """What the route had queued waits, and studies that it wants from now on are held and told so."""
    return _SUSPENDABLE.suspended(parts, name, looked_at, principal, wanted.reason)


@router.post(
    "/routes/{name}/resume",
    tags=["operator"],
    summary="Let a route go on",
    dependencies=[Operates, audited(AuditedAct.ROUTE_CHANGED)],
    responses=described(403, 404, 409, 412),
)
def resume_route(parts: Parts, principal: CurrentPrincipal, name: RouteName, looked_at: LookedAt) -> RouteView:
    """What the route had queued is run; on studies that were held for it all routes decide anew."""
    return _SUSPENDABLE.resumed(parts, name, looked_at, principal)


def _no_text(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("it must be a whole number")
    return value


class RulesToTry(BaseModel):
    """Routes that somebody has in mind, as tables of the settings (`routes`) or as their text (`toml`)."""

    model_config = ConfigDict(extra="forbid")

    routes: list[dict[str, Any]] = Field([], max_length=100, description="Each as a [[route]] of the settings.")
    toml: str = Field("", max_length=2000, description="One or more [[route]] tables.")
    studies: Annotated[int, BeforeValidator(_no_text)] = Field(
        200, ge=1, le=MOST_STUDIES, description="On so many of the latest studies, at most."
    )
    days: Annotated[int | None, BeforeValidator(_no_text)] = Field(
        None, ge=1, le=3650, description="Only on studies of so many days."
    )

    @property
    def proposed(self) -> Sequence[Mapping[str, object]]:
        """The routes, however they were given."""
        return [*self.routes, *(proposed_routes(self.toml) if self.toml.strip() else ())]


@router.post(
    "/rules/try",
    tags=["operator"],
    summary="Try routes on the studies that have come",
    dependencies=[Operates, audited(AuditedAct.QUERY)],
    responses=described(403, 409),
)
def try_routes(parts: Parts, wanted: RulesToTry) -> RulesTrial:
    """Hold routes against the present ones, on the latest studies: which would be analysed, what would change and why.

    Each takes the place of the present route of its name, or comes last. Nothing runs and nothing is changed. Without
    routes the present ones are held against what was decided when the studies came.
    """
    since = None if wanted.days is None else datetime.now(UTC) - timedelta(days=wanted.days)
    try:
        proposed = wanted.proposed
        settings = parts.routes.now().settings
        rules = rules_of(with_routes(settings, proposed), parts.cards)
        present = rules_of(settings, parts.cards) if proposed else None
    except SettingsError as error:
        raise ProblemError(409, str(error)) from error
    with parts.database.read() as connection:
        return try_rules(connection, present, rules, wanted.studies, since)


class RouteToSave(StatedReason):
    """A route as somebody wants it, as a table of the settings (`route`) or as its text (`toml`), and why."""

    route: dict[str, Any] | None = Field(None, description="As a [[route]] of the settings.")
    toml: str = Field("", max_length=2000, description="One [[route]] table.")

    def of_name(self, name: str) -> Mapping[str, Any]:
        """Return the route. Raises `SettingsError` where it is not one, of this name."""
        found = [self.route] if self.route is not None else proposed_routes(self.toml)
        if len(found) != 1 or found[0].get("name") != name:
            raise SettingsError(f"Write one route, with name = {name!r} as in the address.")
        return found[0]


@router.put(
    "/routes/{name}",
    tags=["admin"],
    summary="Write a route anew, or add one",
    dependencies=[Administers, audited(AuditedAct.ROUTE_CHANGED)],
    responses=described(403, 409, 412, 428),
)
def save_route(
    parts: Parts, principal: CurrentPrincipal, name: RouteName, wanted: RouteToSave, looked_at: MustBeLookedAtOrAbsent
) -> RouteView:
    """The route takes the place of the configuration file's, from the next look at studies on, without a restart. It is
    checked as the file is, and its model must be one that may run. Earlier versions are kept. `If-Match` names the
    `version` that was looked at; a new route comes with `If-None-Match: *`."""
    try:
        route = wanted.of_name(name)
        _require_admitted(parts, str(route.get("model", "")))
        parts.routes.save(route, RouteChange(wanted.reason, principal, datetime.now(UTC), looked_at))
    except SettingsError as error:
        raise ProblemError(409, str(error)) from error
    parts.wake()
    with parts.database.read() as connection:
        return _one(connection, parts, name)


def _require_admitted(parts: ApiParts, model: str) -> None:
    found = parts.models().get(model)
    if found is not None and found.standing is not Standing.LIVE:
        raise SettingsError(f"Model {model} may not run: {found.why}")


@router.post(
    "/routes/{name}/revert",
    tags=["admin"],
    summary="Let the configuration file's route be in force again",
    dependencies=[Administers, audited(AuditedAct.ROUTE_CHANGED)],
    responses=described(403, 404, 409, 412, 428),
)
def revert_route(
    parts: Parts, principal: CurrentPrincipal, name: RouteName, wanted: StatedReason, looked_at: MustBeLookedAt
) -> Sequence[RouteView]:
    """A route that the file does not have goes. Return the routes that are in force then. `If-Match` names the
    `version` that was looked at."""
    parts.routes.revert(name, RouteChange(wanted.reason, principal, datetime.now(UTC), looked_at))
    parts.wake()
    with parts.database.read() as connection:
        return _views(connection, parts)


@router.get(
    "/routes/{name}/versions",
    tags=["admin"],
    summary="Who wrote a route anew, when and why, the newest first",
    dependencies=[audited(AuditedAct.QUERY)],
    responses=PAGED,
)
def list_route_versions(
    parts: Parts, name: RouteName, pages: Annotated[ListPages, Depends()], asked: Annotated[NumberPageQuery, Query()]
) -> Sequence[RouteEdit]:
    """Every version that a person has made, with what stood in it; `settings` is `null` where they went back to the
    file's."""
    with parts.database.read() as connection:
        found = versions_of(connection, name, asked.limit + 1, asked.cursor)
    return pages.cut(found, asked.limit, lambda one: one.version)


def _require_known(parts: ApiParts, name: str) -> None:
    if name not in {route.name for route in parts.routes.now().routes}:
        raise NotFound(f"There is no route {name!r}.")


def _require_unchanged(parts: ApiParts, connection: Connection, name: str, looked_at: str | None) -> None:
    parts.routes.require_unchanged(connection, name, looked_at)


def _views(connection: Connection, parts: ApiParts) -> Sequence[RouteView]:
    suspended, held, present = route_suspensions(connection), held_counts(connection), parts.routes.now()
    newest = newest_edits(connection)
    views = [_view(route, suspended.get(route.name), held.get(route.name, 0)) for route in present.routes]
    parameters = {one.name: one.parameters for one in present.settings.route}
    return [
        replace(
            one, parameters=parameters.get(one.name, {}), edited=present.origins.get(one.name),
            version=version_of(suspended.get(one.name), newest.get(one.name)),
        )
        for one in views
    ]  # fmt: skip


def _view(route: Route, suspension: Suspension | None, held: int) -> RouteView:
    told: dict[str, Any] = {one.name: getattr(route, one.name) for one in fields(route)}
    if suspension is not None:
        standing = DestinationState.SUSPENDED
        told |= {"state": standing, "reason": suspension.reason, "since": suspension.since}
        told |= {"suspended_by": suspension.by}
    return RouteView(**told, held=held)


def _one(connection: Connection, parts: ApiParts, name: str) -> RouteView:
    return next(one for one in _views(connection, parts) if one.name == name)


_SUSPENDABLE = Suspendable(
    require_known=_require_known, require_unchanged=_require_unchanged, suspend=suspend, resume=resume, shown=_one
)

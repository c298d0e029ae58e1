"""Where results go: what each destination takes, and what it gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from sqlalchemy import Connection

from dicom_node.api.access import CurrentPrincipal, SignedIn
from dicom_node.api.parts import Parts
from dicom_node.api.problems import described
from dicom_node.api.routes.studies import Requeued
from dicom_node.core.entities import DestinationState, MediaType
from dicom_node.core.errors import NotFound
from dicom_node.core.outputs.artifact_kinds import RESULT_CLASSES
from dicom_node.core.outputs.capability_match import in_words
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller, DestinationKind, DicomObjectsKind, caller_of
from dicom_node.deliver.profiles import Profiles, profiles_of
from dicom_node.deliver.server_memory import capabilities_of
from dicom_node.index import actions
from dicom_node.index.outbox.destinations import Suspension, recall, suspensions

_WORDS: Mapping[str, str] = {MediaType.FHIR: "FHIR", MediaType.HL7: "HL7 v2"}
router = APIRouter(prefix="/api", dependencies=[SignedIn], responses=described(401, 422, 429, 503))


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationView:
    """One destination. `gets` are the kinds of object sent to it, `left_out` says what its settings want and it lacks.

    `is_asked` tells whether it is one that can be asked what it takes. `takes` and `refused` are what it said when it
    was asked (`heard_at`) and what it refused; `None`: never heard. `query_refused_at` is when it was last asked whose
    study it has and could not be; results are sent to it unasked. `learned` says of a FHIR server how reports go there.
    A `state` of SUSPENDED has a `reason` and the time `since` which nothing is sent.
    """

    name: str
    kind: str
    preset: str
    gets: Sequence[str]
    left_out: Sequence[str]
    problem: str
    implementation: str
    is_asked: bool
    takes: Sequence[str] | None
    refused: Sequence[str]
    heard_at: datetime | None
    query_refused_at: datetime | None
    state: DestinationState
    reason: str
    since: datetime | None
    learned: Sequence[str] = ()


@router.get("/destinations", tags=["node"], summary="Where results go, and in which objects")
def get_destinations(parts: Parts) -> Sequence[DestinationView]:
    """Every destination: what it gets, and what it takes as far as it has been asked."""
    profiles = profiles_of(parts.settings)
    with parts.database.read() as connection:
        suspended = suspensions(connection)
        caller, known = caller_of(parts.settings), destinations_of(parts.settings)
        holds = timedelta(seconds=parts.settings.delivery.ask_again_s)
        views = [_view(connection, profiles, caller, one, suspended.get(one.name)) for one in known]
        return [_with_learned(connection, view, one, holds) for view, one in zip(views, known, strict=True)]


@router.post(
    "/destinations/{name}/retry",
    tags=["operator"],
    summary="Send everything to a destination again",
    responses=described(403, 404),
)
def retry_destination(parts: Parts, principal: CurrentPrincipal, name: Annotated[str, Path(max_length=64)]) -> Requeued:
    """Make every parked or waiting delivery to a destination due now, and end its suspension."""
    if name not in {one.name for one in destinations_of(parts.settings)}:
        raise NotFound(f"There is no destination {name!r} in the configuration.")
    with parts.database.write() as connection:
        ids = actions.retry_destination(connection, name, principal, datetime.now(UTC))
    parts.wake()
    return Requeued(ids)


def _view(
    connection: Connection,
    profiles: Profiles,
    caller: Caller,
    destination: DestinationKind,
    suspension: Suspension | None,
) -> DestinationView:
    fitted = profiles.fitted(connection, destination.name)
    known = recall(connection, destination.name, profiles.by_name[destination.name].address)
    objects = destination if isinstance(destination, DicomObjectsKind) else None
    return DestinationView(
        name=destination.name,
        kind=destination.kind,
        preset=objects.preset if objects else "",
        gets=in_words(fitted.outputs) if objects else _types(destination.takes),
        left_out=fitted.left_out,
        problem=fitted.problem,
        implementation=known.implementation if known else "",
        is_asked=destination.probe(caller) is not None,
        takes=_kinds(known.accepted) if known and known.accepted is not None else None,
        refused=_kinds(known.capabilities(datetime.now(UTC)).refused) if known else (),
        heard_at=known.heard_at if known else None,
        query_refused_at=known.query_refused_at if known and destination.identity_query(caller) else None,
        state=DestinationState.SUSPENDED if suspension else DestinationState.ACTIVE,
        reason=suspension.reason if suspension else "",
        since=suspension.since if suspension else None,
    )


def _with_learned(
    connection: Connection, view: DestinationView, destination: DestinationKind, holds: timedelta
) -> DestinationView:
    """Return the view with what was learned of a FHIR server, and when it was asked."""
    known = recall(connection, destination.name, destination.server_address) if destination.server_address else None
    if known is None:
        return view
    return replace(view, learned=capabilities_of(known, holds).in_words(), heard_at=known.heard_at)


def _types(media_types: Collection[str]) -> Sequence[str]:
    """Return what is no DICOM in words; a media type without a word is its own."""
    return [_WORDS.get(one, one) for one in sorted(media_types)]


def _kinds(sop_class_uids: Collection[str]) -> Sequence[str]:
    return [kind for uid, kind in RESULT_CLASSES.items() if uid in sop_class_uids]

"""Where results go: what each destination takes, and what it gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path
from sqlalchemy import Connection

from dicom_node.api.access import CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.preconditions import LookedAt
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.api.routes.studies import Requeued, StatedReason
from dicom_node.api.suspendable import Suspendable
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import DestinationState, MediaType
from dicom_node.core.errors import NotFound
from dicom_node.core.outputs.artifact_kinds import RESULT_CLASSES
from dicom_node.core.outputs.capability_match import in_words
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import Caller, DestinationKind, DicomObjectsKind, caller_of
from dicom_node.deliver.profiles import Profiles, profiles_of
from dicom_node.deliver.server_memory import capabilities_of
from dicom_node.index.decided import actions
from dicom_node.index.decided.suspensions import resume_destination as resume
from dicom_node.index.decided.suspensions import suspend_destination as suspend
from dicom_node.index.decided.versions_looked_at import require_version, take_turn_to_change, version_of
from dicom_node.index.outbox.destinations import Suspension, recall, suspensions

_WORDS: Mapping[str, str] = {MediaType.FHIR: "FHIR", MediaType.HL7: "HL7 v2"}
router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))

DestinationName = Annotated[str, Path(max_length=64, description="Name of a destination.", examples=["pacs"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationView:
    """One destination. `gets` are the kinds of object sent to it, `left_out` says what its settings want and it lacks.

    `is_asked` tells whether it is one that can be asked what it takes. `takes` and `refused` are what it said when it
    was asked (`heard_at`) and what it refused; `None`: never heard. `query_refused_at` is when it was last asked whose
    study it has and could not be; results are sent to it unasked. `learned` says of a FHIR server how reports go there.
    A `state` of SUSPENDED has a `reason` and the time `since` which nothing is sent. `suspended_by` is the person who
    did that, and whom only a person undoes; empty where the node did, because it is not let in: then it tries again.
    `version` is another after every change by a person; a change may name the one that it was made from (`If-Match`).
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
    suspended_by: str = ""
    learned: Sequence[str] = ()
    version: str = ""


@router.get("/destinations", tags=["node"], summary="Where results go, and in which objects")
def get_destinations(parts: Parts) -> Sequence[DestinationView]:
    """Every destination: what it gets, and what it takes as far as it has been asked."""
    with parts.database.read() as connection:
        return _views(connection, parts)


@router.post(
    "/destinations/{name}/retry",
    tags=["operator"],
    summary="Send everything to a destination again",
    dependencies=[Operates, audited(AuditedAct.RETRY)],
    responses=described(403, 404, 409),
)
def retry_destination(parts: Parts, principal: CurrentPrincipal, name: DestinationName) -> Requeued:
    """Make every parked or waiting delivery to a destination due now, and end the node's own suspension of it. One that
    a person has suspended is resumed instead."""
    _require_known(parts, name)
    with parts.database.write() as connection:
        ids = actions.retry_destination(connection, name, principal, datetime.now(UTC))
    parts.wake()
    return Requeued(ids)


@router.post(
    "/destinations/{name}/suspend",
    tags=["operator"],
    summary="Send nothing to a destination until a person resumes it",
    dependencies=[Operates, audited(AuditedAct.DESTINATION_CHANGED)],
    responses=described(403, 404, 409, 412),
)
def suspend_destination(
    parts: Parts, principal: CurrentPrincipal, name: DestinationName, wanted: StatedReason, looked_at: LookedAt
) -> DestinationView:
    """What is owed to the destination waits, and nothing of it is parked or lost. It does not go on by itself."""
    return _SUSPENDABLE.suspended(parts, name, looked_at, principal, wanted.reason)


@router.post(
    "/destinations/{name}/resume",
    tags=["operator"],
    summary="Send to a destination again",
    dependencies=[Operates, audited(AuditedAct.DESTINATION_CHANGED)],
    responses=described(403, 404, 409, 412),
)
def resume_destination(
    parts: Parts, principal: CurrentPrincipal, name: DestinationName, looked_at: LookedAt
) -> DestinationView:
    """What waits for the destination is due at once, the most urgent first."""
    return _SUSPENDABLE.resumed(parts, name, looked_at, principal)


def _require_known(parts: ApiParts, name: str) -> None:
    if name not in {one.name for one in destinations_of(parts.settings)}:
        raise NotFound(f"There is no destination {name!r} in the configuration.")


def _require_unchanged(_parts: ApiParts, connection: Connection, name: str, looked_at: str | None) -> None:
    take_turn_to_change(connection)
    require_version(looked_at, f"Destination {name}", True, suspensions(connection).get(name))


def _views(connection: Connection, parts: ApiParts) -> Sequence[DestinationView]:
    profiles, suspended = profiles_of(parts.settings), suspensions(connection)
    caller, known = caller_of(parts.settings), destinations_of(parts.settings)
    holds = timedelta(seconds=parts.settings.delivery.ask_again_s)
    views = [_view(connection, profiles, caller, one, suspended.get(one.name)) for one in known]
    return [_with_learned(connection, view, one, holds) for view, one in zip(views, known, strict=True)]


def _one(connection: Connection, parts: ApiParts, name: str) -> DestinationView:
    return next(one for one in _views(connection, parts) if one.name == name)


_SUSPENDABLE = Suspendable(
    require_known=_require_known, require_unchanged=_require_unchanged, suspend=suspend, resume=resume, shown=_one
)


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
        suspended_by=suspension.by if suspension else "",
        version=version_of(suspension),
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

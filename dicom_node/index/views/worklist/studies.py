"""Read-only queries for the worklist: studies by urgency, each with what was found, what waits, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from dicom_node.core.entities import DecisionState, DeliveryState, JobState, ResultState, ReviewState, StudyState
from dicom_node.core.errors import NotFound
from dicom_node.core.priority import Priority
from dicom_node.index.outbox.destinations import suspensions
from dicom_node.index.received.worklist import URGENCIES
from dicom_node.index.tables import deliveries, instances, jobs, results, studies
from dicom_node.index.versions import IN_USE, IS_IMAGE
from dicom_node.index.views.lists import study_lines
from dicom_node.index.views.reviews import decisions_on_results
from dicom_node.index.views.types import StudyLine
from dicom_node.index.views.worklist.filter import STANDING, WorklistFilter, WorklistPlace, conditions
from dicom_node.index.views.worklist.findings import in_one_line

#: What somebody has decided, and nobody has to confirm.
_COUNTS = (DecisionState.DECIDED, DecisionState.DONE)
_PRIORITIES = {number: priority for priority, number in URGENCIES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLine:
    """What one route did with the study: where its analysis stands, and what its result says that holds now.

    `reason` is a code and `message` a sentence on why there is none, or not all. `result` is the key of the result,
    "" while there is none; `finding` what it says in one line, what is present first. `review` is what a person has
    said of it and `reviewed_by` who; what was rejected says nothing more.
    """

    route: str
    model: str
    state: JobState
    reason: str
    message: str
    result: str = ""
    finding: str = ""
    is_positive: bool = False
    review: ReviewState = ReviewState.UNREVIEWED
    reviewed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """Objects of a study that one destination does not take, or has refused for good (PARKED); `note` says why."""

    destination: str
    state: DeliveryState
    objects: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistLine:
    """One study in the worklist. `stations` are names of the machines and AE titles of who sent it; `says` is one
    sentence: where it stands, and what keeps its result."""

    study: StudyLine
    urgency: Priority
    stations: Sequence[str]
    routes: Sequence[RouteLine]
    undelivered: Sequence[Undelivered]
    says: str
    #: Where an image of it lies that says whose it is; "" where none is kept.
    object_key: str


def worklist(connection: Connection, limit: int, wanted: WorklistFilter) -> list[WorklistLine]:
    """List studies by urgency, the latest first; at most `limit`."""
    place = (studies.c.urgency.desc(), studies.c.last_received_at.desc(), studies.c.study_instance_uid.desc())
    query = select(studies).where(*conditions(wanted)).order_by(*place).limit(limit)
    return _lines(connection, connection.execute(query).all())


def worklist_line(connection: Connection, study_instance_uid: str) -> WorklistLine:
    """Return one study as the worklist has it. Raises `NotFound`."""
    mine = studies.c.study_instance_uid == study_instance_uid
    found = _lines(connection, connection.execute(select(studies).where(mine)).all())
    if not found:
        raise NotFound(f"No study {study_instance_uid} has been received. Check the UID.")
    return found[0]


def place_of(line: WorklistLine) -> WorklistPlace:
    """Return where a study stands in the worklist."""
    return WorklistPlace(URGENCIES[line.urgency], line.study.last_received_at, line.study.study_instance_uid)


# --- what is told of each ------------------------------------------------------------------------------------------


def _lines(connection: Connection, rows: Sequence[Row[Any]]) -> list[WorklistLine]:
    uids = [row.study_instance_uid for row in rows]
    routes, lacking = _routes(connection, uids), _undelivered(connection, uids)
    keys = _object_keys(connection, uids)
    away = suspensions(connection)
    return [
        WorklistLine(
            study=study, urgency=Priority(_PRIORITIES[row.urgency]), stations=row.stations.strip("|").split("|"),
            routes=routes[row.study_instance_uid], undelivered=lacking[row.study_instance_uid],
            says=_sentence(study, routes[row.study_instance_uid], lacking[row.study_instance_uid], away),
            object_key=keys.get(row.study_instance_uid, ""),
        )
        for row, study in zip(rows, study_lines(connection, rows), strict=True)
    ]  # fmt: skip


def _routes(connection: Connection, uids: Sequence[str]) -> Mapping[str, list[RouteLine]]:
    """Return what each route did with each study; those of shadows are nobody's answer."""
    query = (
        select(jobs)
        .join(studies, studies.c.study_instance_uid == jobs.c.study_instance_uid)
        .where(jobs.c.study_instance_uid.in_(uids), jobs.c.revision == studies.c.revision, jobs.c.shadow_of == "")
    )
    holding = _results(connection, uids)
    reviewers = _reviewers(connection, [result.job_key for result in holding.values()])
    found: defaultdict[str, list[RouteLine]] = defaultdict(list)
    for job in connection.execute(query.order_by(jobs.c.id)):
        result = holding.get((job.study_instance_uid, job.route))
        found[job.study_instance_uid].append(_route(job, result, reviewers))
    return found


def _results(connection: Connection, uids: Sequence[str]) -> Mapping[tuple[str, str], Row[Any]]:
    query = select(results).where(
        results.c.study_instance_uid.in_(uids),
        results.c.standing.in_(STANDING),
        results.c.shadow_of == "",
    )
    return {(row.study_instance_uid, row.route): row for row in connection.execute(query.order_by(results.c.sequence))}


def _reviewers(connection: Connection, job_keys: Sequence[str]) -> Mapping[str, str]:
    """Return, by job key, who has decided on each of these results; a decision that awaits another is none yet, and
    one that failed is none."""
    decided = decisions_on_results(connection, job_keys)
    return {key: row.reviewer_name for key, row in decided.items() if row.state in _COUNTS}


def _route(job: Row[Any], result: Row[Any] | None, reviewers: Mapping[str, str]) -> RouteLine:
    told = {"route": job.route, "model": job.model, "state": JobState(job.state)}
    if result is None:
        return RouteLine(reason=job.reason, message=job.message, **told)
    if result.standing == ResultState.REJECTED:
        return RouteLine(
            reason="", message="", result=result.job_key, review=ReviewState.REJECTED,
            reviewed_by=reviewers.get(result.job_key, ""), **told,
        )  # fmt: skip
    found = in_one_line(result.summary)
    return RouteLine(
        reason=result.reason, message=result.message, result=result.job_key, finding=found.text,
        is_positive=found.is_positive, review=ReviewState(result.review_state),
        reviewed_by=reviewers.get(result.job_key, ""), **told,
    )  # fmt: skip


def _undelivered(connection: Connection, uids: Sequence[str]) -> Mapping[str, list[Undelivered]]:
    """Return what has been refused, or was tried in vain and is tried again."""
    tried = and_(deliveries.c.state == DeliveryState.PENDING, deliveries.c.attempts > 0)
    counted = (func.count().label("objects"), func.max(deliveries.c.note).label("note"))
    place = (results.c.study_instance_uid, deliveries.c.destination, deliveries.c.state)
    query = (
        select(*place, *counted)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(results.c.study_instance_uid.in_(uids), or_(deliveries.c.state == DeliveryState.PARKED, tried))
        .group_by(*place)
        .order_by(*place)
    )
    found: defaultdict[str, list[Undelivered]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.study_instance_uid].append(
            Undelivered(destination=row.destination, state=DeliveryState(row.state), objects=row.objects, note=row.note)
        )
    return found


def _object_keys(connection: Connection, uids: Sequence[str]) -> Mapping[str, str]:
    first = (
        select(func.min(instances.c.id))
        .where(instances.c.study_instance_uid.in_(uids), IS_IMAGE, IN_USE)
        .group_by(instances.c.study_instance_uid)
    )
    query = select(instances.c.study_instance_uid, instances.c.object_key).where(instances.c.id.in_(first))
    return {row.study_instance_uid: row.object_key for row in connection.execute(query)}


# --- in one sentence -----------------------------------------------------------------------------------------------

_OF_JOB = {
    JobState.QUEUED: "waits for its analysis",
    JobState.RUNNING: "is being analysed",
    JobState.FAILED: "failed",
    JobState.NOT_ANALYSABLE: "was not analysed",
    JobState.PARTIAL: "answered for a part only",
}


def _sentence(
    study: StudyLine, routes: Sequence[RouteLine], lacking: Sequence[Undelivered], away: Mapping[str, Any]
) -> str:
    if study.state is StudyState.RECEIVING:
        return "Images are still arriving: the analysis begins when their sender has been quiet for a while."
    told = [_of_route(one) for one in routes if one.state in _OF_JOB]
    told += [_of_destination(one, away) for one in lacking]
    if told:
        return " ".join(told)
    if study.state is not StudyState.REPORTED:
        return study.reason
    if study.deliveries.pending:
        return f"Reported; {_objects(study.deliveries.pending)} on the way."
    arrived = study.deliveries.sent + study.deliveries.committed
    return "Reported and delivered." if arrived else "Reported; no destination gets its results."


def _of_route(route: RouteLine) -> str:
    why = f": {route.message.rstrip('.')}" if route.message else f": {route.reason}" if route.reason else ""
    return f"Route {route.route} ({route.model}) {_OF_JOB[route.state]}{why}."


def _of_destination(lack: Undelivered, away: Mapping[str, Any]) -> str:
    name = lack.destination
    if name in away:
        return f"{name} gets nothing, it is suspended: {away[name].reason.rstrip('.')}."
    why = f": {lack.note.rstrip('.')}" if lack.note else ""
    if lack.state is DeliveryState.PARKED:
        return f"{name} has refused {_objects(lack.objects)}{why}."
    return f"{name} has not taken {_objects(lack.objects)} yet, to be tried again by itself{why}."


def _objects(number: int) -> str:
    return "1 object" if number == 1 else f"{number} objects"

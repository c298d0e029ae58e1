"""What others are told of a change of state: the event, in the words of `core.event_types`, and who hears of it.

Composed in the transaction of the change, from the rows as they are then; `transitions` writes it down there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from dicom_node.core.entities import DecisionState, JobState, KeptKind, Presence, ResultState, StudyState
from dicom_node.core.outputs.event_types import EventType
from dicom_node.core.priority import Priority
from dicom_node.index.tables import (
    artifacts,
    deletions,
    deliveries,
    instances,
    jobs,
    results,
    reviews,
    studies,
    subscribers,
)
from dicom_node.index.versions import IS_IMAGE

#: Place of each priority among them: the smallest goes first.
_URGENCY = {one.value: place for place, one in enumerate(Priority)}
#: Nothing is more urgent than that a result does not hold, or that nothing is sent.
_FIRST = 0
#: What a model of a site's own calls a reason may be a sentence, and a sentence may name the patient.
_CODE = re.compile(r"[A-Z0-9_]{1,64}")

OF_RESULT: Mapping[JobState, EventType] = {
    JobState.DONE: EventType.RESULT_MADE,
    JobState.PARTIAL: EventType.RESULT_MADE,
    JobState.NOT_ANALYSABLE: EventType.RESULT_NOT_ANALYSED,
}
OF_STANDING: Mapping[ResultState, EventType] = {
    ResultState.SUPERSEDED: EventType.RESULT_SUPERSEDED,
    ResultState.WITHDRAWN: EventType.RESULT_WITHDRAWN,
    ResultState.REJECTED: EventType.RESULT_REJECTED,
}
_TAKES_BACK = frozenset({EventType.RESULT_WITHDRAWN, EventType.RESULT_REJECTED})
#: A decision on which all agree, and one of those that was told by no report in the end.
OF_REVIEW: Mapping[DecisionState, EventType] = {
    DecisionState.DECIDED: EventType.RESULT_REVIEWED,
    DecisionState.FALLEN: EventType.REVIEW_FALLEN,
    DecisionState.FAILED: EventType.REVIEW_FAILED,
}
OF_STUDY: Mapping[StudyState, EventType] = {
    StudyState.NOT_ANALYSED: EventType.STUDY_NOT_ANALYSED,
    StudyState.FAILED: EventType.STUDY_FAILED,
}


OF_DELETION: Mapping[KeptKind, EventType] = {
    KeptKind.IMAGES: EventType.STUDY_IMAGES_DELETED,
    KeptKind.RESULTS: EventType.STUDY_RESULTS_DELETED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event before it is owed to anybody. `route` is empty where it is about no route, or about several."""

    type: EventType
    facts: Mapping[str, object]
    study_instance_uid: str = ""
    route: str = ""
    urgency: int = _FIRST
    #: The destination it is about, which is not told of itself.
    about_destination: str = ""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A destination that is told of events: of the results of these routes (none: of all), and what these tell of
    patient and order."""

    name: str
    routes: Sequence[str] = ()
    include: Sequence[str] = field(default=())

    def hears(self, notice: Notice) -> bool:
        """Tell whether the event is for this destination. What is about no single route is for everybody."""
        concerns = not notice.route or not self.routes or notice.route in self.routes
        return concerns and notice.about_destination != self.name


def subscribers_in(connection: Connection) -> list[Subscriber]:
    """Return the destinations that are told of events."""
    query = select(subscribers).order_by(subscribers.c.name)
    return [Subscriber(row.name, row.routes, row.include) for row in connection.execute(query)]


def body_of(connection: Connection, notice: Notice, subscriber: Subscriber, at: datetime) -> str:
    """Return the JSON that one subscriber gets: type, time (RFC 3339), and facts as far as it asks for them."""
    facts = dict(notice.facts)
    if "accession_number" in subscriber.include and notice.study_instance_uid:
        facts["accession_number"] = accession_number(connection, notice.study_instance_uid)
    return json_of(notice, facts, at)


def json_of(notice: Notice, facts: Mapping[str, object], at: datetime) -> str:
    """Return an event as JSON, on one line."""
    told = {"type": notice.type.value, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": facts}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def accession_number(connection: Connection, study_instance_uid: str) -> str:
    """Return the study's Accession Number as its newest image has it; empty where that names none."""
    mine = and_(instances.c.study_instance_uid == study_instance_uid, IS_IMAGE, instances.c.superseded_at.is_(None))
    query = select(instances.c.attributes).where(mine).order_by(instances.c.id.desc()).limit(1)
    return str((connection.execute(query).scalar() or {}).get("accession_number", ""))


def model_of(summary: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return version and digest of the model that a result's summary names; empty where it names none."""
    model = (summary or {}).get("model")
    model = model if isinstance(model, dict) else {}
    return str(model.get("version", "")), str(model.get("digest", ""))


# --- of each kind ------------------------------------------------------------------------------------------------


def of_result(connection: Connection, kind: EventType, job_key: str) -> Iterator[Notice]:
    """Yield what is told of a result; of one that runs in the shadow nothing is."""
    row = connection.execute(select(results).where(results.c.job_key == job_key)).one()
    if row.shadow_of:
        return
    facts = _facts_of(row)
    if kind is EventType.RESULT_MADE:
        facts["findings"] = _counted(row.summary)
    urgency = _FIRST if kind in _TAKES_BACK else _urgency_of(connection, row)
    yield Notice(
        type=kind, facts=facts, study_instance_uid=row.study_instance_uid, route=row.route, urgency=urgency
    )  # fmt: skip


def _facts_of(row: Row[Any]) -> dict[str, object]:
    return {
        "study_instance_uid": row.study_instance_uid, "revision": row.revision, "route": row.route,
        "model": {"name": row.model, "version": model_of(row.summary)[0]}, "result": row.job_key,
        "sequence": row.sequence, "state": row.state, "reason": _code(row.reason),
    }  # fmt: skip


def of_review(connection: Connection, kind: EventType, number: int) -> Iterator[Notice]:
    """Yield what is told of a decision: what was decided on which result, and not by whom."""
    review = connection.execute(select(reviews).where(reviews.c.id == number)).one()
    row = connection.execute(select(results).where(results.c.job_key == review.job_key)).one()
    yield Notice(
        type=kind,
        facts=_facts_of(row) | {"review": number, "decision": review.review_state},
        study_instance_uid=row.study_instance_uid, route=row.route, urgency=_urgency_of(connection, row),
    )  # fmt: skip


def _counted(summary: Mapping[str, Any]) -> Mapping[str, int]:
    found = [one for one in summary.get("findings") or () if isinstance(one, dict)]
    return {"evaluated": len(found), "present": sum(one.get("presence") == Presence.PRESENT for one in found)}


def _urgency_of(connection: Connection, result: Row[Any]) -> int:
    mine = and_(jobs.c.study_instance_uid == result.study_instance_uid, jobs.c.job_key == result.job_key)
    stated = connection.execute(select(jobs.c.priority).where(mine)).scalars()
    return min((_URGENCY[one] for one in stated), default=_URGENCY[Priority.ROUTINE])


def of_job(connection: Connection, number: int) -> Iterator[Notice]:
    """Yield what is told of an analysis that was given up."""
    row = connection.execute(select(jobs).where(jobs.c.id == number)).one()
    if row.shadow_of:
        return
    facts = {
        "study_instance_uid": row.study_instance_uid, "revision": row.revision, "route": row.route,
        "model": {"name": row.model}, "reason": _code(row.reason),
    }  # fmt: skip
    yield Notice(
        type=EventType.ANALYSIS_FAILED, facts=facts, study_instance_uid=row.study_instance_uid, route=row.route,
        urgency=_URGENCY[row.priority],
    )  # fmt: skip


def of_study(connection: Connection, kind: EventType, study_instance_uid: str) -> Iterator[Notice]:
    """Yield what is told of a study that came to its end without a result."""
    mine = studies.c.study_instance_uid == study_instance_uid
    revision = connection.execute(select(studies.c.revision).where(mine)).scalar_one()
    of_revision = and_(jobs.c.study_instance_uid == study_instance_uid, jobs.c.revision == revision)
    query = select(jobs.c.reason, jobs.c.priority).where(of_revision, jobs.c.shadow_of == "").order_by(jobs.c.id)
    rows = connection.execute(query).all()
    facts = {
        "study_instance_uid": study_instance_uid,
        "revision": revision,
        "reasons": [_code(row.reason) for row in rows if row.reason],
    }
    urgency = min((_URGENCY[row.priority] for row in rows), default=_URGENCY[Priority.ROUTINE])
    yield Notice(type=kind, facts=facts, study_instance_uid=study_instance_uid, urgency=urgency)


def of_deletion(connection: Connection, number: int) -> Iterator[Notice]:
    """Yield what is told of images or results that were deleted."""
    query = select(deletions, studies.c.revision).join(
        studies, studies.c.study_instance_uid == deletions.c.study_instance_uid
    )
    row = connection.execute(query.where(deletions.c.id == number)).one()
    facts = {
        "study_instance_uid": row.study_instance_uid, "revision": row.revision, "rule": row.rule,
        "objects": row.objects, "size_bytes": row.size_bytes,
    }  # fmt: skip
    yield Notice(
        type=OF_DELETION[KeptKind(row.kind)], facts=facts, study_instance_uid=row.study_instance_uid,
        urgency=_URGENCY[Priority.LOW],
    )  # fmt: skip


def of_delivery(connection: Connection, number: int) -> Iterator[Notice]:
    """Yield what is told of an object that a destination will not take."""
    row = connection.execute(
        select(deliveries, artifacts.c.kind, results.c.study_instance_uid, results.c.route)
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .join(results, results.c.job_key == deliveries.c.job_key)
        .where(deliveries.c.id == number)
    ).one()
    facts = {
        "study_instance_uid": row.study_instance_uid, "route": row.route, "result": row.job_key,
        "destination": row.destination, "delivery": number, "kind": row.kind, "object": row.artifact_uid,
    }  # fmt: skip
    yield Notice(
        type=EventType.DELIVERY_PARKED, facts=facts, study_instance_uid=row.study_instance_uid, route=row.route,
        urgency=row.urgency,
    )  # fmt: skip


def of_destination(kind: EventType, name: str) -> Iterator[Notice]:
    """Yield what is told of a destination, to the others."""
    yield Notice(type=kind, facts={"destination": name}, about_destination=name)


def of_route(kind: EventType, name: str) -> Iterator[Notice]:
    """Yield what is told of a route."""
    yield Notice(type=kind, facts={"route": name}, route=name)


def _code(reason: str) -> str:
    return reason if not reason or _CODE.fullmatch(reason) else "OTHER"

"""Every type of event that the node tells others of, in one table: when it happens, and what is told of it.

Whoever makes an event names its type from here, and the reference of events is written from the table. An event of a
new kind is a line here and the place in `index/transitions` where the state changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class EventType(StrEnum):
    """The name an event travels under."""

    RESULT_MADE = "result.made"
    RESULT_NOT_ANALYSED = "result.not_analysed"
    RESULT_SUPERSEDED = "result.superseded"
    RESULT_WITHDRAWN = "result.withdrawn"
    RESULT_REJECTED = "result.rejected"
    RESULT_REVIEWED = "result.reviewed"
    REVIEW_FALLEN = "review.fallen"
    REVIEW_FAILED = "review.failed"
    ANALYSIS_FAILED = "analysis.failed"
    STUDY_NOT_ANALYSED = "study.not_analysed"
    STUDY_FAILED = "study.failed"
    STUDY_IMAGES_DELETED = "study.images_deleted"
    STUDY_RESULTS_DELETED = "study.results_deleted"
    DELIVERY_PARKED = "delivery.parked"
    DESTINATION_SUSPENDED = "destination.suspended"
    DESTINATION_RESUMED = "destination.resumed"
    ROUTE_SUSPENDED = "route.suspended"
    ROUTE_RESUMED = "route.resumed"


#: What an event may tell, and what it means. Nothing here names a patient or repeats what a person or a peer wrote.
FACTS: Mapping[str, str] = {
    "study_instance_uid": "Study Instance UID (0020,000D).",
    "revision": "Which revision of the study: a late image or a correction opens the next.",
    "route": "Name of the route.",
    "model": "Name and version of the model.",
    "result": "Name of the result; the same in the API and in sidecars.",
    "sequence": "1 for the first result of a study and route, 2 for the one that follows it.",
    "state": "How it ended: `DONE`, `PARTIAL` or `NOT_ANALYSABLE`.",
    "reason": "Code of [Reasons](reasons.md); empty where there is none.",
    "reasons": "Codes of [Reasons](reasons.md), one for each route that did not answer; empty: no route wanted it.",
    "findings": "How many findings the model evaluated, and how many of them are present.",
    "review": "Number of the review, as the API has it.",
    "decision": "What was decided: `ACCEPTED`, `MODIFIED` or `REJECTED`.",
    "rule": "The setting by which it was deleted, such as `images_days = 90`.",
    "objects": "How many objects were deleted.",
    "size_bytes": "How many bytes these were.",
    "destination": "Name of the destination.",
    "delivery": "Number of the delivery, as `dicom-node retry` and the API take it.",
    "kind": "Kind of the object: `SR`, `SC`, `SEG`, `FHIR` …",
    "object": "SOP Instance UID of the object, or the UID of a FHIR Bundle.",
    "accession_number": "Accession Number (0008,0050), where the destination's `include` names it.",
}

_DELETED = ("study_instance_uid", "revision", "rule", "objects", "size_bytes")
_RESULT = ("study_instance_uid", "revision", "route", "model", "result", "sequence", "state", "reason")


@dataclass(frozen=True, slots=True)
class KindOfEvent:
    """When an event of a type happens, and the keys of `FACTS` that it tells."""

    when: str
    facts: tuple[str, ...]


EVENT_TYPES: Mapping[EventType, KindOfEvent] = {
    EventType.RESULT_MADE: KindOfEvent("A model has answered.", (*_RESULT, "findings")),
    EventType.RESULT_NOT_ANALYSED: KindOfEvent("A model must not answer for this study.", _RESULT),
    EventType.RESULT_SUPERSEDED: KindOfEvent("A later result took the place of this one.", _RESULT),
    EventType.RESULT_WITHDRAWN: KindOfEvent("A person or a correction has withdrawn the result.", _RESULT),
    EventType.RESULT_REJECTED: KindOfEvent("A reviewer has rejected the result: it is taken back.", _RESULT),
    EventType.RESULT_REVIEWED: KindOfEvent(
        "A named person has decided on the result; of one that is accepted or modified, the reviewed result follows.",
        (*_RESULT, "review", "decision"),
    ),
    EventType.REVIEW_FALLEN: KindOfEvent(
        "What was decided is told by no report: the result was replaced or taken back before that was made.",
        (*_RESULT, "review", "decision"),
    ),
    EventType.REVIEW_FAILED: KindOfEvent(
        "The reviewed result could not be made at any attempt. The result stands, unreviewed: somebody must look, and "
        "decide again.",
        (*_RESULT, "review", "decision"),
    ),
    EventType.ANALYSIS_FAILED: KindOfEvent(
        "An analysis was given up after its last attempt.",
        ("study_instance_uid", "revision", "route", "model", "reason"),
    ),
    EventType.STUDY_NOT_ANALYSED: KindOfEvent(
        "No route wanted the study, or no model may answer for it.", ("study_instance_uid", "revision", "reasons")
    ),
    EventType.STUDY_FAILED: KindOfEvent(
        "The study was set aside: its analyses failed, or its images contradict each other.",
        ("study_instance_uid", "revision", "reasons"),
    ),
    EventType.STUDY_IMAGES_DELETED: KindOfEvent(
        "The images of a study were deleted here; it can be analysed again only when it is sent again.", _DELETED
    ),
    EventType.STUDY_RESULTS_DELETED: KindOfEvent(
        "The objects of a study's results were deleted here; who got them has them.", _DELETED
    ),
    EventType.DELIVERY_PARKED: KindOfEvent(
        "A destination will not take an object as it is; somebody must look.",
        ("study_instance_uid", "route", "result", "destination", "delivery", "kind", "object"),
    ),
    EventType.DESTINATION_SUSPENDED: KindOfEvent(
        "A destination lets the node in no more, or a person suspended it; nothing is sent to it.", ("destination",)
    ),
    EventType.DESTINATION_RESUMED: KindOfEvent(
        "A suspended destination takes something again, or a person resumed it.", ("destination",)
    ),
    EventType.ROUTE_SUSPENDED: KindOfEvent("A person suspended a route; its analyses wait.", ("route",)),
    EventType.ROUTE_RESUMED: KindOfEvent("A person resumed a route; its analyses go on.", ("route",)),
}

"""Whose turn it is: urgent jobs first, and waiting makes every job more urgent, so that none starves. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from dicom_node.core.entities import Study

#: A route's setting that leaves the priority to the images.
FROM_IMAGES = "images"
_ATTRIBUTE = "requested_procedure_priority"


class Priority(StrEnum):
    """How urgent a job is, most urgent first; the words of Requested Procedure Priority (0040,1003)."""

    STAT = "STAT"
    HIGH = "HIGH"
    ROUTINE = "ROUTINE"
    LOW = "LOW"


#: By how much later than it was queued a job takes its place in the queue. A STAT job goes before every routine job
#: that has waited less than eight hours; one that has waited longer goes before it.
LAGS = {
    Priority.STAT: timedelta(0),
    Priority.HIGH: timedelta(hours=1),
    Priority.ROUTINE: timedelta(hours=8),
    Priority.LOW: timedelta(hours=24),
}
#: MEDIUM is the last of the defined terms of PS3.3 C.4.11; the image's word may come in any case.
_WORDS = {priority.value: priority for priority in Priority} | {"MEDIUM": Priority.ROUTINE}
_ORDER = tuple(Priority)


def priority_of(study: Study, route_priority: str) -> Priority:
    """Return what the route says or, where it leaves it to the images, the most urgent that any of them states.

    Images that state nothing, or a word that is not defined, are routine.
    """
    if route_priority != FROM_IMAGES:
        return Priority(route_priority.upper())
    return stated_priority(
        {image.attributes.get(_ATTRIBUTE, "") for series in study.series for image in series.instances}
    )


def stated_priority(texts: Collection[str]) -> Priority:
    """Return the most urgent priority among words of images; routine where none says a defined one."""
    stated = {_WORDS[word] for word in (text.strip(" \0").upper() for text in texts) if word in _WORDS}
    return min(stated, key=_ORDER.index, default=Priority.ROUTINE)


def turn_at(priority: Priority, queued_at: datetime) -> datetime:
    """Return the moment that orders the queue: the smallest is next."""
    return queued_at + LAGS[priority]

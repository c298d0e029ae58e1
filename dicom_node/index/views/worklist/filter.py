"""Which studies the worklist shows, and behind which place a page of it begins."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from sqlalchemy import ColumnElement, and_, exists, false, literal, or_, tuple_

from dicom_node.core.entities import JobState, ResultState, ReviewState, StudyState
from dicom_node.core.priority import Priority
from dicom_node.core.uids import is_valid_uid
from dicom_node.index.received.worklist import URGENCIES
from dicom_node.index.tables import jobs, results, studies

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACE = re.compile(r"[0-9]_[0-9]{1,17}_[0-9]+(\.[0-9]+)*")
_ANALYSED = (JobState.DONE, JobState.PARTIAL)
#: Results that a person sees: those that hold, and those that a reviewer has rejected.
STANDING = (ResultState.CURRENT, ResultState.REJECTED)


class ReviewWanted(StrEnum):
    """Which studies, by their review: a result waits for one, or one has been decided on."""

    NEEDED = "NEEDED"
    DONE = "DONE"


@dataclass(frozen=True, slots=True)
class WorklistPlace:
    """A place in the worklist: that of the study which stands there."""

    urgency: int
    last_received_at: datetime
    study_instance_uid: str

    def __str__(self) -> str:
        at = (self.last_received_at - _EPOCH) // timedelta(microseconds=1)
        return f"{self.urgency}_{at}_{self.study_instance_uid}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raises `ValueError`."""
        if not _PLACE.fullmatch(text):  # as long as no UID is, too: it only says where to go on
            raise ValueError("not a cursor; take it from the `Link` or `next` of the page before")
        urgency, at, uid = text.split("_")
        return cls(int(urgency), _EPOCH + timedelta(microseconds=int(at)), uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistFilter:
    """Which studies. Dates are DICOM DA, of the study; `among`: only these; `words` must all be in the description, or
    be a modality or a station."""

    state: StudyState | None = None
    urgency: Priority | None = None
    modality: str = ""
    station: str = ""
    model: str = ""
    since: str = ""
    until: str = ""
    review: ReviewWanted | None = None
    among: Collection[str] | None = None
    words: Sequence[str] = ()
    behind: WorklistPlace | None = None


def conditions(wanted: WorklistFilter) -> Iterable[ColumnElement[bool]]:
    """Yield what holds of every study that is wanted."""
    yield from _of_images(wanted)
    if wanted.state is not None:
        yield studies.c.state == wanted.state
    if wanted.model:
        yield _analysed_by(wanted.model)
    if wanted.review is not None:
        yield _with_result(wanted.review)
    if wanted.among is not None:
        yield studies.c.study_instance_uid.in_(wanted.among) if wanted.among else false()
    for word in wanted.words:
        yield _says(word)
    if wanted.behind is not None:
        yield _behind(wanted.behind)


def _of_images(wanted: WorklistFilter) -> Iterable[ColumnElement[bool]]:
    if wanted.urgency is not None:
        yield studies.c.urgency == URGENCIES[wanted.urgency]
    if wanted.modality:
        yield studies.c.modalities.contains(f"|{wanted.modality}|", autoescape=True)
    if wanted.station:
        yield studies.c.stations.contains(f"|{wanted.station}|", autoescape=True)
    if wanted.since:
        yield studies.c.study_date >= wanted.since
    if wanted.until:
        yield and_(studies.c.study_date <= wanted.until, studies.c.study_date != "")


def _analysed_by(model: str) -> ColumnElement[bool]:
    return exists().where(
        jobs.c.study_instance_uid == studies.c.study_instance_uid,
        jobs.c.revision == studies.c.revision,
        jobs.c.model == model,
    )


def _with_result(wanted: ReviewWanted) -> ColumnElement[bool]:
    is_reviewed = or_(results.c.standing == ResultState.REJECTED, results.c.review_state != ReviewState.UNREVIEWED)
    return exists().where(
        results.c.study_instance_uid == studies.c.study_instance_uid,
        results.c.standing.in_(STANDING),
        results.c.shadow_of == "",
        results.c.state.in_(_ANALYSED),
        is_reviewed if wanted is ReviewWanted.DONE else ~is_reviewed,
    )


def _says(word: str) -> ColumnElement[bool]:
    return or_(
        studies.c.description.icontains(word, autoescape=True),
        studies.c.modalities.contains(f"|{word.upper()}|", autoescape=True),
        studies.c.stations.icontains(f"|{word}|", autoescape=True),
        studies.c.study_instance_uid.startswith(word, autoescape=True) if _begins_uid(word) else false(),
    )


def _begins_uid(word: str) -> bool:
    return "." in word and is_valid_uid(word.removesuffix("."))


def _behind(place: WorklistPlace) -> ColumnElement[bool]:
    here = tuple_(studies.c.urgency, studies.c.last_received_at, studies.c.study_instance_uid)
    there = (place.urgency, literal(place.last_received_at, studies.c.last_received_at.type), place.study_instance_uid)
    return here < tuple_(*there)

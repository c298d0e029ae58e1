"""What waits and why: grouped by where it waits and by its cause, so that one cause is one row. Read-only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, and_, exists, func, literal, or_, select

from dicom_node.core.entities import DecisionState, DeliveryState, JobState, ResultState, StudyState
from dicom_node.core.reasons import reason_of
from dicom_node.index.outbox.destinations import Suspension, suspensions
from dicom_node.index.received.own_results import ALTERED
from dicom_node.index.tables import associations, deliveries, events, jobs, notifications, results, reviews, studies

#: What tells two objects apart and not two causes: UIDs, keys, and long numbers.
_OF_ONE_OBJECT = re.compile(r"\b(?:2\.25\.\d+|\d+(?:\.\d+){4,})\b|\b[0-9a-f]{32,64}\b|\b\d{5,}\b")
_EXAMPLES = 3
_HOUR = timedelta(hours=1)
#: So much earlier than the line before it may a line of a timeline be: it has the time at which an object came.
_OUT_OF_ORDER = timedelta(days=1)


class WaitingKind(StrEnum):
    """What waits."""

    DELIVERY = "DELIVERY"
    EVENT = "EVENT"
    ANALYSIS = "ANALYSIS"
    REVIEW = "REVIEW"
    STUDY = "STUDY"
    #: Objects that came under the UID of a result and say something else.
    ALTERED = "ALTERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingGroup:
    """What waits in one place for one cause. `place` is a destination or a route; `oldest_at` is since when the first
    of them waits, `studies` are a few of those they belong to, `advice` says what to do. `tries` is how often the one
    that was tried most was tried, `next_try_at` when the first of them is tried again by itself; `None`: it is not."""

    kind: WaitingKind
    place: str
    state: str
    cause: str
    count: int
    oldest_at: datetime
    studies: Sequence[str]
    advice: str
    tries: int = 0
    next_try_at: datetime | None = None


def waiting(connection: Connection, since: datetime) -> list[WaitingGroup]:
    """Return what waits, what a person must see to first, and of that the oldest.

    Studies that no model answered for, and objects that are altered results, are told of if that was after `since`:
    nothing more happens to them by itself.
    """
    away = suspensions(connection)
    found = [
        *(_of_delivery(row, WaitingKind.DELIVERY, away) for row in connection.execute(_deliveries())),
        *(_of_delivery(row, WaitingKind.EVENT, away) for row in connection.execute(_events())),
        *map(_of_job, connection.execute(_jobs())),
        *map(_of_review, connection.execute(_reviews())),
        *map(_of_declined, connection.execute(_declined(since))),
        *map(_of_study, connection.execute(_studies(since))),
        *map(_of_altered, connection.execute(_altered(connection, since))),
    ]
    return sorted(_merged(found), key=lambda one: (_place_of(one), one.oldest_at))


def _place_of(group: WaitingGroup) -> int:
    needs_a_person = group.state in (DeliveryState.PARKED, JobState.FAILED, "SUSPENDED", WaitingKind.ALTERED)
    return 0 if needs_a_person else 1


def _merged(groups: Iterable[WaitingGroup]) -> list[WaitingGroup]:
    """Join what has the same cause but for the names of single objects in it."""
    found: dict[tuple[str, ...], WaitingGroup] = {}
    for one in groups:
        key = (one.kind, one.place, one.state, _OF_ONE_OBJECT.sub("…", one.cause))
        same = found.get(key)
        found[key] = one if same is None else _joined(same, one, key[3])
    return list(found.values())


def _joined(first: WaitingGroup, second: WaitingGroup, cause: str) -> WaitingGroup:
    some = tuple(dict.fromkeys((*first.studies, *second.studies)))[:_EXAMPLES]
    count, oldest = first.count + second.count, min(first.oldest_at, second.oldest_at)
    next_try_at = min((one.next_try_at for one in (first, second) if one.next_try_at), default=None)
    return replace(
        first, cause=cause, count=count, oldest_at=oldest, studies=some, tries=max(first.tries, second.tries),
        next_try_at=next_try_at,
    )  # fmt: skip


# --- what waits ----------------------------------------------------------------------------------------------------

_OPEN = (DeliveryState.PENDING, DeliveryState.PARKED)


def _grouped(place: Any, state: Any, cause: Any, at: Any, study: Any) -> Select[Any]:
    """Select one row for each cause in each place, with an example of a study."""
    one = (func.count().label("number"), func.min(at).label("oldest_at"), func.min(study).label("first_study"),
           func.max(study).label("last_study"))  # fmt: skip
    labelled = (place.label("place"), state.label("state"), cause.label("cause"))
    by = [column for column in (place, state, cause) if isinstance(column, Column)]  # PostgreSQL groups by no constant
    return select(*labelled, *one).group_by(*by)


def _with_tries(query: Select[Any], attempts: Any, due_at: Any) -> Select[Any]:
    """Select, too, how often what waits was tried, and when it is tried again."""
    return query.add_columns(func.max(attempts).label("tries"), func.min(due_at).label("due_at"))


def _deliveries() -> Select[Any]:
    columns = (deliveries.c.destination, deliveries.c.state, deliveries.c.note, deliveries.c.created_at)
    query = _grouped(*columns, results.c.study_instance_uid).select_from(deliveries)
    query = _with_tries(query, deliveries.c.attempts, deliveries.c.next_attempt_at)
    return query.join(results, results.c.job_key == deliveries.c.job_key).where(deliveries.c.state.in_(_OPEN))


def _events() -> Select[Any]:
    columns = (notifications.c.destination, notifications.c.state, notifications.c.note, notifications.c.created_at)
    query = _grouped(*columns, notifications.c.study_instance_uid).where(notifications.c.state.in_(_OPEN))
    return _with_tries(query, notifications.c.attempts, notifications.c.next_attempt_at)


def _jobs() -> Select[Any]:
    """Select analyses that wait, and those that were given up."""
    query = _of_revision(jobs.c.message, jobs.c.state.in_((JobState.QUEUED, JobState.FAILED)))
    return _with_tries(query, jobs.c.attempts, jobs.c.not_before)


def _reviews() -> Select[Any]:
    """Select decisions that no result tells yet, and those that failed, of results that stand; what was decided anew
    has not failed."""
    later = reviews.alias()
    is_last = ~exists().where(later.c.job_key == reviews.c.job_key, later.c.id > reviews.c.id)
    waits = reviews.c.state.in_((DecisionState.AWAITS_SECOND, DecisionState.DECIDED))
    failed = and_(reviews.c.state == DecisionState.FAILED, is_last)
    query = _grouped(reviews.c.route, reviews.c.state, reviews.c.note, reviews.c.decided_at,
                     reviews.c.study_instance_uid)  # fmt: skip
    query = _with_tries(query, reviews.c.attempts, reviews.c.not_before)
    stands = and_(results.c.job_key == reviews.c.job_key, results.c.standing == ResultState.CURRENT)
    return query.select_from(reviews).join(results, stands).where(or_(waits, failed))


def _declined(since: datetime) -> Select[Any]:
    """Select studies that a model must not answer for, by the code of the reason: each message is another."""
    return _of_revision(jobs.c.reason, and_(jobs.c.state == JobState.NOT_ANALYSABLE, jobs.c.finished_at >= since))


def _of_revision(cause: Any, which: ColumnElement[bool]) -> Select[Any]:
    """Select analyses of the present revisions; those of shadows keep nothing from anybody."""
    query = _grouped(jobs.c.route, jobs.c.state, cause, jobs.c.created_at, jobs.c.study_instance_uid)
    present = and_(studies.c.study_instance_uid == jobs.c.study_instance_uid, studies.c.revision == jobs.c.revision)
    return query.select_from(jobs).join(studies, present).where(which, jobs.c.shadow_of == "")


def _studies(since: datetime) -> Select[Any]:
    """Select studies that no analysis has begun on."""
    unwanted = and_(studies.c.state == StudyState.NOT_ANALYSED, ~_has_job(), studies.c.updated_at >= since)
    waits = or_(studies.c.state == StudyState.RECEIVING, unwanted)
    columns = (literal(""), studies.c.state, studies.c.reason, studies.c.first_received_at)
    return _grouped(*columns, studies.c.study_instance_uid).where(waits)


def _altered(connection: Connection, since: datetime) -> Select[Any]:
    """Select what came under the UID of a result with other content; its place is the sender's, in the cause."""
    columns = (literal(""), literal(WaitingKind.ALTERED.value), events.c.text, events.c.at)
    lately = and_(events.c.id > _last_before(connection, since - _OUT_OF_ORDER), events.c.at >= since)
    return _grouped(*columns, events.c.study_instance_uid).where(lately, events.c.kind == ALTERED)


def _last_before(connection: Connection, since: datetime) -> int:
    """Return a number behind which all lines of timelines since then are.

    They are numbered about as they come, so it is searched by halves: no time of theirs has an index.
    """
    low, high = 0, connection.execute(select(func.max(events.c.id))).scalar() or 0
    while low < high:
        middle = (low + high) // 2
        next_line = select(events.c.at).where(events.c.id > middle).order_by(events.c.id).limit(1)
        if connection.execute(next_line).scalar_one() >= since:
            high = middle
        else:
            low = middle + 1
    return low


def _has_job() -> ColumnElement[bool]:
    return exists().where(
        jobs.c.study_instance_uid == studies.c.study_instance_uid, jobs.c.revision == studies.c.revision
    )


# --- what is told of it --------------------------------------------------------------------------------------------


def _of_delivery(row: Row[Any], kind: WaitingKind, away: Mapping[str, Suspension]) -> WaitingGroup:
    suspended = away.get(row.place)
    if suspended is not None:
        advice = f"Remove the cause, then: dicom-node retry --destination {row.place}"
        return _tried(_group(row, kind, "SUSPENDED", f"Nothing is sent there: {suspended.reason}", advice), row)
    if row.state == DeliveryState.PARKED:
        advice = (
            f"It is never tried again by itself. Remove the cause, then: dicom-node retry --destination {row.place}"
        )
        return _tried(_group(row, kind, row.state, row.cause or "It was refused for good.", advice), row)
    if not row.cause:
        return _group(row, kind, row.state, "It has not been tried yet.", "Nothing: it goes out by itself.")
    advice = f"It is tried again by itself. Is {row.place} running, and reached from here? Ask: dicom-node doctor"
    return _tried(_group(row, kind, row.state, row.cause, advice), row, goes_on=True)


def _of_job(row: Row[Any]) -> WaitingGroup:
    if row.state == JobState.QUEUED:
        cause = row.cause or "It waits for its turn."
        waits = _group(row, WaitingKind.ANALYSIS, row.state, cause, "Nothing: it is analysed by itself.")
        return _tried(waits, row, goes_on=True)
    cause = row.cause or "It failed every time."
    given_up = _group(row, WaitingKind.ANALYSIS, row.state, cause, "Remove the cause, then: dicom-node rerun STUDY")
    return _tried(given_up, row)


def _of_review(row: Row[Any]) -> WaitingGroup:
    match DecisionState(row.state):
        case DecisionState.AWAITS_SECOND:
            cause, advice = "It waits for a second reader.", "Another reviewer confirms it or objects, at the result."
        case DecisionState.FAILED:
            cause, advice = row.cause, "Remove the cause, then have a reviewer decide again at the result."
        case _ if row.cause:
            cause, advice = row.cause, "It is tried again by itself for a while. Is what it names mended?"
        case _:
            cause, advice = "The report is being made, or waits for its turn.", "Nothing: it is made by itself."
    group = _group(row, WaitingKind.REVIEW, row.state, cause, advice)
    return _tried(group, row, goes_on=row.state == DecisionState.DECIDED)


def _of_declined(row: Row[Any]) -> WaitingGroup:
    reason = reason_of(row.cause)
    cause = f"{row.cause}: {reason.meaning}" if reason else row.cause
    advice = reason.remedy if reason else "The study says what it lacks."
    return _group(row, WaitingKind.ANALYSIS, row.state, cause, advice)


def _of_study(row: Row[Any]) -> WaitingGroup:
    if row.state == StudyState.RECEIVING:
        cause = "Images are still arriving, or their sender has not been quiet for long enough."
        return _group(row, WaitingKind.STUDY, row.state, cause, "Nothing: the analysis begins by itself.")
    advice = "If it should be analysed, ask which condition failed: dicom-node rules explain STUDY"
    return _group(row, WaitingKind.STUDY, row.state, row.cause, advice)


def _of_altered(row: Row[Any]) -> WaitingGroup:
    advice = "Find out who changed it: the result itself is as it was made, here and wherever it was sent."
    return _group(row, WaitingKind.ALTERED, row.state, row.cause, advice)


def _tried(group: WaitingGroup, row: Row[Any], *, goes_on: bool = False) -> WaitingGroup:
    """Say how often it was tried, and where it `goes_on` by itself, when next."""
    return replace(group, tries=row.tries, next_try_at=row.due_at if goes_on and row.tries else None)


def _group(row: Row[Any], kind: WaitingKind, state: str, cause: str, advice: str) -> WaitingGroup:
    return WaitingGroup(
        kind=kind, place=row.place, state=state, cause=cause, count=row.number, oldest_at=row.oldest_at,
        studies=tuple(dict.fromkeys(one for one in (row.first_study, row.last_study) if one)), advice=advice,
    )  # fmt: skip


# --- how much comes and goes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What came and went in the hour from `begins_at`: images, results, and objects that a destination took."""

    begins_at: datetime
    images: int
    results: int
    delivered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSender:
    """Who sends here, when its last association opened, and how many images came in the hours that are looked at.

    `last_seen_at` is `None` for one that the settings name and that has never come.
    """

    ae_title: str
    last_seen_at: datetime | None
    images: int


def throughput(connection: Connection, now: datetime, hours: int) -> list[Throughput]:
    """Return what came and went in each of the last hours, the oldest first."""
    begin = now.replace(minute=0, second=0, microsecond=0) - (hours - 1) * _HOUR
    images = _per_hour(connection, begin, associations.c.opened_at, associations.c.instances)
    made = _per_hour(connection, begin, results.c.created_at, literal(1))
    sent = _per_hour(connection, begin, deliveries.c.sent_at, literal(1))
    return [
        Throughput(begins_at=begin + place * _HOUR, images=images(place), results=made(place), delivered=sent(place))
        for place in range(hours)
    ]


def _per_hour(connection: Connection, begin: datetime, at: Any, amount: Any) -> Callable[[int], int]:
    """Count by hours since `begin`; both databases keep times in their own way, so the hours are made here."""
    found: dict[int, int] = {}
    for moment, number in connection.execute(select(at, amount).where(at >= begin)):
        place = (moment - begin) // _HOUR
        found[place] = found.get(place, 0) + number
    return lambda place: found.get(place, 0)


def senders(connection: Connection, known: Iterable[str], since: datetime) -> list[SeenSender]:
    """Return everybody who has sent, and of `known` those who never have; the one that is silent longest first."""
    title, opened = associations.c.calling_ae_title, associations.c.opened_at
    lately = select(title, func.sum(associations.c.instances)).where(opened >= since).group_by(title)
    images = {row[0]: int(row[1]) for row in connection.execute(lately)}
    last = select(title, func.max(opened)).where(title != "").group_by(title)
    seen = {row[0]: row[1] for row in connection.execute(last)}
    never = [SeenSender(ae_title=one, last_seen_at=None, images=0) for one in sorted(set(known) - seen.keys())]
    return [*never, *_by_silence(seen, images)]


def _by_silence(seen: dict[str, datetime], images: dict[str, int]) -> Iterator[SeenSender]:
    for name, at in sorted(seen.items(), key=lambda one: one[1]):
        yield SeenSender(ae_title=name, last_seen_at=at, images=images.get(name, 0))

"""Read-only queries for lists of studies and deliveries, and how much there is of everything. `study` has one alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Row, Table, and_, case, exists, func, or_, select

from dicom_node.core.entities import ArtifactKind, DeliveryState, InstanceRole, JobState, StudyState
from dicom_node.core.uids import is_valid_uid
from dicom_node.index.outbox.notifications import open_per_destination
from dicom_node.index.tables import artifacts, deliveries, events, instances, jobs, results, studies
from dicom_node.index.versions import IN_USE, IS_IMAGE
from dicom_node.index.views.types import (
    ChangeToken,
    Counts,
    DeliveryCounts,
    DeliveryView,
    DestinationCounts,
    RouteState,
    StudyLine,
    StudyPage,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"[0-9]{1,17}_[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list of studies: latest arrival and UID of the study that stands there."""

    last_received_at: datetime
    study_instance_uid: str

    def __str__(self) -> str:
        return f"{(self.last_received_at - _EPOCH) // timedelta(microseconds=1)}_{self.study_instance_uid}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raises `ValueError`."""
        if not _CURSOR.fullmatch(text):  # as long as no UID is, too: it only says where to go on
            raise ValueError("not a cursor; use `older` or `newer` of an earlier answer")
        microseconds, _, uid = text.partition("_")
        return cls(_EPOCH + timedelta(microseconds=int(microseconds)), uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilter:
    """Which studies to list. `text` is a Study Instance UID or its beginning, or words of the study's description,
    a modality, or a calling AE title."""

    state: StudyState | None = None
    text: str = ""
    older_than: Cursor | None = None
    newer_than: Cursor | None = None


def list_studies(connection: Connection, limit: int = 50, wanted: StudyFilter | None = None) -> StudyPage:
    """List studies, newest arrival first; one page of at most `limit`."""
    wanted = wanted or StudyFilter()
    forwards = wanted.newer_than is not None
    place = (studies.c.last_received_at, studies.c.study_instance_uid)
    query = select(studies).where(*_conditions(wanted)).limit(limit + 1)
    rows = connection.execute(query.order_by(*(c.asc() if forwards else c.desc() for c in place))).all()
    more, rows = len(rows) > limit, rows[:limit]
    ordered = rows[::-1] if forwards else rows
    has_older = more if not forwards else bool(rows)
    has_newer = more if forwards else wanted.older_than is not None and bool(rows)
    return StudyPage(
        studies=study_lines(connection, ordered),
        older=_cursor(ordered[-1]) if has_older and ordered else None,
        newer=_cursor(ordered[0]) if has_newer and ordered else None,
    )


def study_lines(connection: Connection, rows: Sequence[Row[Any]]) -> list[StudyLine]:
    """Complete rows of `studies` with what the list shows; a fixed number of queries for any number of rows."""
    uids = [row.study_instance_uid for row in rows]
    series = _series_of(connection, uids)
    routes = _routes_of(connection, uids)
    sent = _delivery_counts_of(connection, uids)
    return [_line(row, series[row.study_instance_uid], routes, sent) for row in rows]


def list_deliveries(
    connection: Connection,
    state: DeliveryState | None = None,
    destination: str | None = None,
    limit: int = 100,
    older_than: int | None = None,
) -> list[DeliveryView]:
    """List deliveries, newest first; those that were made before the one of number `older_than`."""
    query = delivery_query().order_by(deliveries.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(deliveries.c.state == state)
    if destination is not None:
        query = query.where(deliveries.c.destination == destination)
    if older_than is not None:
        query = query.where(deliveries.c.id < older_than)
    return [delivery_view(row) for row in connection.execute(query)]


def delivery_query() -> Any:
    """Return the select behind every `DeliveryView`."""
    return (
        select(
            deliveries,
            results.c.study_instance_uid,
            artifacts.c.kind,
            artifacts.c.description,
        )
        .join(artifacts, artifacts.c.uid == deliveries.c.artifact_uid)
        .join(results, results.c.job_key == artifacts.c.job_key)
    )


def delivery_view(row: Row[Any]) -> DeliveryView:
    """Shape one row of `delivery_query`."""
    return DeliveryView(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        artifact_uid=row.artifact_uid,
        artifact_kind=ArtifactKind(row.kind),
        artifact_description=row.description,
        job_key=row.job_key,
        destination=row.destination,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        note=row.note,
        created_at=row.created_at,
        sent_at=row.sent_at,
        warning="" if row.warning is None else f"0x{row.warning:04X}",
        proof=row.proof,
        proof_note=row.proof_note,
        transaction_uid=row.transaction_uid,
        proved_at=row.proved_at,
        times_missing=row.times_missing,
        times_lost=row.times_lost,
    )


# --- parts of a study's line -------------------------------------------------------------------------------------


def _conditions(wanted: StudyFilter) -> Iterable[ColumnElement[bool]]:
    if wanted.state is not None:
        yield studies.c.state == wanted.state
    if wanted.text:
        yield _matches(wanted.text)
    if wanted.older_than is not None:
        yield beyond(wanted.older_than, older=True)
    if wanted.newer_than is not None:
        yield beyond(wanted.newer_than, older=False)


def _matches(text: str) -> ColumnElement[bool]:
    if "." in text and is_valid_uid(text.removesuffix(".")):
        return studies.c.study_instance_uid.startswith(text, autoescape=True)
    return exists().where(
        instances.c.study_instance_uid == studies.c.study_instance_uid,
        IN_USE,
        or_(
            instances.c.attributes["study_description"].as_string().icontains(text, autoescape=True),
            instances.c.attributes["modality"].as_string() == text.upper(),
            instances.c.calling_ae_title == text,
        ),
    )


def beyond(cursor: Cursor, *, older: bool) -> ColumnElement[bool]:
    """Select the studies on one side of a place in the list."""
    at, uid = studies.c.last_received_at, studies.c.study_instance_uid
    same_time = at == cursor.last_received_at
    if older:
        return or_(at < cursor.last_received_at, and_(same_time, uid < cursor.study_instance_uid))
    return or_(at > cursor.last_received_at, and_(same_time, uid > cursor.study_instance_uid))


def _cursor(row: Row[Any]) -> str:
    return str(Cursor(row.last_received_at, row.study_instance_uid))


@dataclass(frozen=True, slots=True)
class _Series:
    instances: int
    attributes: Mapping[str, str]


def _series_of(connection: Connection, uids: Collection[str]) -> Mapping[str, list[_Series]]:
    """Per study its series of images, each with the attributes of its first one: headers of all would be megabytes.

    A series of which all images are rejected has none that counts, and still says what the study is.
    """
    is_counted = case((instances.c.role == InstanceRole.SOURCE, 1), else_=0)
    grouped = (
        select(func.min(instances.c.id).label("first_id"), func.sum(is_counted).label("instances"))
        .where(instances.c.study_instance_uid.in_(uids), IS_IMAGE, IN_USE)
        .group_by(instances.c.study_instance_uid, instances.c.series_instance_uid)
        .subquery()
    )
    query = select(instances.c.study_instance_uid, instances.c.attributes, grouped.c.instances).join(
        grouped, grouped.c.first_id == instances.c.id
    )
    found: defaultdict[str, list[_Series]] = defaultdict(list)
    for row in connection.execute(query.order_by(instances.c.id)):
        found[row.study_instance_uid].append(_Series(int(row.instances), row.attributes))
    return found


def _routes_of(connection: Connection, uids: Collection[str]) -> Mapping[str, list[RouteState]]:
    query = (
        select(jobs.c.study_instance_uid, jobs.c.route, jobs.c.model, jobs.c.state, jobs.c.reason, jobs.c.shadow_of)
        .join(studies, and_(studies.c.study_instance_uid == jobs.c.study_instance_uid))
        .where(jobs.c.study_instance_uid.in_(uids), jobs.c.revision == studies.c.revision)
        .order_by(jobs.c.id)
    )
    found: defaultdict[str, list[RouteState]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.study_instance_uid].append(
            RouteState(
                route=row.route, model=row.model, state=JobState(row.state), reason=row.reason, shadow_of=row.shadow_of
            )
        )
    return found


def _delivery_counts_of(connection: Connection, uids: Collection[str]) -> Mapping[str, DeliveryCounts]:
    query = (
        select(results.c.study_instance_uid, deliveries.c.state, func.count().label("number"))
        .join(deliveries, deliveries.c.job_key == results.c.job_key)
        .where(results.c.study_instance_uid.in_(uids))
        .group_by(results.c.study_instance_uid, deliveries.c.state)
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(query):
        found[row.study_instance_uid][row.state.lower()] = row.number
    return {uid: DeliveryCounts(**numbers) for uid, numbers in found.items()}


def _line(
    row: Row[Any],
    series: Sequence[_Series],
    routes: Mapping[str, list[RouteState]],
    sent: Mapping[str, DeliveryCounts],
) -> StudyLine:
    attributes: Mapping[str, str] = series[0].attributes if series else {}
    return StudyLine(
        study_instance_uid=row.study_instance_uid,
        revision=row.revision,
        state=StudyState(row.state),
        reason=row.reason,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        updated_at=row.updated_at,
        description=attributes.get("study_description", ""),
        study_date=attributes.get("study_date", ""),
        modalities=sorted({one.attributes.get("modality", "") for one in series} - {""}),
        series=sum(one.instances > 0 for one in series),
        instances=sum(one.instances for one in series),
        routes=routes.get(row.study_instance_uid, []),
        deliveries=sent.get(row.study_instance_uid, DeliveryCounts()),
    )


State = TypeVar("State", bound=StrEnum)


def counts(connection: Connection) -> Counts:
    """Count studies, jobs and deliveries by state."""
    pending = deliveries.c.state == DeliveryState.PENDING
    return Counts(
        studies=_per_state(connection, studies, StudyState),
        jobs=_per_state(connection, jobs, JobState),
        deliveries=_per_state(connection, deliveries, DeliveryState),
        destinations=_per_destination(connection),
        oldest_pending_at=connection.scalar(select(func.min(deliveries.c.created_at)).where(pending)),
    )


def last_change(connection: Connection) -> ChangeToken:
    """Return a token that differs after any change; two index look-ups."""
    return ChangeToken(
        updated_at=connection.scalar(select(func.max(studies.c.updated_at))),
        event_id=connection.scalar(select(func.max(events.c.id))) or 0,
    )


def changed_studies(connection: Connection, since: ChangeToken, limit: int = 100) -> list[str]:
    """Return the UIDs of studies changed after `since`; with `limit` UIDs there may be more."""
    told = select(events.c.study_instance_uid).where(events.c.id > since.event_id)
    touched = select(studies.c.study_instance_uid)
    if since.updated_at is not None:
        touched = touched.where(studies.c.updated_at > since.updated_at)
    return list(connection.scalars(told.union(touched).limit(limit)))


def _per_state(connection: Connection, table: Table, states: type[State]) -> dict[State, int]:
    state: Column[str] = table.c.state
    found = {row[0]: row[1] for row in connection.execute(select(state, func.count()).group_by(state))}
    return {each: found.get(each.value, 0) for each in states}


def _per_destination(connection: Connection) -> list[DestinationCounts]:
    query = (
        select(deliveries.c.destination, deliveries.c.state, func.count())
        .where(deliveries.c.state != DeliveryState.DISCARDED)
        .group_by(deliveries.c.destination, deliveries.c.state)
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for destination, state, number in connection.execute(query):
        found[destination][state.lower()] = number
    for destination, events_open in open_per_destination(connection).items():
        for state, number in events_open.items():
            found[destination][state.lower()] = found[destination].get(state.lower(), 0) + number
    return [
        DestinationCounts(destination=name, **({"pending": 0, "parked": 0} | numbers))
        for name, numbers in sorted(found.items())
    ]

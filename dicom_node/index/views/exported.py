"""Read-only queries for whole lists: results and studies page by page, so that none lies in memory as a whole.

Each page has a connection of its own: whoever reads slowly holds no transaction open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from dicom_node.core.entities import JobState, ResultState
from dicom_node.index.database import Database
from dicom_node.index.tables import instances, results
from dicom_node.index.versions import IN_USE
from dicom_node.index.views.lists import Cursor, StudyFilter, list_studies
from dicom_node.index.views.study import result_views
from dicom_node.index.views.types import ResultView, StudyLine

#: Results hold findings and may be long; so many are in memory at once.
_RESULTS_AT_ONCE = 100
_STUDIES_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFilter:
    """Which results: made in [`since`, `until`), of a model, a route, or with a standing; `None` and "": any."""

    since: datetime | None = None
    until: datetime | None = None
    model: str = ""
    route: str = ""
    study_instance_uid: str = ""
    state: JobState | None = None
    standing: ResultState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginatedResult:
    """A result, and what the first of the images that were analysed says of itself: `attributes` as the index keeps
    them (``manufacturer``, ``station_name``), none where that image is not there any more."""

    result: ResultView
    attributes: Mapping[str, str] = field(default_factory=dict)


def every_result(database: Database, wanted: ResultFilter) -> Iterator[OriginatedResult]:
    """Yield the results in the order of their keys, which is no order of time: sorting by time would read all of them
    for each page."""
    last = ""
    while True:
        with database.read() as connection:
            page = _results_behind(connection, wanted, last)
        yield from page
        if len(page) < _RESULTS_AT_ONCE:
            return
        last = page[-1].result.job_key


def every_study(database: Database, wanted: StudyFilter) -> Iterator[StudyLine]:
    """Yield the studies, newest arrival first."""
    while True:
        with database.read() as connection:
            page = list_studies(connection, _STUDIES_AT_ONCE, wanted)
        yield from page.studies
        if not page.older:
            return
        wanted = replace(wanted, older_than=Cursor.parse(page.older))


def with_origin(connection: Connection, found: Sequence[ResultView]) -> list[OriginatedResult]:
    """Add to results what their images say of themselves."""
    first = {one.job_key: _first_source(one.summary) for one in found}
    columns = (instances.c.sop_instance_uid, instances.c.attributes)
    mine = (instances.c.sop_instance_uid.in_(sorted(set(first.values()) - {""})), IN_USE)
    told = {row.sop_instance_uid: row.attributes for row in connection.execute(select(*columns).where(*mine))}
    return [OriginatedResult(result=one, attributes=told.get(first[one.job_key], {})) for one in found]


def _results_behind(connection: Connection, wanted: ResultFilter, last: str) -> list[OriginatedResult]:
    query = select(results).where(results.c.job_key > last, *_conditions(wanted))
    rows: Sequence[Row[Any]] = connection.execute(query.order_by(results.c.job_key).limit(_RESULTS_AT_ONCE)).all()
    return with_origin(connection, result_views(connection, rows))


def _conditions(wanted: ResultFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.since is not None:
        yield results.c.created_at >= wanted.since
    if wanted.until is not None:
        yield results.c.created_at < wanted.until
    for name in ("model", "route", "study_instance_uid", "state", "standing"):
        if value := getattr(wanted, name):
            yield results.c[name] == value


def _first_source(summary: Mapping[str, Any]) -> str:
    """Return the first of the analysed images; "" where the summary, perhaps of another version, does not say."""
    sources = summary.get("source_sop_instance_uids")
    return str(sources[0]) if isinstance(sources, list) and sources else ""

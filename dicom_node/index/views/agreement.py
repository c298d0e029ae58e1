"""Read-only queries for what readers made of the models' answers, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select

from dicom_node.analysis.stored_findings import model_named
from dicom_node.core.assessment.reader_agreement import ReviewableResult
from dicom_node.core.assessment.review import Review
from dicom_node.core.entities import DecisionState, JobState, ResultState
from dicom_node.index.database import Database
from dicom_node.index.decided.reviews import review_of
from dicom_node.index.tables import results, reviews
from dicom_node.index.views.exported import OriginatedResult, with_origin
from dicom_node.index.views.study import result_views

_AT_ONCE = 100
#: Decisions that stand: nobody else is asked for them, and nobody has objected.
_DECIDED = (DecisionState.DECIDED, DecisionState.DONE)
_ANALYSED = (JobState.DONE, JobState.PARTIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementFilter:
    """Which answers: made in [`since`, `until`), of a model or a route; `None` and "": any."""

    since: datetime | None = None
    until: datetime | None = None
    model: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderCase:
    """A model's answer with findings, and the decision on it that stands, if there is one."""

    origin: OriginatedResult
    review: Review | None

    @property
    def counted(self) -> ReviewableResult:
        """The same as what agreement is counted from."""
        told, result = self.origin.attributes, self.origin.result
        return ReviewableResult(
            model=result.model,
            version=model_named(result.summary).version,
            made_at=result.created_at,
            manufacturer=told.get("manufacturer", ""),
            scanner=told.get("manufacturer_model_name", ""),
            station=told.get("station_name", ""),
            site=told.get("institution_name", ""),
            review=self.review,
        )


def reader_cases(database: Database, wanted: AgreementFilter, *, only_reviewed: bool = False) -> Iterator[ReaderCase]:
    """Yield the answers of models that were there to be reviewed, in the order of their keys.

    Left out are answers of shadow routes, and those that were replaced or withdrawn before anybody reviewed them.
    """
    last = ""
    while True:
        with database.read() as connection:
            page = _cases_behind(connection, (*_conditions(wanted, only_reviewed=only_reviewed),), last)
        yield from page
        if len(page) < _AT_ONCE:
            return
        last = page[-1].origin.result.job_key


def _cases_behind(connection: Connection, conditions: Sequence[ColumnElement[bool]], last: str) -> list[ReaderCase]:
    joined = and_(reviews.c.job_key == results.c.job_key, reviews.c.state.in_(_DECIDED))
    query = select(results, reviews.c.id.label("decided")).join(reviews, joined, isouter=True)
    query = query.where(results.c.job_key > last, *conditions).order_by(results.c.job_key).limit(_AT_ONCE)
    rows: Sequence[Row[Any]] = connection.execute(query).all()
    origins = with_origin(connection, result_views(connection, rows))
    decided = _reviews(connection, [row.decided for row in rows if row.decided is not None])
    return [ReaderCase(origin=one, review=decided.get(one.result.job_key)) for one in origins]


def _reviews(connection: Connection, numbers: Sequence[int]) -> dict[str, Review]:
    query = select(reviews).where(reviews.c.id.in_(numbers))
    return {row.job_key: review_of(row) for row in connection.execute(query)}


def _conditions(wanted: AgreementFilter, *, only_reviewed: bool) -> Iterator[ColumnElement[bool]]:
    yield results.c.review_id.is_(None)  # those that tell a review are no model's answer
    yield results.c.shadow_of == ""
    yield results.c.state.in_(_ANALYSED)
    is_reviewed = reviews.c.id.is_not(None)
    yield is_reviewed if only_reviewed else or_(is_reviewed, results.c.standing == ResultState.CURRENT)
    if wanted.since is not None:
        yield results.c.created_at >= wanted.since
    if wanted.until is not None:
        yield results.c.created_at < wanted.until
    for name in ("model", "route"):
        if value := getattr(wanted, name):
            yield results.c[name] == value

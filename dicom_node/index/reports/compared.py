"""Read-only: what models and the matched reports say of the same studies, page by page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from dicom_node.analysis.stored_findings import model_named, readable_findings
from dicom_node.core.assessment.concordance import ComparedFinding
from dicom_node.core.assessment.report_reading import ReportReading, said_by_model
from dicom_node.core.entities import JobState, ReportMatch, ResultState, ReviewState
from dicom_node.index.database import Database
from dicom_node.index.reports.kept import reading_of
from dicom_node.index.tables import reports, results
from dicom_node.index.views.exported import OriginatedResult, with_origin
from dicom_node.index.views.study import result_views

_AT_ONCE = 100
_ANALYSED = (JobState.DONE, JobState.PARTIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFilter:
    """Which answers: made in [`since`, `until`), of a model, a route or one study; `None` and "": any."""

    since: datetime | None = None
    until: datetime | None = None
    model: str = ""
    route: str = ""
    study_instance_uid: str = ""


def compared_findings(database: Database, wanted: ComparedFilter) -> Iterator[ComparedFinding]:
    """Yield every finding that a model has told of a study with a report, in the order of the results' keys.

    Left out are answers of shadow routes, and those that were replaced or withdrawn before anybody reviewed them. Of
    several reports on a study the one that was stated last counts.
    """
    last = ""
    while True:
        with database.read() as connection:
            query = select(results).where(results.c.job_key > last, *_conditions(wanted))
            rows = connection.execute(query.order_by(results.c.job_key).limit(_AT_ONCE)).all()
            origins = with_origin(connection, result_views(connection, rows))
            readings = _readings(connection, {row.study_instance_uid for row in rows})
            uids = {row.job_key: row.study_instance_uid for row in rows}
        for origin in origins:
            uid = uids[origin.result.job_key]
            if uid in readings:
                yield from _compared(uid, origin, readings[uid])
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1].job_key


def _conditions(wanted: ComparedFilter) -> Iterator[ColumnElement[bool]]:
    yield results.c.review_id.is_(None)  # those that tell a review are no model's answer
    yield results.c.shadow_of == ""
    yield results.c.state.in_(_ANALYSED)
    yield or_(results.c.standing == ResultState.CURRENT, results.c.review_state != ReviewState.UNREVIEWED)
    has_report = (reports.c.study_instance_uid == results.c.study_instance_uid, reports.c.match == ReportMatch.MATCHED)
    yield exists().where(*has_report)
    if wanted.since is not None:
        yield results.c.created_at >= wanted.since
    if wanted.until is not None:
        yield results.c.created_at < wanted.until
    for name in ("model", "route", "study_instance_uid"):
        if value := getattr(wanted, name):
            yield results.c[name] == value


def _readings(connection: Connection, uids: Collection[str]) -> Mapping[str, ReportReading]:
    """Return what is said of each study; the report that was stated last is the last one entered here."""
    mine = (reports.c.study_instance_uid.in_(sorted(uids)), reports.c.match == ReportMatch.MATCHED)
    query = select(reports.c.study_instance_uid, reports.c.reading).where(*mine).order_by(reports.c.stated_at)
    found = ((row.study_instance_uid, reading_of(row.reading)) for row in connection.execute(query))
    return {uid: reading for uid, reading in found if reading is not None}


def _compared(uid: str, origin: OriginatedResult, reading: ReportReading) -> Iterator[ComparedFinding]:
    told, result = origin.attributes, origin.result
    findings, _ = readable_findings(result.summary)
    for key, (label, presence) in said_by_model(findings).items():
        yield ComparedFinding(
            study_instance_uid=uid, job_key=result.job_key, model=result.model,
            version=model_named(result.summary).version, finding=label, made_at=result.created_at,
            model_says=presence, report_says=reading.of(key), manufacturer=told.get("manufacturer", ""),
            scanner=told.get("manufacturer_model_name", ""), station=told.get("station_name", ""),
            site=told.get("institution_name", ""),
        )  # fmt: skip

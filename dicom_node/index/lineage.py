"""What of earlier results a new one replaces: the report each destination has, and the objects it still shows.

Results of one study that follow one another are a line. A line is named by the model and route that began it, and goes
on when the route gets another model, or another name: then the new name takes the place of one that is gone from the
settings, for the same model and in the order of the names, so that two that are renamed at once do not meet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select, true

from dicom_node.analysis.context import Predecessor, ReplacedResult, ReportLine, WithdrawnObject
from dicom_node.core.entities import ArtifactKind, MediaType
from dicom_node.core.lifecycle import ARRIVED, TAKEN_BACK
from dicom_node.index.jobs import ClaimedJob
from dicom_node.index.tables import artifacts, deliveries, jobs, results

#: Where the summary of a result keeps its line.
LINE = "report_line"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLineage:
    """A result about to be written: of which study, line and analysis, and which destinations get which output set."""

    study_instance_uid: str
    line: ReportLine
    job_key: str
    destinations_of: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    job_key: str
    output_keys: Collection[str]
    document: Predecessor

    @property
    def uid(self) -> str:
        return self.document.sop_instance_uid


def line_of(result: Row[Any]) -> ReportLine:
    """Return the line of a row of `results`; one from before there were lines is in that of its model and route."""
    return line_in(result.summary) or ReportLine(model=result.model, route=result.route)


def line_in(summary: Mapping[str, object] | None) -> ReportLine | None:
    """Return the line that the summary of a result names, if it does."""
    kept = (summary or {}).get(LINE)
    return ReportLine(model=str(kept["model"]), route=str(kept["route"])) if isinstance(kept, dict) else None


def keys_of_line(connection: Connection, study_instance_uid: str, line: ReportLine) -> list[str]:
    """Return the job keys of a study's results in a line, oldest first."""
    return [row.job_key for row in _results(connection, study_instance_uid) if line_of(row) == line]


def line_for(connection: Connection, job: ClaimedJob, configured: Collection[str]) -> ReportLine:
    """Return the line in which a job's result goes on; `configured` are the routes of the settings.

    A withdrawn result is in none: what follows it begins anew.
    """
    rows = [row for row in _results(connection, job.study_instance_uid) if row.standing not in TAKEN_BACK]
    own = [line_of(row) for row in rows if row.route == job.route]
    if own:
        return own[-1]
    taken = {line_of(row) for row in rows if row.route in configured}
    left = {line_of(row) for row in rows if row.model == job.model and row.route not in configured} - taken
    new = {row.route for row in _queued(connection, job)} & set(configured) - {row.route for row in rows}
    in_order = sorted(left, key=lambda one: (one.route, one.model))
    taking: dict[str, ReportLine] = dict(zip(sorted({*new, job.route}), in_order, strict=False))
    return taking.get(job.route, ReportLine(model=job.model, route=job.route))


def _results(connection: Connection, study_instance_uid: str) -> Sequence[Row[Any]]:
    query = select(results).where(results.c.study_instance_uid == study_instance_uid)
    return connection.execute(query.order_by(results.c.created_at, results.c.sequence)).all()


def _queued(connection: Connection, job: ClaimedJob) -> Sequence[Row[Any]]:
    mine = and_(jobs.c.study_instance_uid == job.study_instance_uid, jobs.c.model == job.model)
    return connection.execute(select(jobs.c.route).where(mine, jobs.c.revision == job.revision)).all()


def result_series(connection: Connection, study_instance_uid: str) -> set[str]:
    """Return the Series Instance UIDs of all that this node ever made of a study."""
    made = select(artifacts.c.series_instance_uid).join(results, results.c.job_key == artifacts.c.job_key)
    query = made.where(results.c.study_instance_uid == study_instance_uid, artifacts.c.series_instance_uid != "")
    return set(connection.execute(query.distinct()).scalars())


def earlier_reports(connection: Connection, lineage: ReportLineage) -> Mapping[str, Predecessor]:
    """Return, by output set, the newest report; of several of one result, the one that the set's destinations got.

    A withdrawn report is none: what follows it begins anew.
    """
    reports = list(_reports(connection, lineage))
    arrived = _arrivals(connection, [report.uid for report in reports])
    found = {}
    for key, names in lineage.destinations_of.items():
        ranked = [
            (report.document.instance_number, bool(arrived[report.uid] & set(names)), report.uid, report)
            for report in reports
            if report.job_key != lineage.job_key or (key not in report.output_keys and arrived[report.uid] & set(names))
        ]
        if ranked:
            found[key] = max(ranked)[3].document
    return found


def withdrawn_objects(
    connection: Connection, lineage: ReportLineage, noting: Collection[str]
) -> tuple[WithdrawnObject, ...]:
    """Return what destinations still show of earlier results, for the output sets `noting` that want to name them.

    What a rejection note that has arrived took back is not named in another.
    """
    keys: defaultdict[str, list[str]] = defaultdict(list)
    objects = {}
    for key in noting:
        for name in lineage.destinations_of.get(key, ()):
            for row in _shown(connection, lineage, key, name):
                objects[row.uid] = row
                if key not in keys[row.uid]:
                    keys[row.uid].append(key)
    return tuple(
        WithdrawnObject(
            sop_class_uid=row.sop_class_uid, sop_instance_uid=uid, series_instance_uid=row.series_instance_uid,
            output_keys=tuple(keys[uid]),
        )
        for uid, row in sorted(objects.items())
    )  # fmt: skip


def replaced_results(connection: Connection, lineage: ReportLineage) -> tuple[ReplacedResult, ...]:
    """Return the earlier results, oldest first, with their DICOM objects; of a withdrawn one its withdrawal tells."""
    shows = and_(artifacts.c.job_key == results.c.job_key, artifacts.c.media_type == MediaType.DICOM)
    query = (
        select(results.c.job_key, artifacts.c.uid)
        .join(artifacts, shows, isouter=True)
        .where(
            _stands(connection, lineage),
            results.c.job_key != lineage.job_key,
        )
        .order_by(results.c.sequence, artifacts.c.send_order, artifacts.c.uid)
    )
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.job_key] += [row.uid] if row.uid else []
    return tuple(ReplacedResult(job_key=key, object_uids=tuple(uids)) for key, uids in found.items())


def _stands(connection: Connection, lineage: ReportLineage) -> ColumnElement[bool]:
    """Return the condition of what was there of the line when the result was written; it may be made again later."""
    keys = keys_of_line(connection, lineage.study_instance_uid, lineage.line)
    own = connection.execute(select(results.c.sequence).where(results.c.job_key == lineage.job_key)).scalar()
    before = results.c.sequence <= own if own is not None else true()
    delivers = results.c.shadow_of != results.c.route  # what was made while its route was in shadow went nowhere
    return and_(results.c.job_key.in_(keys), results.c.standing.not_in(TAKEN_BACK), before, delivers)


def _reports(connection: Connection, lineage: ReportLineage) -> Iterator[_Report]:
    query = (
        select(artifacts, results.c.sequence)
        .join(results, results.c.job_key == artifacts.c.job_key)
        .where(_stands(connection, lineage), artifacts.c.kind == ArtifactKind.STRUCTURED_REPORT)
    )
    for row in connection.execute(query):
        document = Predecessor(
            sop_class_uid=row.sop_class_uid, sop_instance_uid=row.uid, series_instance_uid=row.series_instance_uid,
            instance_number=row.sequence,
        )  # fmt: skip
        yield _Report(job_key=row.job_key, output_keys=row.output_keys, document=document)


def _arrivals(connection: Connection, uids: Collection[str]) -> Mapping[str, set[str]]:
    """Return the destinations at which each object has arrived."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    query = select(deliveries).where(deliveries.c.artifact_uid.in_(uids), deliveries.c.state.in_(ARRIVED))
    for row in connection.execute(query):
        found[row.artifact_uid].add(row.destination)
    return found


def _shown(connection: Connection, lineage: ReportLineage, key: str, destination: str) -> Iterator[Row[Any]]:
    """Yield what arrived there since the last rejection note, and is not of this result."""
    there = and_(
        _stands(connection, lineage),
        deliveries.c.destination == destination,
        deliveries.c.state.in_(ARRIVED),
    )
    joined = artifacts.join(results, results.c.job_key == artifacts.c.job_key).join(
        deliveries, deliveries.c.artifact_uid == artifacts.c.uid
    )
    noted = select(func.max(results.c.sequence)).select_from(joined)
    since = connection.scalar(noted.where(there, artifacts.c.kind == ArtifactKind.REJECTION_NOTE)) or 0
    kept_apart = (ArtifactKind.REJECTION_NOTE, ArtifactKind.FHIR_BUNDLE, ArtifactKind.HL7_MESSAGE)
    query = select(artifacts).select_from(joined).where(there, artifacts.c.kind.not_in(kept_apart))
    for row in connection.execute(query.where(results.c.sequence >= since)):
        if row.job_key != lineage.job_key or key not in row.output_keys:
            yield row

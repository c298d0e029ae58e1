"""What of earlier results a new one replaces: the report each destination has, and the objects it still shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from dicom_node.analysis.answer import Predecessor, WithdrawnObject
from dicom_node.core.entities import ArtifactKind, ResultState
from dicom_node.core.lifecycle import ARRIVED
from dicom_node.index.tables import artifacts, deliveries, results


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLineage:
    """A result about to be written: of which study, route and analysis, and which destinations get which output set."""

    study_instance_uid: str
    route: str
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


def _reports(connection: Connection, lineage: ReportLineage) -> Iterator[_Report]:
    query = (
        select(artifacts, results.c.sequence)
        .join(results, results.c.job_key == artifacts.c.job_key)
        .where(
            results.c.study_instance_uid == lineage.study_instance_uid,
            results.c.route == lineage.route,
            results.c.standing != ResultState.WITHDRAWN,
            artifacts.c.kind == ArtifactKind.STRUCTURED_REPORT,
        )
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
        results.c.study_instance_uid == lineage.study_instance_uid,
        results.c.route == lineage.route,
        results.c.standing != ResultState.WITHDRAWN,
        deliveries.c.destination == destination,
        deliveries.c.state.in_(ARRIVED),
    )
    joined = artifacts.join(results, results.c.job_key == artifacts.c.job_key).join(
        deliveries, deliveries.c.artifact_uid == artifacts.c.uid
    )
    noted = select(func.max(results.c.sequence)).select_from(joined)
    since = connection.scalar(noted.where(there, artifacts.c.kind == ArtifactKind.REJECTION_NOTE)) or 0
    kept_apart = (ArtifactKind.REJECTION_NOTE, ArtifactKind.FHIR_BUNDLE)
    query = select(artifacts).select_from(joined).where(there, artifacts.c.kind.not_in(kept_apart))
    for row in connection.execute(query.where(results.c.sequence >= since)):
        if row.job_key != lineage.job_key or key not in row.output_keys:
            yield row

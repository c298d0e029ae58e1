"""What is told of a result beside its objects: by whom it is, whether it holds, what it replaces at a destination."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select

from dicom_node.core.entities import AboutResult, ArtifactKind, JobState, MediaType, ObjectName, ResultState
from dicom_node.core.lifecycle import ARRIVED, TAKEN_BACK
from dicom_node.index.lineage import keys_of_line, line_of
from dicom_node.index.notices import accession_number, model_of
from dicom_node.index.tables import artifacts, deliveries, results


def about_result(connection: Connection, job_key: str, destination: str) -> AboutResult:
    """Return what a destination is told of a result, as the result stands now."""
    row = connection.execute(select(results).where(results.c.job_key == job_key)).one()
    version, digest = model_of(row.summary)
    return AboutResult(
        study_instance_uid=row.study_instance_uid, revision=row.revision, route=row.route, model=row.model,
        model_version=version, model_digest=digest, result=job_key, sequence=row.sequence, state=JobState(row.state),
        reason=row.reason, standing=ResultState(row.standing), replaces=_replaced(connection, row, destination),
        taken_back=_taken_back(connection, row, destination),
        accession_number=accession_number(connection, row.study_instance_uid),
    )  # fmt: skip


def _replaced(connection: Connection, result: Row[Any], destination: str) -> tuple[ObjectName, ...]:
    """Return what the destination shows of the earlier results of the line."""
    if result.sequence == 1:
        return ()
    keys = keys_of_line(connection, result.study_instance_uid, line_of(result))
    earlier = and_(results.c.standing == ResultState.SUPERSEDED, results.c.sequence < result.sequence)
    return _shown(connection, destination, and_(results.c.job_key.in_(keys), earlier))


def _taken_back(connection: Connection, result: Row[Any], destination: str) -> tuple[ObjectName, ...]:
    if result.standing not in TAKEN_BACK:
        return ()
    of_route = and_(results.c.study_instance_uid == result.study_instance_uid, results.c.route == result.route)
    return _shown(connection, destination, and_(of_route, results.c.standing.in_(TAKEN_BACK)))


def _shown(connection: Connection, destination: str, which: ColumnElement[bool]) -> tuple[ObjectName, ...]:
    there = or_(deliveries.c.state.in_(ARRIVED), deliveries.c.may_have_arrived)
    own = and_(deliveries.c.destination == destination, deliveries.c.is_withdrawal.is_(False), there)
    query = (
        select(artifacts.c.kind, artifacts.c.uid)
        .join(deliveries, deliveries.c.artifact_uid == artifacts.c.uid)
        .join(results, results.c.job_key == artifacts.c.job_key)
        .where(which, own, artifacts.c.media_type == MediaType.DICOM)
        .order_by(results.c.sequence, artifacts.c.send_order, artifacts.c.uid)
    )
    return tuple(ObjectName(ArtifactKind(row.kind), row.uid) for row in connection.execute(query))

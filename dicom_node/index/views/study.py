"""Read-only queries about one study: what came, what was decided, what was found, where it went, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from dicom_node.core.entities import ArtifactKind, InstanceRole, JobState, ResultState
from dicom_node.core.errors import NotFound
from dicom_node.index.tables import artifacts, associations, deliveries, events, instances, jobs, studies
from dicom_node.index.tables import results as results_table
from dicom_node.index.versions import IN_USE
from dicom_node.index.views.lists import delivery_query, delivery_view, study_lines
from dicom_node.index.views.types import (
    ArtifactView,
    DeliveryView,
    JobView,
    ResultView,
    SeriesView,
    StoredArtifact,
    StudyView,
    TimelineEntry,
)


def study(connection: Connection, study_instance_uid: str) -> StudyView:
    """Return everything known of one study but its timeline. Raises `NotFound`."""
    row = connection.execute(select(studies).where(studies.c.study_instance_uid == study_instance_uid)).one_or_none()
    if row is None:
        raise NotFound(_no_study(study_instance_uid))
    return StudyView(
        study=study_lines(connection, [row])[0],
        series=_series(connection, study_instance_uid),
        jobs=_jobs(connection, study_instance_uid),
        results=results(connection, study_instance_uid),
        deliveries=study_deliveries(connection, study_instance_uid),
    )


def timeline(connection: Connection, study_instance_uid: str) -> list[TimelineEntry]:
    """Return what happened to a study, oldest first: its events and the associations that carried it.

    Raises `NotFound`.
    """
    told = connection.execute(
        select(events).where(events.c.study_instance_uid == study_instance_uid).order_by(events.c.id)
    )
    carried = connection.execute(select(associations).where(associations.c.study_instance_uid == study_instance_uid))
    entries = [_association_entry(row) for row in carried]
    entries += [_event_entry(row) for row in told]
    if not entries:
        require_study(connection, study_instance_uid)
    return sorted(entries, key=lambda entry: entry.at)


def results(connection: Connection, study_instance_uid: str) -> list[ResultView]:
    """Return the stored answers about a study, newest first. Raises `NotFound` for an unknown study."""
    query = select(results_table).where(results_table.c.study_instance_uid == study_instance_uid)
    rows = connection.execute(query.order_by(results_table.c.created_at.desc(), results_table.c.route)).all()
    if not rows:
        require_study(connection, study_instance_uid)
    made = _artifacts(connection, [row.job_key for row in rows])
    return [_result_view(row, made.get(row.job_key, [])) for row in rows]


def result(connection: Connection, job_key: str) -> ResultView:
    """Return one stored answer. Raises `NotFound`."""
    row = connection.execute(select(results_table).where(results_table.c.job_key == job_key)).one_or_none()
    if row is None:
        raise NotFound(f"There is no result {job_key}. The results of a study list their job keys.")
    return _result_view(row, _artifacts(connection, [job_key]).get(job_key, []))


def artifact(connection: Connection, uid: str) -> StoredArtifact:
    """Return where one produced object lies. Raises `NotFound`."""
    row = connection.execute(select(artifacts).where(artifacts.c.uid == uid)).one_or_none()
    if row is None:
        raise NotFound(f"The node has produced no object {uid}. The results of a study list their objects.")
    return StoredArtifact(
        uid=row.uid,
        kind=ArtifactKind(row.kind),
        media_type=row.media_type,
        object_key=row.object_key,
        sha256=row.sha256,
        preview_key=row.preview_key,
    )


def study_deliveries(connection: Connection, study_instance_uid: str) -> list[DeliveryView]:
    """Return the deliveries of a study, in order of creation."""
    query = delivery_query().where(results_table.c.study_instance_uid == study_instance_uid)
    return [delivery_view(row) for row in connection.execute(query.order_by(deliveries.c.id))]


def require_study(connection: Connection, study_instance_uid: str) -> None:
    """Raise `NotFound` for a study that has never been received."""
    known = select(studies.c.study_instance_uid).where(studies.c.study_instance_uid == study_instance_uid)
    if connection.scalar(known) is None:
        raise NotFound(_no_study(study_instance_uid))


def _no_study(study_instance_uid: str) -> str:
    return (
        f"No study {study_instance_uid} has been received. Check the UID; if its sender reports success, "
        "check that it sent to this node."
    )


def _series(connection: Connection, study_instance_uid: str) -> list[SeriesView]:
    """One line per series and role, described by the first image in use of each."""
    grouped = (
        select(
            func.coalesce(func.min(case((IN_USE, instances.c.id))), func.min(instances.c.id)).label("first_id"),
            func.sum(case((IN_USE, 1), else_=0)).label("instances"),
            func.sum(case((IN_USE, 0), else_=1)).label("superseded"),
            func.sum(instances.c.size_bytes).label("total_bytes"),
        )
        .where(instances.c.study_instance_uid == study_instance_uid)
        .group_by(instances.c.series_instance_uid, instances.c.role)
        .subquery()
    )
    query = select(instances.c.series_instance_uid, instances.c.role, instances.c.attributes, grouped).join(
        grouped, grouped.c.first_id == instances.c.id
    )
    return [_series_view(row) for row in connection.execute(query.order_by(instances.c.id))]


def _series_view(row: Row[Any]) -> SeriesView:
    attributes: Mapping[str, str] = row.attributes
    return SeriesView(
        series_instance_uid=row.series_instance_uid,
        role=InstanceRole(row.role),
        modality=attributes.get("modality", ""),
        description=attributes.get("series_description", ""),
        body_part_examined=attributes.get("body_part_examined", ""),
        instances=int(row.instances),
        superseded=int(row.superseded),
        size_bytes=int(row.total_bytes),
    )


def _jobs(connection: Connection, study_instance_uid: str) -> list[JobView]:
    query = select(jobs).where(jobs.c.study_instance_uid == study_instance_uid)
    rows = connection.execute(query.order_by(jobs.c.revision.desc(), jobs.c.id))
    return [
        JobView(
            id=row.id,
            revision=row.revision,
            route=row.route,
            model=row.model,
            state=JobState(row.state),
            study_partial=row.study_partial,
            series_instance_uid=row.series_instance_uid,
            decision=row.decision,
            shadow_of=row.shadow_of,
            job_key=row.job_key,
            reason=row.reason,
            message=row.message,
            attempts=row.attempts,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
        for row in rows
    ]


def _result_view(row: Row[Any], made: Sequence[ArtifactView]) -> ResultView:
    return ResultView(
        job_key=row.job_key,
        study_instance_uid=row.study_instance_uid,
        revision=row.revision,
        route=row.route,
        model=row.model,
        state=JobState(row.state),
        reason=row.reason,
        message=row.message,
        sequence=row.sequence,
        current=row.standing == ResultState.CURRENT,
        standing=ResultState(row.standing),
        standing_reason=row.standing_reason,
        standing_at=row.standing_at,
        shadow_of=row.shadow_of,
        summary=row.summary,
        created_at=row.created_at,
        artifacts=made,
    )


def _artifacts(connection: Connection, job_keys: Sequence[str]) -> Mapping[str, list[ArtifactView]]:
    query = select(artifacts).where(artifacts.c.job_key.in_(job_keys)).order_by(artifacts.c.send_order, artifacts.c.uid)
    found: defaultdict[str, list[ArtifactView]] = defaultdict(list)
    for row in connection.execute(query):
        view = ArtifactView(
            uid=row.uid,
            job_key=row.job_key,
            kind=ArtifactKind(row.kind),
            media_type=row.media_type,
            description=row.description,
            sop_class_uid=row.sop_class_uid,
            series_instance_uid=row.series_instance_uid,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            has_preview=bool(row.preview_key),
        )
        found[row.job_key].append(view)
    return found


def _event_entry(row: Row[Any]) -> TimelineEntry:
    return TimelineEntry(at=row.at, kind=row.kind, text=row.text, actor=row.actor, detail=row.detail)


def _association_entry(row: Row[Any]) -> TimelineEntry:
    ending = "is still open" if row.closed_at is None else f"ended: {row.outcome or 'unknown'}"
    images = "1 object" if row.instances == 1 else f"{row.instances} objects"
    return TimelineEntry(
        at=row.opened_at,
        kind="association",
        text=f"{row.calling_ae_title} at {row.source_host} sent {images} to {row.called_ae_title}; "
        f"the association {ending}",
        detail={
            "association_id": row.association_id,
            "receiver_id": row.receiver_id,
            "instances": row.instances,
            "outcome": row.outcome,
            "closed_at": row.closed_at.isoformat().replace("+00:00", "Z") if row.closed_at else None,
        },
    )

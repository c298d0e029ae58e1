"""Read-only queries about one study: what came, what was decided, what was found, where it went, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, or_, select, tuple_

from dicom_node.core.entities import (
    ArtifactKind,
    DeliveryState,
    InstanceRole,
    JobState,
    ObjectState,
    PatientNumber,
    ResultState,
    ReviewState,
)
from dicom_node.core.errors import NotFound
from dicom_node.core.lifecycle import OPEN
from dicom_node.index.received.patients import numbers_of_patient, studies_of
from dicom_node.index.retention.deletions import Deletion, deletions_of
from dicom_node.index.retention.holds import Hold, hold_of
from dicom_node.index.tables import (
    artifacts,
    associations,
    deliveries,
    events,
    instances,
    jobs,
    notifications,
    studies,
)
from dicom_node.index.tables import results as results_table
from dicom_node.index.versions import IN_USE
from dicom_node.index.views.lists import Cursor, beyond, delivery_query, delivery_view, study_lines
from dicom_node.index.views.requested import order_shown, requests_shown
from dicom_node.index.views.reviews import decisions_on_results, review_told
from dicom_node.index.views.types import (
    ArtifactView,
    DeletionView,
    DeliveryView,
    HoldView,
    JobView,
    KeptArtifact,
    KeptDicomObject,
    OpenEvent,
    PatientStudy,
    ResultView,
    SeriesView,
    StoredArtifact,
    StudyView,
    TimelineEntry,
)

_KEPT = artifacts.c.state == ObjectState.STORED


class TimelinePlace(NamedTuple):
    """Where an entry stands in a timeline: its time, associations before events, its own key."""

    at: datetime
    kind: int
    key: str


def study(connection: Connection, study_instance_uid: str, authority: str = "") -> StudyView:
    """Return everything known of one study but its timeline; `authority` gave out the numbers of patients whose images
    name nobody. Raises `NotFound`."""
    row = connection.execute(select(studies).where(studies.c.study_instance_uid == study_instance_uid)).one_or_none()
    if row is None:
        raise NotFound(_no_study(study_instance_uid))
    return StudyView(
        study=study_lines(connection, [row])[0],
        series=_series(connection, study_instance_uid),
        jobs=_jobs(connection, study_instance_uid),
        results=results(connection, study_instance_uid),
        deliveries=study_deliveries(connection, study_instance_uid),
        open_events=_open_events(connection, study_instance_uid),
        order=order_shown(connection, study_instance_uid, authority),
        requests=requests_shown(connection, study_instance_uid),
        deletions=[_deletion_view(one) for one in deletions_of(connection, study_instance_uid)],
        hold=_hold_view(hold_of(connection, study_instance_uid)),
    )


def _deletion_view(one: Deletion) -> DeletionView:
    return DeletionView(
        kind=one.kind, state=one.state, rule=one.rule, actor=one.actor, objects=one.objects, size_bytes=one.size_bytes,
        marked_at=one.marked_at, ended_at=one.ended_at, text=one.in_words,
    )  # fmt: skip


def _hold_view(one: Hold | None) -> HoldView | None:
    return None if one is None else HoldView(reason=one.reason, held_by=one.held_by, since=one.since)


def timeline(connection: Connection, study_instance_uid: str) -> list[TimelineEntry]:
    """Return what happened to a study, oldest first: its events and the associations that carried it.

    Raises `NotFound`.
    """
    return [entry for _, entry in placed_timeline(connection, study_instance_uid)]


def placed_timeline(
    connection: Connection, study_instance_uid: str, behind: TimelinePlace | None = None
) -> list[tuple[TimelinePlace, TimelineEntry]]:
    """Return the entries of a timeline behind a place, each with its own. Raises `NotFound`."""
    told = connection.execute(
        select(events).where(events.c.study_instance_uid == study_instance_uid).order_by(events.c.id)
    )
    carried = connection.execute(select(associations).where(associations.c.study_instance_uid == study_instance_uid))
    placed = [(TimelinePlace(row.opened_at, 0, str(row.association_id)), _association_entry(row)) for row in carried]
    placed += [(TimelinePlace(row.at, 1, f"{row.id:020d}"), _event_entry(row)) for row in told]
    if not placed:
        require_study(connection, study_instance_uid)
    placed.sort(key=lambda one: one[0])
    return [one for one in placed if behind is None or one[0] > behind]


def results(
    connection: Connection, study_instance_uid: str, limit: int | None = None, behind: str | None = None
) -> list[ResultView]:
    """Return the stored answers about a study, newest first; at most `limit`, those behind the one of this job key.

    Raises `NotFound` for an unknown study.
    """
    query = select(results_table).where(results_table.c.study_instance_uid == study_instance_uid)
    if behind is not None:
        query = query.where(_is_behind(result(connection, behind)))
    place = (results_table.c.created_at.desc(), results_table.c.route, results_table.c.job_key)
    rows = connection.execute(query.order_by(*place).limit(limit)).all()
    if not rows:
        require_study(connection, study_instance_uid)
    return result_views(connection, rows)


def result_views(connection: Connection, rows: Sequence[Row[Any]]) -> list[ResultView]:
    """Complete rows of `results` with the objects that show them, and what people decided on them."""
    keys = [row.job_key for row in rows]
    made, decided = _artifacts(connection, keys), decisions_on_results(connection, keys)
    return [_result_view(row, made.get(row.job_key, []), decided.get(row.job_key)) for row in rows]


def _is_behind(last: ResultView) -> ColumnElement[bool]:
    at, rest = results_table.c.created_at, tuple_(results_table.c.route, results_table.c.job_key)
    return or_(at < last.created_at, and_(at == last.created_at, rest > (last.route, last.job_key)))


def history(
    connection: Connection, number: PatientNumber, authority: str, limit: int, older_than: Cursor | None = None
) -> list[PatientStudy]:
    """Return the studies of whoever has or had a number, newest first, each with its results; at most `limit`.

    Merges and changed numbers are followed; `authority` gave out the numbers of images that name nobody. Equal numbers
    of two authorities are two people's.
    """
    mine = studies_of(connection, numbers_of_patient(connection, number), authority)
    place = (studies.c.last_received_at.desc(), studies.c.study_instance_uid.desc())
    query = select(studies).where(studies.c.study_instance_uid.in_(mine)).order_by(*place).limit(limit)
    if older_than is not None:
        query = query.where(beyond(older_than, older=True))
    lines = study_lines(connection, connection.execute(query).all())
    return [PatientStudy(study=one, results=results(connection, one.study_instance_uid)) for one in lines]


def result(connection: Connection, job_key: str) -> ResultView:
    """Return one stored answer. Raises `NotFound`."""
    row = connection.execute(select(results_table).where(results_table.c.job_key == job_key)).one_or_none()
    if row is None:
        raise NotFound(f"There is no result {job_key}. The results of a study list their job keys.")
    decided = decisions_on_results(connection, [job_key]).get(job_key)
    return _result_view(row, _artifacts(connection, [job_key]).get(job_key, []), decided)


def artifact(connection: Connection, uid: str) -> StoredArtifact:
    """Return where one produced object lies. Raises `NotFound`."""
    row = connection.execute(select(artifacts).where(artifacts.c.uid == uid)).one_or_none()
    if row is None:
        raise NotFound(f"The node has produced no object {uid}. The results of a study list their objects.")
    if row.state == ObjectState.PURGED:
        raise NotFound(f"Object {uid} was deleted here; its study says when and why. Its destinations have it.")
    return StoredArtifact(
        uid=row.uid,
        kind=ArtifactKind(row.kind),
        media_type=row.media_type,
        object_key=row.object_key,
        sha256=row.sha256,
        preview_key=row.preview_key,
    )


def received_objects(connection: Connection, study_instance_uid: str) -> list[KeptDicomObject]:
    """Return what was received of a study and is in use, without what rejection notes name. Raises `NotFound`."""
    require_study(connection, study_instance_uid)
    columns = (
        instances.c.object_key,
        instances.c.sha256,
        instances.c.series_instance_uid,
        instances.c.sop_instance_uid,
    )
    mine = (instances.c.study_instance_uid == study_instance_uid, IN_USE, instances.c.role != InstanceRole.REJECTED)
    return [KeptDicomObject(*row) for row in connection.execute(select(*columns).where(*mine).order_by(*columns[2:]))]


def made_objects(connection: Connection, study_instance_uid: str) -> list[KeptDicomObject]:
    """Return the DICOM objects of a study's results that hold and are delivered."""
    columns = (artifacts.c.object_key, artifacts.c.sha256, artifacts.c.series_instance_uid, artifacts.c.uid)
    query = select(*columns).join(results_table, results_table.c.job_key == artifacts.c.job_key)
    mine = (
        results_table.c.study_instance_uid == study_instance_uid,
        results_table.c.standing == ResultState.CURRENT,
        results_table.c.shadow_of == "",
        artifacts.c.media_type == "application/dicom",
        _KEPT,
    )
    return [KeptDicomObject(*row) for row in connection.execute(query.where(*mine).order_by(artifacts.c.send_order))]


def dicom_objects(connection: Connection, job_keys: Sequence[str]) -> list[KeptDicomObject]:
    """Return the DICOM objects of results, whether these hold or not."""
    columns = (artifacts.c.object_key, artifacts.c.sha256, artifacts.c.series_instance_uid, artifacts.c.uid)
    mine = (artifacts.c.job_key.in_(job_keys), artifacts.c.media_type == "application/dicom", _KEPT)
    rows = connection.execute(select(*columns).where(*mine).order_by(artifacts.c.job_key, artifacts.c.send_order))
    return [KeptDicomObject(*row) for row in rows]


def kept_artifacts(connection: Connection, job_keys: Sequence[str]) -> list[KeptArtifact]:
    """Return the objects of results that are no DICOM objects."""
    others = artifacts.c.media_type != "application/dicom"
    query = select(artifacts).where(artifacts.c.job_key.in_(job_keys), others, _KEPT)
    rows = connection.execute(query.order_by(artifacts.c.job_key, artifacts.c.send_order))
    return [KeptArtifact(row.uid, ArtifactKind(row.kind), row.media_type, row.object_key, row.sha256) for row in rows]


def study_deliveries(connection: Connection, study_instance_uid: str) -> list[DeliveryView]:
    """Return the deliveries of a study, in order of creation."""
    query = delivery_query().where(results_table.c.study_instance_uid == study_instance_uid)
    return [delivery_view(row) for row in connection.execute(query.order_by(deliveries.c.id))]


def _open_events(connection: Connection, study_instance_uid: str) -> list[OpenEvent]:
    mine = notifications.c.study_instance_uid == study_instance_uid
    query = select(notifications).where(mine, notifications.c.state.in_(OPEN)).order_by(notifications.c.id)
    return [
        OpenEvent(
            id=row.event_id, type=row.type, destination=row.destination, state=DeliveryState(row.state),
            attempts=row.attempts, note=row.note,
        )
        for row in connection.execute(query)
    ]  # fmt: skip


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
            next_attempt_at=row.not_before if row.state == JobState.QUEUED and row.attempts else None,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
        for row in rows
    ]


def _result_view(row: Row[Any], made: Sequence[ArtifactView], decided: Row[Any] | None) -> ResultView:
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
        review_state=ReviewState(row.review_state),
        **review_told(row.job_key, decided),
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

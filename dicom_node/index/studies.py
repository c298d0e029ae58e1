"""Studies on their way: which ones may be complete, what they hold, the analyses they get, and what these amount to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, update

from dicom_node.core.entities import Instance, InstanceRole, JobState, SendingPeer, Series, Study, StudyState
from dicom_node.core.lifecycle import study_state_after
from dicom_node.core.priority import Priority, turn_at
from dicom_node.core.received.completeness import Arrivals
from dicom_node.index.tables import associations, held_studies, instances, jobs, studies
from dicom_node.index.transitions import Change, insert_job, move_study
from dicom_node.index.versions import IN_USE, IS_SOURCE

#: Clocks of machines that set theirs by NTP differ by less.
#: A modality that opens an association for each image has many.
_REQUESTS_NAMED = 8
_AHEAD = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """One analysis that is due: the route that wants it, and the decision that says why and with which series."""

    route: str
    model: str
    series_instance_uid: str
    study_partial: bool
    decision: Mapping[str, object]
    reason: str
    priority: Priority = Priority.ROUTINE
    #: The route it shadows; empty for one that delivers.
    shadow_of: str = ""


def perhaps_complete(connection: Connection, quiet_since: datetime, opened_before: datetime) -> list[str]:
    """Return the studies still RECEIVING that fell silent before `quiet_since` or began before `opened_before`."""
    due = or_(studies.c.last_received_at <= quiet_since, studies.c.first_received_at <= opened_before)
    query = select(studies.c.study_instance_uid).where(studies.c.state == StudyState.RECEIVING, due)
    return list(connection.execute(query.order_by(studies.c.last_received_at)).scalars())


def has_arrivals_ahead(connection: Connection, now: datetime) -> bool:
    """Tell whether images of a study came later than now: the clock was set back since, or another is ahead."""
    ahead = and_(studies.c.state == StudyState.RECEIVING, studies.c.last_received_at > now + _AHEAD)
    return connection.execute(select(studies.c.study_instance_uid).where(ahead).limit(1)).first() is not None


def count_arrivals_anew(connection: Connection, now: datetime) -> None:
    """Let studies whose images came later than now wait from now on, and not until the clock has caught up."""
    for column in (studies.c.last_received_at, studies.c.first_received_at):
        ahead = and_(studies.c.state == StudyState.RECEIVING, column > now + _AHEAD)
        connection.execute(update(studies).where(ahead).values({column.name: now}))


def load_study(connection: Connection, study_instance_uid: str, *, lock: bool = False) -> Study | None:
    """Return the study with its source instances in use (the latest version of each), `None` when unknown.

    With `lock`, arrivals wait until this transaction ends.
    """
    query = select(studies).where(studies.c.study_instance_uid == study_instance_uid)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        return None
    wanted = select(instances).where(instances.c.study_instance_uid == study_instance_uid, IS_SOURCE)
    by_series: defaultdict[str, list[Instance]] = defaultdict(list)
    for found in connection.execute(wanted.order_by(instances.c.sop_instance_uid)):
        by_series[found.series_instance_uid].append(_instance(found))
    return Study(
        study_instance_uid=study_instance_uid,
        revision=row.revision,
        state=StudyState(row.state),
        series=tuple(Series(series_instance_uid=uid, instances=tuple(by_series[uid])) for uid in sorted(by_series)),
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
    )


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        object_key=row.object_key,
        role=InstanceRole(row.role),
        attributes=row.attributes,
        received_at=row.received_at,
        sender=SendingPeer(row.calling_ae_title, row.called_ae_title, row.source_host),
    )


def moved_to(connection: Connection, study_instance_uid: str) -> set[str]:
    """Return the studies that have images which were in this one: what comes for them may take more away from it."""
    was, now = instances.alias("was"), instances.alias("now")
    moved = and_(
        was.c.study_instance_uid == study_instance_uid,
        was.c.superseded_at.is_not(None),
        now.c.superseded_at.is_(None),
        now.c.study_instance_uid != study_instance_uid,
    )
    same = now.c.sop_instance_uid == was.c.sop_instance_uid
    query = select(now.c.study_instance_uid).select_from(was.join(now, same)).where(moved)
    return set(connection.execute(query.distinct()).scalars())


def requests_of(connection: Connection, study_instance_uid: str) -> list[str]:
    """Return the ids of the latest associations, uploads and retrievals that carried a study, the newest last."""
    mine = associations.c.study_instance_uid == study_instance_uid
    query = select(associations.c.association_id).where(mine).order_by(associations.c.opened_at.desc())
    return list(reversed(connection.execute(query.limit(_REQUESTS_NAMED)).scalars().all()))


def is_received_before(connection: Connection, study_instance_uid: str, at: datetime) -> bool:
    """Tell whether the first image of a study, in its present revision, came before a time."""
    mine = studies.c.study_instance_uid == study_instance_uid
    found = connection.execute(select(studies.c.first_received_at).where(mine)).scalar_one_or_none()
    return found is not None and found < at


def arrivals(connection: Connection, study: Study, others: Collection[str] = ()) -> Arrivals:
    """Return what completeness is judged by; associations nobody serves any more were closed before.

    An association that carries one of `others` counts, too: see `moved_to`.
    """
    carried = associations.c.study_instance_uid.in_({study.study_instance_uid, *others})
    still_open = select(func.count(associations.c.association_id.distinct()))
    still_open = still_open.where(carried, associations.c.closed_at.is_(None))
    return Arrivals(study.first_received_at, study.last_received_at, connection.execute(still_open).scalar_one())


def why_no_images(connection: Connection, study_instance_uid: str) -> str:
    """Say what a study without an image to analyse consists of: rejected images, or documents and the like."""
    mine = and_(instances.c.study_instance_uid == study_instance_uid, IN_USE)
    query = select(instances.c.role, instances.c.attributes).where(mine)
    found = [(row.role, row.attributes.get("modality", "")) for row in connection.execute(query)]
    rejected = sum(role == InstanceRole.REJECTED for role, _ in found)
    if rejected:
        return f"No image is left in this study: rejection notes name all of them ({rejected})."
    kinds = ", ".join(sorted({modality for _, modality in found} - {""})) or "no modality told"
    return f"The study has no image to analyse, only other objects ({kinds})."


def routes_with_jobs(connection: Connection, study: Study) -> set[str]:
    """Return the routes that have already cut their job from this revision."""
    query = select(jobs.c.route).where(
        jobs.c.study_instance_uid == study.study_instance_uid, jobs.c.revision == study.revision
    )
    return set(connection.execute(query).scalars())


def add_jobs(connection: Connection, study: Study, new_jobs: Sequence[NewJob], at: datetime) -> None:
    """Queue the analyses that are due for this revision, each with the reason in the timeline."""
    for job in new_jobs:
        detail = {"route": job.route, "model": job.model, "revision": study.revision, "partial": job.study_partial,
                  "priority": job.priority, "shadow_of": job.shadow_of}  # fmt: skip
        insert_job(
            connection, study.study_instance_uid, Change(at, ("routed", job.reason), detail),
            revision=study.revision, route=job.route, model=job.model, study_partial=job.study_partial,
            series_instance_uid=job.series_instance_uid, decision=dict(job.decision), priority=job.priority,
            turn_at=turn_at(job.priority, at), shadow_of=job.shadow_of,
        )  # fmt: skip


def conclude_study(connection: Connection, study_instance_uid: str, now: datetime) -> None:
    """Give a study whose jobs have all been cut the state its jobs amount to."""
    query = select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    study = connection.execute(query).one()
    if study.state == StudyState.RECEIVING:
        return  # other routes still wait for this revision, or a late image has opened the next
    of_revision = and_(jobs.c.study_instance_uid == study_instance_uid, jobs.c.revision == study.revision)
    all_rows = connection.execute(select(jobs.c.state, jobs.c.message, jobs.c.shadow_of).where(of_revision)).all()
    # What only runs in the shadow says nothing about the study, unless there is nothing else.
    delivering = [row for row in all_rows if not row.shadow_of]
    rows = delivering or all_rows
    state = study_state_after([JobState(row.state) for row in rows])
    if state == study.state or (state is StudyState.ANALYSING and study.state == StudyState.COMPLETE):
        return  # nothing has changed, or nothing has been started yet
    waits_for = _routes_that_hold(connection, study_instance_uid)
    if waits_for and not (delivering and state is StudyState.REPORTED):  # that there is no answer is not the last word
        if study.state == StudyState.ANALYSING and not study.reason:
            why = f"Waits for a suspended route: {', '.join(waits_for)}."
            move_study(connection, study_instance_uid, StudyState.ANALYSING, Change(now), reason=why)
        return
    if study.state == StudyState.COMPLETE and state is not StudyState.NOT_ANALYSED:
        move_study(connection, study_instance_uid, StudyState.ANALYSING, Change(now))
    reason = "" if state in (StudyState.REPORTED, StudyState.ANALYSING) else " ".join(r.message for r in rows)
    move_study(connection, study_instance_uid, state, Change(now), reason=reason)


def _routes_that_hold(connection: Connection, study_instance_uid: str) -> Sequence[str]:
    query = select(held_studies.c.route).where(held_studies.c.study_instance_uid == study_instance_uid)
    return connection.execute(query.order_by(held_studies.c.route)).scalars().all()

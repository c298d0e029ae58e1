"""What it does to studies that a registration moves or corrects their patient: as a correction of their images does.

Results are withdrawn, the next revision opens, and they are made anew under the number in use (docs/decisions/0022).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from dicom_node.core.entities import DeliveryState, JobState, PatientNumber, ResultState, StatedPatient, StudyState
from dicom_node.core.lifecycle import OPEN
from dicom_node.index.outbox.withdrawals import WITHDRAWN, withdraw_results
from dicom_node.index.received.arrivals import has_images, is_late
from dicom_node.index.received.corrections import PATIENT_CORRECTED
from dicom_node.index.received.patients import (
    Statement,
    add_move,
    keep_statement,
    number_in_use,
    numbers_of_patient,
    prior_numbers,
    studies_of,
    take_turns,
)
from dicom_node.index.tables import deliveries, jobs, results, studies
from dicom_node.index.transitions import Change, make_deliveries_due, move_study, record, supersede_waiting_jobs

_MOVED = "The patient has another number by now: a registration has merged or changed it."
_CORRECTED = "A registration has corrected who the patient is."
_TRIED_AGAIN = ("patient-told", "A registration has told of the patient, so what is parked is tried again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientChange:
    """What a registration says: prior numbers with those in their place, and who the patient is under each number.

    `authority` gave out the numbers of images that name none.
    """

    moves: Collection[tuple[PatientNumber, PatientNumber]]
    stated: Collection[StatedPatient]
    authority: str


def follow_patient(connection: Connection, change: PatientChange, at: datetime) -> None:
    """Note a change and let what waits, is parked or was sent follow it. The same once more changes nothing.

    Raises `ValueError` for what cannot be: a merge that leads back, or of a number that was given up for another.
    """
    moved: set[str] = set()
    if change.moves:
        take_turns(connection)
    for prior, now in change.moves:
        if add_move(connection, prior, now, at):
            moved.update(studies_of(connection, {prior, *prior_numbers(connection, prior)}, change.authority))
    news = {one.number: keep_statement(connection, one, at) for one in change.stated}
    others = {uid: news[number] for number in news for uid in _studies_now(connection, number, change.authority)}
    held = _hold(connection, moved | others.keys())
    for uid, study in held.items():
        if uid in moved:
            _correct(connection, study, _MOVED, at)
        elif _is_affected(connection, uid, others[uid]):
            _correct(connection, study, _CORRECTED, at)
        else:
            parked = deliveries.c.state == DeliveryState.PARKED
            make_deliveries_due(connection, uid, parked, Change(at, _TRIED_AGAIN))


def _studies_now(connection: Connection, number: PatientNumber, authority: str) -> list[str]:
    """Return the studies of the patient who has this number; none for a number that was given up."""
    if number_in_use(connection, number) != number:
        return []
    return studies_of(connection, numbers_of_patient(connection, number), authority)


def _hold(connection: Connection, uids: Collection[str]) -> dict[str, Row[Any]]:
    """Hold studies in the order of their UIDs, as arrivals do."""
    query = select(studies).where(studies.c.study_instance_uid.in_(uids)).order_by(studies.c.study_instance_uid)
    return {row.study_instance_uid: row for row in connection.execute(query.with_for_update())} if uids else {}


def _is_affected(connection: Connection, uid: str, statement: Statement) -> bool:
    """Tell whether corrected demographics concern what is not there yet: what has arrived stays as it was said then.

    A first statement corrects nothing.
    """
    if statement is not Statement.CHANGED:
        return False
    mine = and_(results.c.study_instance_uid == uid, results.c.standing == ResultState.CURRENT)
    owed = select(deliveries.c.id).join(results, results.c.job_key == deliveries.c.job_key)
    if connection.execute(owed.where(mine, deliveries.c.state.in_(OPEN)).limit(1)).first() is not None:
        return True
    running = select(jobs.c.id).where(jobs.c.study_instance_uid == uid, jobs.c.state == JobState.RUNNING)
    return connection.execute(running.limit(1)).first() is not None


def _correct(connection: Connection, study: Row[Any], why: str, at: datetime) -> None:
    """Withdraw what was said under the old identity; where this revision was cut, open the next one.

    One that a late image has opened and that is not cut yet will be analysed under the new identity anyway.
    """
    uid = study.study_instance_uid
    if not (has_images(connection, uid) and _was_analysed(connection, uid)):
        record(connection, uid, at, (PATIENT_CORRECTED, why))
        return
    if is_late(connection, study):
        revision = study.revision + 1
        line = (PATIENT_CORRECTED, f"{why} This opened revision {revision}.")
        opened = Change(at, line, {"revision": revision})
        move_study(connection, uid, StudyState.RECEIVING, opened, revision=revision, first_received_at=at)
    else:
        record(connection, uid, at, (PATIENT_CORRECTED, why), revision=study.revision)
    supersede_waiting_jobs(connection, uid, at, why)
    withdraw_results(connection, uid, why, Change(at, (WITHDRAWN, f"The result was withdrawn. {why}")))


def _was_analysed(connection: Connection, uid: str) -> bool:
    """Tell whether any route has wanted the study; where none has, nothing was said of the patient."""
    return connection.execute(select(jobs.c.id).where(jobs.c.study_instance_uid == uid).limit(1)).first() is not None

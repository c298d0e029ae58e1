"""For which studies an EHR is asked for a report, and when next: ever less often, and not for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select

from dicom_node.core.entities import JobState, PatientNumber, ResultState
from dicom_node.index.database import insert_of
from dicom_node.index.due import is_due
from dicom_node.index.notices import accession_number
from dicom_node.index.received.patients import number_in_use, number_of_study
from dicom_node.index.tables import report_searches, results

_ANALYSED = (JobState.DONE, JobState.PARTIAL)
_LONGEST_PAUSE = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTimes:
    """How long after a result is asked first, and until when again."""

    after: timedelta
    within: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyToAsk:
    """A study whose report is looked for; `patient` is the number in use now, `None` where the images name none."""

    study_instance_uid: str
    patient: PatientNumber | None
    accession_number: str
    searches: int


def studies_to_ask(
    connection: Connection, times: SearchTimes, authority: str, now: datetime, limit: int
) -> list[StudyToAsk]:
    """Return analysed studies that are due, those that were analysed first; `authority` gave out the numbers of images
    that name nobody."""
    uid = results.c.study_instance_uid
    mine = (
        results.c.review_id.is_(None), results.c.shadow_of == "", results.c.state.in_(_ANALYSED),
        results.c.standing == ResultState.CURRENT,
        results.c.created_at.between(now - times.within, now - times.after),
    )  # fmt: skip
    next_at = report_searches.c.next_search_at
    never = report_searches.c.study_instance_uid.is_(None)
    due = or_(never, and_(next_at.is_not(None), is_due(next_at, now, _LONGEST_PAUSE.total_seconds())))
    joined = results.join(report_searches, report_searches.c.study_instance_uid == uid, isouter=True)
    searches = func.coalesce(func.max(report_searches.c.searches), 0)
    query = select(uid, searches.label("searches")).select_from(joined).where(*mine, due).group_by(uid)
    rows: Sequence[tuple[str, int]] = [
        (row.study_instance_uid, row.searches)
        for row in connection.execute(query.order_by(func.min(results.c.created_at)).limit(limit))
    ]
    return [_to_ask(connection, study, number, authority) for study, number in rows]


def _to_ask(connection: Connection, uid: str, searches: int, authority: str) -> StudyToAsk:
    number = number_of_study(connection, uid, authority)
    return StudyToAsk(
        study_instance_uid=uid, patient=number and number_in_use(connection, number),
        accession_number=accession_number(connection, uid), searches=searches,
    )  # fmt: skip


def note_search(connection: Connection, asked: StudyToAsk, first_pause: timedelta, now: datetime) -> None:
    """Note that a study was asked for; each pause is twice the one before."""
    pause = min(first_pause * 2 ** min(asked.searches, 10), _LONGEST_PAUSE)
    said = {"searches": asked.searches + 1, "next_search_at": now + pause}
    row = insert_of(connection)(report_searches).values(study_instance_uid=asked.study_instance_uid, **said)
    connection.execute(row.on_conflict_do_update(index_elements=[report_searches.c.study_instance_uid], set_=said))

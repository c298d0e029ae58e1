"""Reports of radiologists: the latest state of each, what was read of it, and the study that it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, or_, select, update

from dicom_node.core.assessment.report_reading import ReportedPresence, ReportReading
from dicom_node.core.entities import PatientNumber, ReportMatch, ReportStatus, StatedReport
from dicom_node.index.database import insert_of
from dicom_node.index.due import is_due
from dicom_node.index.received.patients import number_of_study, numbers_of_patient, studies_of
from dicom_node.index.tables import instances, reports, studies

#: So often a report that fits no study is held against those that are here, ever less often.
_LOOK_AGAIN = timedelta(minutes=5)
_LONGEST_PAUSE = timedelta(hours=6)
#: So often a text is given to its reader.
_MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A report that somebody has to look at: to read its text, where `reading` is `None`, and to find its study."""

    report_key: str
    text: str
    reading: ReportReading | None
    stated_at: datetime


# --- what comes ---------------------------------------------------------------------------------------------------


def keep_report(connection: Connection, report: StatedReport, now: datetime) -> str:
    """Enter a report, or its new state; return why it changes nothing, empty where it does.

    A state that is older than the one that is known says nothing any more, however late it comes.
    """
    key = _key(report)
    query = select(reports.c.status, reports.c.stated_at).where(reports.c.report_key == key).with_for_update()
    known = connection.execute(query).one_or_none()
    if known is not None and known.stated_at > report.stated_at:
        return "an older state of a report than the one that is known"
    is_cancelled = report.status is ReportStatus.CANCELLED
    said = {
        "source": report.source, "status": report.status,
        "match": ReportMatch.CANCELLED if is_cancelled else ReportMatch.WAITING, "reason": "",
        "accession_number": report.accession_number, "stated_study_uid": report.study_instance_uid,
        "patients": [[one.value, one.authority] for one in report.patients], "text": report.text, "reading": None,
        "attempts": 0, "stated_at": report.stated_at, "received_at": now, "next_look_at": None if is_cancelled else now,
    }  # fmt: skip
    statement = insert_of(connection)(reports).values(report_key=key, study_instance_uid=None, **said)
    # Whoever knows which study a report was of wants to see that it was taken back.
    kept = said if is_cancelled else {**said, "study_instance_uid": None}
    connection.execute(statement.on_conflict_do_update(index_elements=[reports.c.report_key], set_=kept))
    return ""


def is_known(connection: Connection, report: StatedReport) -> bool:
    """Whether this very state of a report was kept before, of a source that has a time for each."""
    mine = (reports.c.report_key == _key(report), reports.c.stated_at == report.stated_at)
    return bool(connection.execute(select(exists().where(*mine, reports.c.status == report.status))).scalar())


def _key(report: StatedReport) -> str:
    parts = (report.source, report.number.authority, report.number.value)
    return hashlib.sha256(b"\0".join(hashlib.sha256(one.encode()).digest() for one in parts)).hexdigest()


# --- what is read and found ---------------------------------------------------------------------------------------


def pending_reports(connection: Connection, now: datetime, limit: int) -> list[PendingReport]:
    """Return reports that are due to be looked at, those that have waited longest first."""
    query = select(reports).where(is_due(reports.c.next_look_at, now, _LONGEST_PAUSE.total_seconds()))
    rows = connection.execute(query.order_by(reports.c.next_look_at).limit(limit))
    return [PendingReport(row.report_key, row.text, reading_of(row.reading), row.stated_at) for row in rows]


def note_unread(connection: Connection, pending: PendingReport, why: str, now: datetime) -> None:
    """Note that its reader has ended over a report; after some attempts nobody tries again."""
    row = _unchanged(connection, pending)
    if row is None:
        return
    attempts = row.attempts + 1
    is_over = attempts >= _MOST_ATTEMPTS
    said: dict[str, Any] = {"attempts": attempts, "next_look_at": None if is_over else now + _LOOK_AGAIN}
    if is_over:
        said |= {"match": ReportMatch.UNREADABLE, "reason": why, "text": ""}
    connection.execute(update(reports).where(reports.c.report_key == pending.report_key).values(said))


def note_read(
    connection: Connection, pending: PendingReport, reading: ReportReading, authority: str, now: datetime
) -> tuple[ReportMatch | None, str]:
    """Note what a report says, and which study it is about; `None`: another state of it came meanwhile.

    `authority` gave out the numbers of images that name nobody.
    """
    row = _unchanged(connection, pending)
    if row is None:
        return None, ""
    uid, why = _study_of(connection, row, authority)
    match = ReportMatch.UNMATCHED if why else ReportMatch.MATCHED
    pause = min(max(_LOOK_AGAIN, (now - row.received_at) / 4), _LONGEST_PAUSE)
    said = {
        "match": match, "reason": why, "study_instance_uid": uid or None, "reading": _as_json(reading),
        "next_look_at": now + pause if why else None,
    }  # fmt: skip
    connection.execute(update(reports).where(reports.c.report_key == pending.report_key).values(said))
    return match, uid


def _unchanged(connection: Connection, pending: PendingReport) -> Row[Any] | None:
    mine = and_(reports.c.report_key == pending.report_key, reports.c.stated_at == pending.stated_at)
    query = select(reports).where(mine, reports.c.next_look_at.is_not(None)).with_for_update()
    return connection.execute(query).one_or_none()


def _study_of(connection: Connection, row: Row[Any], authority: str) -> tuple[str, str]:
    """Return the study that a report is about, or why it is not known: by UID, else by accession number and patient."""
    stated = {PatientNumber(value, issuer) for value, issuer in row.patients}
    patients = {known for one in stated for known in numbers_of_patient(connection, one)}
    if row.stated_study_uid and _is_here(connection, row.stated_study_uid):
        whose = number_of_study(connection, row.stated_study_uid, authority)
        if whose is None:
            return "", "The images of the study name no patient."
        if whose not in patients:
            return "", "The study that it names is of another patient, or the number of another authority."
        return row.stated_study_uid, ""
    if not row.accession_number:
        return "", "The study that it names is not here."
    return _by_accession(connection, row.accession_number, patients, authority)


def _by_accession(
    connection: Connection, accession: str, patients: Collection[PatientNumber], authority: str
) -> tuple[str, str]:
    mine = studies_of(connection, patients, authority)
    said = instances.c.attributes["accession_number"].as_string()
    query = select(instances.c.study_instance_uid).distinct().where(
        instances.c.study_instance_uid.in_(mine), instances.c.superseded_at.is_(None), said == accession
    )  # fmt: skip
    found = list(connection.execute(query).scalars())
    if len(found) == 1:
        return found[0], ""
    if found:
        return "", f"{len(found)} studies of the patient have its accession number."
    if mine:
        return "", "The patient's studies that are here have another accession number."
    return "", "No study of the patient is here."


def _is_here(connection: Connection, uid: str) -> bool:
    return bool(connection.execute(select(exists().where(studies.c.study_instance_uid == uid))).scalar())


# --- what goes ----------------------------------------------------------------------------------------------------


def forget_texts(connection: Connection, before: datetime) -> int:
    """Forget the texts of reports that were read and came before this, and of studies whose results are deleted."""
    gone = select(studies.c.study_instance_uid).where(studies.c.results_deleted_at.is_not(None))
    over = or_(reports.c.received_at <= before, reports.c.study_instance_uid.in_(gone))
    having = and_(reports.c.text != "", reports.c.reading.is_not(None), over)
    return connection.execute(update(reports).where(having).values(text="")).rowcount


def forget_unmatched(connection: Connection, before: datetime) -> int:
    """Forget reports that came before this and are of no study that is here; return how many."""
    mine = and_(reports.c.study_instance_uid.is_(None), reports.c.received_at < before)
    return connection.execute(delete(reports).where(mine)).rowcount


# --- readings as they are kept ------------------------------------------------------------------------------------


def _as_json(reading: ReportReading) -> dict[str, Any]:
    return {"language": reading.language, "rules": reading.rules, "said": dict(reading.said)}


def reading_of(kept: Mapping[str, Any] | None) -> ReportReading | None:
    """Return a reading as it was kept."""
    if kept is None:
        return None
    said = {key: ReportedPresence(value) for key, value in kept["said"].items()}
    return ReportReading(language=kept["language"], rules=kept["rules"], said=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedReport:
    """A report of which nobody knows the study, or that nobody can read, and why."""

    source: str
    match: ReportMatch
    reason: str
    accession_number: str
    stated_study_uid: str
    stated_at: datetime
    received_at: datetime


def unmatched_reports(connection: Connection, limit: int) -> list[UnmatchedReport]:
    """Return the latest reports that say nothing of any study, the newest first."""
    names = [one.name for one in fields(UnmatchedReport)]
    mine = reports.c.match.in_((ReportMatch.UNMATCHED, ReportMatch.UNREADABLE))
    query = select(*(reports.c[name] for name in names)).where(mine).order_by(reports.c.received_at.desc()).limit(limit)
    rows = connection.execute(query)
    return [UnmatchedReport(**{**row._mapping, "match": ReportMatch(row.match)}) for row in rows]


def counted_reports(connection: Connection) -> Mapping[ReportMatch, int]:
    """Return how many reports there are by whether their study is known."""
    query = select(reports.c.match, func.count()).group_by(reports.c.match)
    return dict.fromkeys(ReportMatch, 0) | {ReportMatch(match): number for match, number in connection.execute(query)}

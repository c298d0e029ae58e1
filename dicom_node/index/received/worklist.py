"""Which studies the worklist has to work out anew, and what is noted of each: how urgent, of what kind, found by what.

A study is worked out again whenever its row says that something has happened to it since, so that this can be
interrupted anywhere and done twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, or_, select, update

from dicom_node.core.entities import PatientNumber
from dicom_node.core.priority import Priority, stated_priority
from dicom_node.core.search_key import SearchKeys
from dicom_node.index.database import insert_of
from dicom_node.index.received.patients import note_whose
from dicom_node.index.tables import instances, jobs, studies, study_keys, study_patients
from dicom_node.index.versions import IN_USE, IS_IMAGE

#: How each priority stands in `studies.urgency`: the highest comes first.
URGENCIES: Mapping[str, int] = {priority.value: place for place, priority in enumerate(reversed(Priority))}
UNLISTED = or_(studies.c.listed_at.is_(None), studies.c.listed_at != studies.c.updated_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlistedStudy:
    """One study to be worked out, as its row stood at `as_of`; `series` has the attributes of an image of each.

    `patient` is whose number the images name; where that is not known (`None`), the object under `object_key` may say,
    and `heard` is what it said.
    """

    study_instance_uid: str
    as_of: datetime
    object_key: str = ""
    patient: PatientNumber | None = None
    heard: PatientNumber | None = None
    series: Sequence[Mapping[str, str]] = ()
    #: AE titles that sent them.
    senders: Collection[str] = frozenset()
    job_priorities: Sequence[str] = field(default=())
    #: Its images were deleted: what was worked out of them stays.
    is_deleted: bool = False


def unlisted_count(connection: Connection) -> int:
    """Return how many studies the worklist has not worked out since something happened to them."""
    return int(connection.scalar(select(func.count()).select_from(studies).where(UNLISTED)) or 0)


def list_anew(connection: Connection, keys: SearchKeys) -> int:
    """Have all studies worked out again whose digests another secret made; return how many these are."""
    others = (studies.c.listed_at.is_not(None), studies.c.listed_with != keys.name)
    return connection.execute(update(studies).where(*others).values(listed_at=None)).rowcount


def unlisted(connection: Connection, limit: int) -> list[UnlistedStudy]:
    """Return studies that are to be worked out, the latest first; a fixed number of queries."""
    columns = (studies.c.study_instance_uid, studies.c.updated_at, studies.c.revision, studies.c.images_deleted_at)
    query = select(*columns).where(UNLISTED)
    rows = connection.execute(query.order_by(studies.c.updated_at.desc()).limit(limit)).all()
    uids = [row.study_instance_uid for row in rows]
    series, patients, urgent = (
        _first_images(connection, uids),
        _patients(connection, uids),
        _priorities(connection, uids),
    )
    return [
        UnlistedStudy(
            study_instance_uid=uid, as_of=row.updated_at, patient=patients.get(uid),
            object_key=series[uid][0].object_key if series[uid] else "",
            series=[one.attributes for one in series[uid]],
            senders=frozenset(one.calling_ae_title for one in series[uid]) - {""}, job_priorities=urgent[uid],
            is_deleted=row.images_deleted_at is not None and not series[uid],
        )
        for uid, row in zip(uids, rows, strict=True)
    ]  # fmt: skip


def enter(connection: Connection, listed: Sequence[UnlistedStudy], keys: SearchKeys, authority: str) -> None:
    """Note what was worked out of studies, and by what each is found; a handful of statements, however many they are.

    `authority` gave out the number of images that name nobody.
    """
    _leave_as_they_are(connection, [study for study in listed if study.is_deleted], keys)
    listed = [study for study in listed if not study.is_deleted]
    if not listed:
        return
    uids = [study.study_instance_uid for study in listed]
    heard = {study.study_instance_uid: study.heard for study in listed if study.heard}
    known = _patients(connection, list(heard))  # an image may have come meanwhile, and says it better
    note_whose(connection, {uid: number for uid, number in heard.items() if uid not in known})
    connection.execute(delete(study_keys).where(study_keys.c.study_instance_uid.in_(uids)))
    rows = [
        {"search_key": key, "study_instance_uid": study.study_instance_uid}
        for study in listed
        for key in sorted(_keys(study, keys, authority))
    ]
    if rows:  # another process may be at it
        connection.execute(insert_of(connection)(study_keys).on_conflict_do_nothing(), rows)
    mine = studies.c.study_instance_uid == bindparam("uid")
    columns = [_columns(study) | {"listed_at": study.as_of, "listed_with": keys.name} for study in listed]
    named: dict[str, Any] = {name: bindparam(name) for name in columns[0]}
    told = [{"uid": uid, **values} for uid, values in zip(uids, columns, strict=True)]
    connection.execute(update(studies).where(mine).values(named), told)


def _leave_as_they_are(connection: Connection, listed: Sequence[UnlistedStudy], keys: SearchKeys) -> None:
    """Note of studies without images that nothing more can be worked out of them."""
    for study in listed:
        mine = studies.c.study_instance_uid == study.study_instance_uid
        as_of = {"listed_at": study.as_of, "listed_with": keys.name}
        connection.execute(update(studies).where(mine).values(**as_of))


def _keys(study: UnlistedStudy, keys: SearchKeys, authority: str) -> set[str]:
    found = {keys.of_accession(one) for one in _values(study.series, "accession_number")}
    patient = study.patient or study.heard
    if patient is not None:
        found.update(keys.of_patient(PatientNumber(patient.value, patient.authority or authority)))
    return found


def _columns(study: UnlistedStudy) -> dict[str, Any]:
    first: Mapping[str, str] = study.series[0] if study.series else {}
    urgent = study.job_priorities or [stated_priority(_values(study.series, "requested_procedure_priority"))]
    return {
        "urgency": max(URGENCIES.get(one, URGENCIES[Priority.ROUTINE]) for one in urgent),
        "modalities": between_bars(_values(study.series, "modality")),
        "stations": between_bars(_values(study.series, "station_name") | set(study.senders)),
        "description": first.get("study_description", ""),
        "study_date": first.get("study_date", "")[:8],
    }


def between_bars(values: Iterable[str]) -> str:
    """Return values as a column holds several: ``|CT|SR|``; none: ""."""
    told = "|".join(sorted(value.replace("|", " ") for value in values))
    return f"|{told}|" if told else ""


def _values(series: Iterable[Mapping[str, str]], name: str) -> set[str]:
    return {one.get(name, "") for one in series} - {""}


def _first_images(connection: Connection, uids: Sequence[str]) -> Mapping[str, list[Any]]:
    """Return the first image in use of every series, by study."""
    grouped = (
        select(func.min(instances.c.id).label("first_id"))
        .where(instances.c.study_instance_uid.in_(uids), IS_IMAGE, IN_USE)
        .group_by(instances.c.study_instance_uid, instances.c.series_instance_uid)
        .subquery()
    )
    columns = (
        instances.c.study_instance_uid, instances.c.object_key, instances.c.attributes, instances.c.calling_ae_title
    )  # fmt: skip
    query = select(*columns).join(grouped, grouped.c.first_id == instances.c.id).order_by(instances.c.id)
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.study_instance_uid].append(row)
    return found


def _patients(connection: Connection, uids: Sequence[str]) -> dict[str, PatientNumber]:
    query = select(study_patients).where(study_patients.c.study_instance_uid.in_(uids))
    return {row.study_instance_uid: PatientNumber(row.patient_id, row.issuer) for row in connection.execute(query)}


def _priorities(connection: Connection, uids: Sequence[str]) -> Mapping[str, list[str]]:
    """Return how urgent the analyses of each study's revision are; those of shadows say nothing."""
    query = select(jobs.c.study_instance_uid, jobs.c.priority).join(
        studies, studies.c.study_instance_uid == jobs.c.study_instance_uid
    )
    of_revision = (jobs.c.study_instance_uid.in_(uids), jobs.c.revision == studies.c.revision, jobs.c.shadow_of == "")
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in connection.execute(query.where(*of_revision)):
        found[row.study_instance_uid].append(row.priority)
    return found

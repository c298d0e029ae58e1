"""Read-only queries for viewers: the DICOM objects that the node has of studies, received and made, and which studies
match what somebody looks for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, and_, exists, or_, select, union_all

from dicom_node.core.entities import InstanceRole, ObjectState, ResultState
from dicom_node.core.search_key import SearchKeys
from dicom_node.index.database import is_among
from dicom_node.index.received.worklist import UNLISTED
from dicom_node.index.tables import artifacts, instances, results, reviews, studies, study_keys, study_patients
from dicom_node.index.versions import IN_USE

_DICOM = "application/dicom"
_NOT_REJECTED = and_(IN_USE, instances.c.role != InstanceRole.REJECTED)
_told = results.alias("told")
#: What a person has reviewed stays to be read beside what they say of it, as long as that holds: its masks and pictures
#: are those of both.
_REVIEWED = results.c.job_key.in_(
    select(reviews.c.job_key).join(_told, _told.c.job_key == reviews.c.result_key).where(
        _told.c.standing == ResultState.CURRENT
    )
)  # fmt: skip
_HOLDS = and_(
    or_(results.c.standing == ResultState.CURRENT, and_(results.c.standing == ResultState.SUPERSEDED, _REVIEWED)),
    results.c.shadow_of == "", artifacts.c.media_type == _DICOM, artifacts.c.state == ObjectState.STORED,
)  # fmt: skip
_ESCAPE = "\\"
_CLASSES = "1.2.840.10008.5.1.4.1.1."
#: What the node makes, by how its SOP class begins; the first that fits.
_MADE_MODALITIES = (
    (f"{_CLASSES}88.59", "KO"), (f"{_CLASSES}88.", "SR"), (f"{_CLASSES}66.", "SEG"), (f"{_CLASSES}11.", "PR"),
    (f"{_CLASSES}104.", "DOC"), (f"{_CLASSES}7", "OT"), (f"{_CLASSES}30", "PMAP"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableObject:
    """One object that can be read: whose it is, and where its bytes lie. `is_received`: the node did not make it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    object_key: str
    sha256: str
    size_bytes: int
    modality: str = ""
    is_received: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStudies:
    """Which studies are looked for. Texts may hold wildcards (PS3.4 C.2.2.2.4); none means any."""

    study_instance_uids: Sequence[str] = ()
    series_instance_uids: Sequence[str] = ()
    sop_instance_uids: Sequence[str] = ()
    patient_id: str = ""
    accession_number: str = ""
    modalities: Sequence[str] = ()
    #: First and last date, as in DICOM; "" for an open end.
    study_dates: tuple[str, str] | None = None


def find_studies(connection: Connection, wanted: KeptStudies, keys: SearchKeys, offset: int, limit: int) -> list[str]:
    """Return the UIDs of studies that match, latest arrival first. `keys` are those of the worklist."""
    order = (studies.c.last_received_at.desc(), studies.c.study_instance_uid)
    query = select(studies.c.study_instance_uid).where(*_conditions(wanted, keys)).order_by(*order)
    return list(connection.execute(query.offset(offset).limit(limit)).scalars())


def objects_of(connection: Connection, study_instance_uids: Collection[str]) -> dict[str, list[ReadableObject]]:
    """Return the objects of studies, by study: what was received and is in use, and what results consist of that hold;
    in the order of series and objects."""
    found: defaultdict[str, dict[str, ReadableObject]] = defaultdict(dict)
    received = _received().where(is_among(instances.c.study_instance_uid, study_instance_uids))
    made = _made().where(is_among(results.c.study_instance_uid, study_instance_uids))
    for one in (*map(_object, connection.execute(received)), *map(_object, connection.execute(made))):
        found[one.study_instance_uid][one.sop_instance_uid] = one
    return {uid: sorted(objects.values(), key=_place) for uid, objects in found.items()}


def object_of(connection: Connection, study_instance_uid: str, sop_instance_uid: str) -> ReadableObject | None:
    """Return one object of a study; `None` where the node does not have it, or it does not hold any more.

    What the node has made goes before what somebody has sent under its UID.
    """
    made = _made().where(artifacts.c.uid == sop_instance_uid, results.c.study_instance_uid == study_instance_uid)
    received = _received().where(
        instances.c.sop_instance_uid == sop_instance_uid, instances.c.study_instance_uid == study_instance_uid
    )
    row = connection.execute(made).first() or connection.execute(received).one_or_none()
    return None if row is None else _object(row)


def _place(one: ReadableObject) -> tuple[str, str]:
    return one.series_instance_uid, one.sop_instance_uid


def _received() -> Select[Any]:
    return select(
        instances.c.study_instance_uid,
        instances.c.series_instance_uid,
        instances.c.sop_instance_uid,
        instances.c.sop_class_uid,
        instances.c.object_key,
        instances.c.sha256,
        instances.c.size_bytes,
        instances.c.attributes["modality"].as_string().label("modality"),
    ).where(_NOT_REJECTED)


def _made() -> Select[Any]:
    columns = (
        results.c.study_instance_uid,
        artifacts.c.series_instance_uid,
        artifacts.c.uid.label("sop_instance_uid"),
        artifacts.c.sop_class_uid,
        artifacts.c.object_key,
        artifacts.c.sha256,
        artifacts.c.size_bytes,
    )
    return select(*columns).join(results, results.c.job_key == artifacts.c.job_key).where(_HOLDS)


def _object(row: Row[Any]) -> ReadableObject:
    named = dict(row._mapping)
    is_received = "modality" in named
    modality = named.pop("modality", None) or _modality_of_class(row.sop_class_uid)
    return ReadableObject(**named, modality=modality, is_received=is_received)


def _modality_of_class(sop_class_uid: str) -> str:
    return next((modality for start, modality in _MADE_MODALITIES if sop_class_uid.startswith(start)), "")


# --- what is looked for ----------------------------------------------------------------------------------------------


def _conditions(wanted: KeptStudies, keys: SearchKeys) -> Iterable[ColumnElement[bool]]:
    if wanted.study_instance_uids:
        yield is_among(studies.c.study_instance_uid, wanted.study_instance_uids)
    if wanted.series_instance_uids:
        mine = wanted.series_instance_uids
        yield _has(is_among(instances.c.series_instance_uid, mine), is_among(artifacts.c.series_instance_uid, mine))
    if wanted.sop_instance_uids:
        mine = wanted.sop_instance_uids
        yield _has(is_among(instances.c.sop_instance_uid, mine), is_among(artifacts.c.uid, mine))
    if wanted.patient_id:
        named = select(study_patients.c.study_instance_uid).where(_is(study_patients.c.patient_id, wanted.patient_id))
        yield studies.c.study_instance_uid.in_(named)
    if wanted.accession_number:
        yield _of_accession(wanted.accession_number, keys)
    if wanted.modalities:
        yield or_(*map(_has_modality, wanted.modalities))
    if wanted.study_dates is not None:
        first, last = wanted.study_dates
        date = instances.c.attributes["study_date"].as_string()
        yield _has_image(and_(date >= (first or "0"), date <= (last or "9")))


def _of_accession(number: str, keys: SearchKeys) -> ColumnElement[bool]:
    """Of an exact number ask for its digest, which has an index; only what the worklist does not know yet is read."""
    says = _is(instances.c.attributes["accession_number"].as_string(), number)
    if _has_wildcards(number):
        return _has_image(says)
    known = select(study_keys.c.study_instance_uid).where(study_keys.c.search_key == keys.of_accession(number))
    unknown = select(studies.c.study_instance_uid).where(UNLISTED, _has_image(says))
    return studies.c.study_instance_uid.in_(union_all(known, unknown))


def _has(received: ColumnElement[bool], made: ColumnElement[bool]) -> ColumnElement[bool]:
    of_results = select(results.c.study_instance_uid).join(artifacts, results.c.job_key == artifacts.c.job_key)
    return or_(
        studies.c.study_instance_uid.in_(select(instances.c.study_instance_uid).where(_NOT_REJECTED, received)),
        studies.c.study_instance_uid.in_(of_results.where(_HOLDS, made)),
    )


def _has_image(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    mine = instances.c.study_instance_uid == studies.c.study_instance_uid
    return exists().where(mine, _NOT_REJECTED, condition)


def _has_modality(modality: str) -> ColumnElement[bool]:
    received = _has_image(_is(instances.c.attributes["modality"].as_string(), modality))
    starts = [start for start, made in _MADE_MODALITIES if made == modality]
    if not starts:
        return received
    mine = results.c.study_instance_uid == studies.c.study_instance_uid
    made = select(results.c.job_key).join(artifacts, results.c.job_key == artifacts.c.job_key)
    of_class = or_(*(artifacts.c.sop_class_uid.startswith(start) for start in starts))
    return or_(received, exists(made.where(mine, _HOLDS, of_class)))


def _is(column: Column[Any] | ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Compare with a text in which `*` stands for any characters and `?` for one."""
    if not _has_wildcards(text):
        return column == text
    escaped = re.sub(r"([%_\\])", r"\\\1", text)
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape=_ESCAPE)


def _has_wildcards(text: str) -> bool:
    return bool(re.search(r"[*?]", text))

"""The worklist: studies by urgency with patient, finding and what keeps a result; found by number, UID and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import ApiParts, Parts, Stripped, StudyUid
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import StudyState
from dicom_node.core.priority import Priority
from dicom_node.headers.demographics import Demographics
from dicom_node.index.received.worklist import unlisted_count
from dicom_node.index.views.types import StudyLine
from dicom_node.index.views.worklist import search
from dicom_node.index.views.worklist.filter import ReviewWanted, WorklistFilter, WorklistPlace
from dicom_node.index.views.worklist.studies import (
    RouteLine,
    Undelivered,
    WorklistLine,
    place_of,
    worklist,
    worklist_line,
)

router = APIRouter(prefix=V1, tags=["studies"], dependencies=[Reads], responses=described(401, 422, 429, 503))

#: Names are read from so many objects at once, and no more are shown.
_MOST = 50


def _place(text: str) -> str:
    WorklistPlace.parse(text)
    return text


_Cursor = Annotated[
    str,
    Field(max_length=84, json_schema_extra={"pattern": r"^[0-9]_[0-9]{1,17}_[0-9]+(\.[0-9]+)*$"},
          examples=["3_1773480000000000_1.2.826.0.1.3680043.8.498.101"]),
    AfterValidator(_place),
]  # fmt: skip
_Number = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\\\x00-\x1f\x7f]*$"), Stripped]
_Word = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$"), Stripped]
_Modality = Annotated[str, StringConstraints(max_length=16, pattern=r"^[A-Z0-9_ ]*$")]
_Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class PatientAnswer(BaseModel):
    """Who the patient is, as the images say it; `birth_date` is a DICOM DA, `sex` M, F or O. What is not said is ""."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(examples=["Doe^Jane"])
    patient_id: str = Field(examples=["PAT-4711"])
    issuer: str = Field(examples=["HOSP"])
    birth_date: str = Field(examples=["19700131"])
    sex: str = Field(examples=["F"])
    accession_number: str = Field(examples=["ACC-1001"])


class WorklistEntry(BaseModel):
    """One study of the worklist. `patient` is `null` where no stored image says who it is."""

    study: StudyLine
    urgency: Priority
    stations: Sequence[str] = Field(description="Names of the machines, and AE titles of who sent it.")
    patient: PatientAnswer | None
    routes: Sequence[RouteLine] = Field(description="What each route did and found, shadows left out.")
    undelivered: Sequence[Undelivered] = Field(description="What a destination has refused or not taken yet.")
    says: str = Field(description="One sentence: where it stands, and what keeps its result.")


class WorklistAnswer(BaseModel):
    """One page of the worklist. `next` is the `cursor` of the page behind it, `null` at the end; `unlisted` counts
    studies that urgency, filters and search do not know yet, as after an upgrade."""

    studies: list[WorklistEntry]
    next: str | None
    unlisted: int


class WorklistQuery(BaseModel):
    """Which studies of the worklist."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(_MOST, ge=1, le=_MOST)
    query: _Word = Field("", description="An accession number, patient ID or UID; else words of the description, "
                         "a modality, a station or AE title.", examples=["thorax"])  # fmt: skip
    accession_number: _Number = Field("", description="Only studies with this accession number.", examples=[""])
    patient_id: _Number = Field("", description="Only studies of the patient with this number.", examples=[""])
    issuer: _Number = Field("", description="Who gave the patient's number out; none: whoever did.", examples=[""])
    state: StudyState | None = Field(None, description="Only those in this state.", examples=["REPORTED"])
    urgency: Priority | None = Field(None, description="Only those that are so urgent.")
    modality: _Modality = Field("", description="Only those with this modality.")
    station: _Word = Field("", description="Only those from this station or AE title.")
    model: _Word = Field("", description="Only those that this model is to answer for.")
    since: _Day | None = Field(None, description="Study date, the first.", examples=["2026-03-01"])
    until: _Day | None = Field(None, description="Study date, the last.", examples=["2026-03-31"])
    review: ReviewWanted | None = Field(None, description="Only those that wait for a review, or had one.")
    cursor: _Cursor | None = Field(None, description="`next` of another page: the page behind it.")


@router.get(
    "/worklist",
    summary="The worklist: studies by urgency",
    responses=PAGED,
    dependencies=[audited(AuditedAct.QUERY)],
)
def get_worklist(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[WorklistQuery, Query()]
) -> WorklistAnswer:
    """Studies, the most urgent first and of those the latest, each with its patient, what every route found, and what
    keeps a result from its destination. The patient is read from a stored image, for you, and kept nowhere."""
    with parts.database.read() as connection:
        found = worklist(connection, asked.limit + 1, _wanted(parts, connection, asked))
        waits = unlisted_count(connection)
    page = pages.cut(found, asked.limit, place_of)
    behind = str(place_of(page[-1])) if len(found) > len(page) else None
    return WorklistAnswer(studies=_entries(parts, page), next=behind, unlisted=waits)


@router.get(
    "/worklist/{uid}",
    summary="One study of the worklist",
    responses=described(404),
    dependencies=[audited(AuditedAct.RESULT_READ)],
)
def get_worklist_entry(parts: Parts, uid: StudyUid) -> WorklistEntry:
    """One study as the worklist has it: patient, findings, and in one sentence what keeps its result."""
    with parts.database.read() as connection:
        line = worklist_line(connection, uid)
    return _entries(parts, [line])[0]


def _wanted(parts: ApiParts, connection: Connection, asked: WorklistQuery) -> WorklistFilter:
    among = _among(parts, connection, asked)
    words = asked.query.split()
    if among is None and words:
        among = search.named(connection, parts.search_keys, asked.query, _authority(parts)) or None
    return WorklistFilter(
        state=asked.state, urgency=asked.urgency, modality=asked.modality, station=asked.station, model=asked.model,
        since=_da(asked.since), until=_da(asked.until), review=asked.review, among=among,
        words=[] if among else words, behind=WorklistPlace.parse(asked.cursor) if asked.cursor else None,
    )  # fmt: skip


def _among(parts: ApiParts, connection: Connection, asked: WorklistQuery) -> set[str] | None:
    """Return the studies with the numbers that are asked for; `None` where none is."""
    found: list[set[str]] = []
    if asked.accession_number:
        found.append(search.with_accession(connection, parts.search_keys, asked.accession_number))
    if asked.patient_id:
        number = (asked.patient_id, asked.issuer, _authority(parts))
        found.append(search.of_patient(connection, parts.search_keys, *number))
    return set.intersection(*found) if found else None


def _authority(parts: ApiParts) -> str:
    return parts.settings.hl7.patient_authority


def _da(day: str | None) -> str:
    return (day or "").replace("-", "")


def _entries(parts: ApiParts, lines: Sequence[WorklistLine]) -> list[WorklistEntry]:
    whose = parts.patients.of([line.object_key for line in lines])
    return [_entry(line, whose.get(line.object_key)) for line in lines]


def _entry(line: WorklistLine, said: Demographics | None) -> WorklistEntry:
    told = {one.name: getattr(line, one.name) for one in fields(line) if one.name in WorklistEntry.model_fields}
    return WorklistEntry(**told, patient=None if said is None else PatientAnswer.model_validate(said))

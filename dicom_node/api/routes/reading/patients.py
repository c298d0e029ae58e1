"""What the node knows of one patient: their studies with the results, under whatever number they came."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dicom_node.api.access import CurrentPrincipal, Reads, address_of
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages
from dicom_node.api.answers.problems import described
from dicom_node.api.parts import CursorText, Parts
from dicom_node.api.results import PatientStudyAnswer, patient_study_answer
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import PatientNumber
from dicom_node.index.views import study as study_views
from dicom_node.index.views.lists import Cursor
from dicom_node.index.views.types import PatientStudy

router = APIRouter(prefix=V1, tags=["patients"], dependencies=[Reads], responses=described(401, 403, 422, 429, 503))

#: As PatientID and its issuer can be (PS3.5 6.2, LO): no backslash, no control character.
_LO = r"^[^\\\x00-\x1f\x7f]+$"
_PatientId = Annotated[
    str,
    Path(alias="id", min_length=1, max_length=64, pattern=_LO, description="Patient ID", examples=["PAT-4711"]),
]


class HistoryQuery(BaseModel):
    """Whose history, and which part of it."""

    model_config = ConfigDict(extra="forbid")

    issuer: Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\\\x00-\x1f\x7f]*$")] = Field(
        "",
        description="Who gave the number out, as IssuerOfPatientID or PID-3.4 have it. Without it: whoever gives out "
        "those of images that name nobody (hl7.patient_authority).",
        examples=["HOSP"],
    )
    limit: int = Field(20, ge=1, le=100)
    cursor: CursorText | None = Field(None, description="Taken from the `Link` of the page before.")


def _number_asked_for(
    request: Request,
    parts: Parts,
    principal: CurrentPrincipal,
    patient_id: _PatientId,
    asked: Annotated[HistoryQuery, Query()],
) -> PatientNumber:
    """Return whose history is wanted, when it is written down who wants it. Raises `AuditUnavailable`."""
    number = PatientNumber(patient_id, asked.issuer or parts.settings.hl7.patient_authority)
    parts.audit.record(
        AuditedEvent(
            act=AuditedAct.HISTORY_READ, actor=principal, address=address_of(request), patient_id=number.value,
            issuer_of_patient_id=number.authority,
        )
    )  # fmt: skip
    return number


@router.get("/patients/{id:path}/history", summary="What was found on a patient before", responses=PAGED)
def get_history(
    parts: Parts,
    pages: Annotated[ListPages, Depends()],
    number: Annotated[PatientNumber, Depends(_number_asked_for)],
    asked: Annotated[HistoryQuery, Query()],
) -> list[PatientStudyAnswer]:
    """Studies of one patient, newest first, each with its results and who reviewed them. Equal numbers of two issuers
    are two people's; numbers that a registration has merged are one person's. Who asked is written down."""
    older_than = Cursor.parse(asked.cursor) if asked.cursor else None
    authority = parts.settings.hl7.patient_authority
    with parts.database.read() as connection:
        found = study_views.history(connection, number, authority, asked.limit + 1, older_than)
    return [patient_study_answer(one) for one in pages.cut(found, asked.limit, _place)]


def _place(one: PatientStudy) -> Cursor:
    return Cursor(one.study.last_received_at, one.study.study_instance_uid)

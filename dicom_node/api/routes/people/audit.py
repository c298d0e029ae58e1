"""The audit trail, for administrators: who did what, from where, about whom."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from dicom_node.api.access import Administers
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import Parts
from dicom_node.core.audit import AuditedAct, AuditOutcome
from dicom_node.index.people.audit_records import AuditFilter, AuditRecord, latest_records

router = APIRouter(prefix=V1, tags=["audit"], responses=described(401, 403, 422, 429, 503))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One act. `outcome` is 0 for success, 4 for what was refused, 8 for what failed; `detail` holds identifiers,
    counts and reasons; `key_id` names the key that seals it. Whether the trail is whole says `dicom-node audit verify`.
    """

    number: int
    at: datetime
    act: str
    actor: str
    address: str
    outcome: str
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    detail: Mapping[str, Any]
    key_id: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first; `older` is `before` of the next page, and `null` on the last."""

    records: Sequence[AuditLine]
    older: int | None


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time of the years 1 to 9999 in UTC") from error


def _no_number(text: object) -> object:
    if isinstance(text, str) and re.fullmatch(r"[-+]?[0-9.]+", text):  # it would be taken for seconds since 1970
        raise ValueError("a time as in RFC 3339, 2026-11-20T08:00:00Z")
    return text


#: A time that databases can be asked for, whatever its offset.
_Time = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_in_utc)]


class AuditQuery(BaseModel):
    """Which records to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=1000)
    before: int | None = Field(None, ge=1, le=2**62, description="`older` of another page.")
    since: _Time | None = Field(None, description="From this time on.")
    until: _Time | None = Field(None, description="Before this time.")
    actor: str = Field("", max_length=128, pattern=r"^[^\x00-\x1f]*$", description="Who did it, exactly.")
    act: AuditedAct | None = None
    outcome: AuditOutcome | None = None
    study: str = Field("", max_length=64, pattern=r"^[0-9.]*$", description="Study Instance UID.")
    patient_id: str = Field("", max_length=64, pattern=r"^[^\x00-\x1f]*$", description="PatientID, exactly.")


@router.get("/audit", summary="Who did what", dependencies=[Administers, audited(AuditedAct.AUDIT_READ)])
def get_audit(parts: Parts, asked: Annotated[AuditQuery, Query()]) -> AuditPage:
    """One page of the audit trail, newest first. That it was read is written down, too."""
    wanted = AuditFilter(
        since=asked.since,
        until=asked.until,
        actor=asked.actor,
        act=asked.act or "",
        outcome=asked.outcome or "",
        study_instance_uid=asked.study,
        patient_id=asked.patient_id,
    )
    with parts.database.read() as connection:
        found = latest_records(connection, wanted, asked.limit + 1, asked.before)
    shown = found[: asked.limit]
    return AuditPage([_line(one) for one in shown], shown[-1].number if len(found) > asked.limit else None)


def _line(record: AuditRecord) -> AuditLine:
    names = [name for name in AuditLine.__slots__ if name != "detail"]
    return AuditLine(**{name: getattr(record, name) for name in names}, detail=json.loads(record.detail))

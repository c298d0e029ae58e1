"""Alarms: what stands, what stood, by which rules, and that a person knows of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.api.access import CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, NumberPageQuery
from dicom_node.api.answers.problems import described
from dicom_node.api.audited import audited
from dicom_node.api.parts import Parts
from dicom_node.core.alarms.rules import BY_CODE, RULES, Severity
from dicom_node.core.alarms.standing import Alarm
from dicom_node.core.audit import AuditedAct
from dicom_node.index.alarms.standing import acknowledge, latest_alarms
from dicom_node.operate.alarms.round import receivers_of

router = APIRouter(prefix=V1, dependencies=[Reads], responses=described(401, 422, 429, 503))

AlarmId = Annotated[int, Path(alias="id", ge=1, le=2**62, description="Number of the alarm", examples=[1])]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmView:
    """One alarm. `subject` says of whom or what it is, empty: of the node; `text` what is seen, `since` since when as
    far as that is known. `standing` is RAISED, ACKNOWLEDGED by a person, or CLEARED. `study_instance_uid` is the study
    that it is about; empty: none."""

    id: int
    rule: str
    severity: Severity
    title: str
    subject: str
    text: str
    advice: str
    since: datetime
    raised_at: datetime
    standing: str
    acknowledged_at: datetime | None
    acknowledged_by: str
    note: str
    cleared_at: datetime | None
    study_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRuleView:
    """One rule. `limit` is that of the settings, in `unit`; 0 where there is none. `is_on`: it is judged."""

    code: str
    severity: Severity
    title: str
    judged: str
    advice: str
    limit: float
    unit: str
    is_on: bool


class AlarmListQuery(NumberPageQuery):
    """Which alarms to list."""

    standing: bool = Field(False, description="Only those that are not over.")


class Acknowledgement(BaseModel):
    """What a person says of an alarm that they know of."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(
        "", max_length=500, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$",
        description="What is done about it. It is shown on the page, and told to no receiver.",
    )  # fmt: skip


@router.get(
    "/alarms",
    tags=["node"],
    summary="List alarms, newest first",
    responses=PAGED,
    dependencies=[audited(AuditedAct.QUERY)],
)
def list_alarms(
    parts: Parts, pages: Annotated[ListPages, Depends()], asked: Annotated[AlarmListQuery, Query()]
) -> list[AlarmView]:
    """What stands, and what stood within the last year."""
    with parts.database.read() as connection:
        found = latest_alarms(connection, asked.limit + 1, asked.cursor, only_standing=asked.standing)
    return pages.cut([_view(one) for one in found], asked.limit, lambda one: one.id)


@router.get("/alarms/rules", tags=["node"], summary="The rules of alarms, and their limits")
def get_alarm_rules(parts: Parts) -> Sequence[AlarmRuleView]:
    """Every rule, with the limit that the settings give it."""
    limits = parts.settings.alarms.as_limits
    return [
        AlarmRuleView(
            code=one.code, severity=one.severity, title=one.title, judged=one.judged, advice=one.advice,
            limit=limits.of(one), unit=one.unit, is_on=one.code not in limits.off,
        )
        for one in RULES
    ]  # fmt: skip


@router.post(
    "/alarms/{id}/acknowledge",
    tags=["operator"],
    summary="Say that somebody knows of an alarm",
    dependencies=[Operates, audited(AuditedAct.ALARM_ACKNOWLEDGED)],
    responses=described(403, 404, 409),
)
def acknowledge_alarm(parts: Parts, principal: CurrentPrincipal, alarm_id: AlarmId, said: Acknowledgement) -> AlarmView:
    """It is not told again while it lasts; that it is over is told. A critical finding is over by this."""
    with parts.database.write() as connection:
        who = principal, datetime.now(UTC)
        return _view(acknowledge(connection, alarm_id, said.reason.strip(), who, receivers_of(parts.settings)))


def _view(alarm: Alarm) -> AlarmView:
    rule = BY_CODE.get(alarm.rule)
    return AlarmView(
        id=alarm.number, rule=alarm.rule, severity=alarm.severity, title=rule.title if rule else alarm.rule,
        subject=alarm.subject, text=alarm.text, advice=rule.advice if rule else "", since=alarm.since,
        raised_at=alarm.raised_at or alarm.seen_at, standing=alarm.standing, acknowledged_at=alarm.acknowledged_at,
        acknowledged_by=alarm.acknowledged_by, note=alarm.note, cleared_at=alarm.cleared_at,
        study_instance_uid=str(alarm.detail.get("study_instance_uid", "")),
    )  # fmt: skip

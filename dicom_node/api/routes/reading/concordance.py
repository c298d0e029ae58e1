"""How often models and radiologists' reports say the same, and where a person should look again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.answers.streamed import DaysQuery
from dicom_node.api.audited import audited
from dicom_node.api.export_places import OneOfFewExports
from dicom_node.api.parts import Parts
from dicom_node.api.routes.reading.agreement import ProportionAnswer
from dicom_node.core.assessment.concordance import (
    DISCORDANT,
    ConcordanceGroup,
    ConcordanceVerdict,
    concordance_by,
    most_recent,
)
from dicom_node.core.assessment.report_reading import ReportedPresence
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import Presence, ReportMatch
from dicom_node.index.reports.compared import ComparedFilter, compared_findings
from dicom_node.index.reports.kept import counted_reports, unmatched_reports

router = APIRouter(
    prefix=V1, tags=["concordance"], responses=described(401, 422, 429, 503),
    dependencies=[Reads, audited(AuditedAct.EXPORT)],
)  # fmt: skip
_DEFAULT = [ConcordanceGroup.MODEL, ConcordanceGroup.FINDING]


class ComparedQuery(DaysQuery):
    """Which answers of models to look at; nothing: all of them."""

    model: str = Field("", max_length=64, description="Only those of this model.", examples=["cxr-pneumonia"])
    route: str = Field("", max_length=64, description="Only those of this route.", examples=["chest-xr"])

    def wanted(self) -> ComparedFilter:
        """Return what the index is asked for."""
        return ComparedFilter(since=self.since, until=self.until, model=self.model, route=self.route)


class ConcordanceQuery(ComparedQuery):
    """The same, and by what they are told apart."""

    by: list[ConcordanceGroup] = Field(
        _DEFAULT, max_length=len(ConcordanceGroup), description="By what: again for each."
    )


class DiscordantQuery(ComparedQuery):
    """The same, and how many."""

    verdict: list[ConcordanceVerdict] = Field(
        list(DISCORDANT), max_length=len(ConcordanceVerdict), description="Which: again for each."
    )
    limit: int = Field(50, ge=1, le=500)


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class KappaAnswer(_Read):
    """Cohen's kappa; `low` and `high` bound it with 95 %."""

    value: float
    low: float
    high: float


class ConcordanceGroupAnswer(_Read):
    """One group of findings that a model told of studies with a report."""

    group: Mapping[ConcordanceGroup, str] = Field(examples=[{"model": "cxr-pneumonia", "finding": "Pneumonia"}])
    compared: int
    agree: ProportionAnswer = Field(description="Of those of which model and report are sure.")
    both_present: int
    both_absent: int
    model_only: int = Field(description="Present to the model, and not in the report.")
    report_only: int = Field(description="In the report, and absent to the model.")
    unsure: int = Field(description="The report, or the model, leaves it open.")
    silent: int = Field(description="Of so many the report says nothing, which counts as absent.")
    kappa: KappaAnswer | None = Field(description="`null`: `kappa_not_told` says why.")
    kappa_not_told: str


class ConcordanceAnswer(BaseModel):
    """How often both said the same. A report is no truth, and nothing that was sent changes by it."""

    by: list[ConcordanceGroup]
    groups: list[ConcordanceGroupAnswer]
    reports: Mapping[ReportMatch, int] = Field(description="Reports by whether their study is known.")


class DiscordantAnswer(_Read):
    """One finding of which model and report say different things."""

    study_instance_uid: str
    job_key: str
    model: str
    version: str
    finding: str
    made_at: datetime
    verdict: ConcordanceVerdict
    model_says: Presence
    report_says: ReportedPresence
    scanner: str
    station: str


class UnmatchedAnswer(_Read):
    """A report of which nobody knows the study, or that nobody can read."""

    source: str = Field(description="`hl7`, or the destination where it was found.")
    match: ReportMatch
    reason: str
    accession_number: str
    stated_study_uid: str
    stated_at: datetime
    received_at: datetime


class DiscordantList(BaseModel):
    """The latest findings that differ; whoever wants others asks by days, model and route."""

    findings: list[DiscordantAnswer]


class UnmatchedList(BaseModel):
    """The latest reports without a study."""

    reports: list[UnmatchedAnswer]


@router.get("/concordance", summary="Concordance with reports", dependencies=[OneOfFewExports])
def get_concordance(parts: Parts, asked: Annotated[ConcordanceQuery, Query()]) -> ConcordanceAnswer:
    """Agree, model only, report only, unsure, with kappa: by model, finding, scanner, site and month."""
    by = list(dict.fromkeys(asked.by))
    lines = concordance_by(compared_findings(parts.database, asked.wanted()), by)
    with parts.database.read() as connection:
        counted = counted_reports(connection)
    groups = [ConcordanceGroupAnswer.model_validate(line) for line in lines]
    return ConcordanceAnswer(by=by, groups=groups, reports=counted)


@router.get("/concordance/studies", summary="Where model and report differ", dependencies=[OneOfFewExports])
def get_discordant(parts: Parts, asked: Annotated[DiscordantQuery, Query()]) -> DiscordantList:
    """The latest findings of which both say the opposite, for a person to look at again; the newest first."""
    found = compared_findings(parts.database, asked.wanted())
    chosen = most_recent(found, asked.verdict, asked.limit)
    return DiscordantList(findings=[DiscordantAnswer.model_validate(one) for one in chosen])


@router.get("/concordance/unmatched", summary="Reports without a study")
def get_unmatched(parts: Parts, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> UnmatchedList:
    """The latest reports whose study is not known, or that nobody can read, with why; the newest first."""
    with parts.database.read() as connection:
        found = [UnmatchedAnswer.model_validate(one) for one in unmatched_reports(connection, limit)]
    return UnmatchedList(reports=found)

"""How often readers agreed with the models, for whoever answers for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described
from dicom_node.api.answers.streamed import DaysQuery, streamed
from dicom_node.api.audited import audited
from dicom_node.api.export_places import OneOfFewExports
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.core.assessment.reader_agreement import AgreementLine, Grouping, agreement_by
from dicom_node.core.audit import AuditedAct
from dicom_node.core.csv_lines import MEDIA_TYPE as CSV
from dicom_node.core.csv_lines import csv_lines
from dicom_node.index.views.agreement import AgreementFilter, reader_cases
from dicom_node.operate.exports.agreement_columns import CASE_COLUMNS, agreement_columns, case_rows

router = APIRouter(
    prefix=V1, tags=["agreement"], responses=described(401, 422, 429, 503),
    dependencies=[Reads, audited(AuditedAct.EXPORT), OneOfFewExports],
)  # fmt: skip
_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


class CaseQuery(DaysQuery):
    """Which answers of models to look at; nothing: all of them."""

    model: str = Field("", max_length=64, description="Only those of this model.", examples=["ct-lung-density"])
    route: str = Field("", max_length=64, description="Only those of this route.", examples=["chest-ct"])

    def wanted(self) -> AgreementFilter:
        """Return what the index is asked for."""
        return AgreementFilter(since=self.since, until=self.until, model=self.model, route=self.route)


class AgreementQuery(CaseQuery):
    """The same, and by what they are told apart."""

    by: list[Grouping] = Field(
        [Grouping.MODEL, Grouping.VERSION], max_length=len(Grouping), description="By what: again for each."
    )


class ProportionAnswer(BaseModel):
    """So many of so many; `low` and `high` bound the true share with 95 % (Wilson)."""

    model_config = ConfigDict(from_attributes=True)

    count: int
    total: int
    share: float | None = Field(description="`null` of nothing.", examples=[0.92])
    low: float
    high: float


class AgreementGroup(BaseModel):
    """One group of results. All but `reviewed`, `confirmed` and `found` are of the reviewed results."""

    model_config = ConfigDict(from_attributes=True)

    group: Mapping[Grouping, str] = Field(examples=[{"model": "ct-lung-density", "version": "1.0.0"}])
    reviewed: ProportionAnswer = Field(description="Of the results that could be reviewed.")
    accepted: ProportionAnswer
    modified: ProportionAnswer
    rejected: ProportionAnswer
    missed: ProportionAnswer = Field(description="Something was added, or called absent that is there.")
    overcalled: ProportionAnswer = Field(description="Something was called present that is not there.")
    confirmed: ProportionAnswer = Field(description="Of the findings that the model called present.")
    found: ProportionAnswer | None = Field(description="Of the findings that are there; `null`: it is not known.")
    found_not_told: str = Field(description="Why it is not known.")


class AgreementAnswer(BaseModel):
    """How often readers agreed. They had seen the model's answer, on results that somebody chose to review."""

    by: list[Grouping]
    groups: list[AgreementGroup]
    links: Mapping[str, str] = Field(description="The same as CSV, and case by case.")


@router.get("/agreement", summary="Agreement with readers")
def get_agreement(parts: Parts, asked: Annotated[AgreementQuery, Query()]) -> AgreementAnswer:
    """Accepted, modified, rejected and missed, with 95 % intervals: by model, version, scanner, site and month."""
    groups = [AgreementGroup.model_validate(line) for line in _lines(parts, asked)]
    links = {"csv": f"{V1}/agreement.csv", "cases": f"{V1}/agreement/cases.csv"}
    return AgreementAnswer(by=asked.by, groups=groups, links=links)


@router.get("/agreement.csv", summary="Agreement as CSV", response_class=StreamingResponse, responses=_CSV)
def export_agreement(parts: Parts, asked: Annotated[AgreementQuery, Query()]) -> StreamingResponse:
    """The same groups, a row for each."""
    return streamed(csv_lines(agreement_columns(asked.by), _lines(parts, asked)), CSV, "agreement.csv")


@router.get("/agreement/cases.csv", summary="Reviewed cases as CSV", response_class=StreamingResponse, responses=_CSV)
def export_cases(parts: Parts, asked: Annotated[CaseQuery, Query()]) -> StreamingResponse:
    """A row for each finding of each reviewed result, by the kinds of data that ACR Assess-AI takes."""
    found = reader_cases(parts.database, asked.wanted(), only_reviewed=True)
    rows = (row for case in found for row in case_rows(case))
    return streamed(csv_lines(CASE_COLUMNS, rows), CSV, "cases.csv")


def _lines(parts: ApiParts, asked: AgreementQuery) -> list[AgreementLine]:
    by = list(dict.fromkeys(asked.by))
    return agreement_by((one.counted for one in reader_cases(parts.database, asked.wanted())), by)

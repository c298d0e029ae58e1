"""Fetch studies from a configured PACS: what it has, have it sent, how far that is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from dicom_node.api.access import CurrentPrincipal, SignedIn
from dicom_node.api.parts import ApiParts, StudyUid, parts_of
from dicom_node.api.problems import ProblemError, described
from dicom_node.core.errors import NotFound, SourceRefused, SourceUnavailable
from dicom_node.core.uids import is_valid_uid
from dicom_node.retrieve.kinds import sources_of
from dicom_node.retrieve.retrieval import Retrieval
from dicom_node.retrieve.retrievals import Retrievals
from dicom_node.retrieve.sink import WantedStudy
from dicom_node.retrieve.source import FoundStudy, StudyQuery

router = APIRouter(prefix="/api", tags=["retrieve"], dependencies=[SignedIn], responses=described(401, 422, 429))

_log = logging.getLogger(__name__)
#: No wildcards, no lists, no control characters: exactly one patient, one order.
_Exactly = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\\*?\x00-\x1f\x7f]*$")]
_Date = Annotated[str, StringConstraints(pattern=r"^(\d{8}|\d{8}-|-\d{8}|\d{8}-\d{8})?$")]


def _uid(text: str) -> str:
    if not is_valid_uid(text):
        raise ValueError("not a UID: digits and single dots, at most 64 characters")
    return text


class RetrieveRequest(BaseModel):
    """What to fetch, and from where."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = Field(None, max_length=64, description="Name of a [[source]]; needed when there are several.")
    series: list[Annotated[str, AfterValidator(_uid)]] = Field(
        default_factory=list, max_length=200, description="Series Instance UIDs; none: the whole study."
    )


class SearchQuery(BaseModel):
    """Which studies to look for; at least one of the first three."""

    model_config = ConfigDict(extra="forbid")

    patient_id: _Exactly = Field("", description="Patient ID, exactly.")
    accession_number: _Exactly = Field("", description="Accession number, exactly.")
    date: _Date = Field("", description="Study date YYYYMMDD, or a range of two with a hyphen.")
    limit: int = Field(25, ge=1, le=100)

    @model_validator(mode="after")
    def _asks_for_something(self) -> SearchQuery:
        if not (self.patient_id or self.accession_number or self.date):
            raise ValueError("name patient_id, accession_number or date")
        return self


@dataclass(frozen=True, slots=True)
class SourceView:
    """A PACS that studies can be fetched from."""

    name: str
    kind: str
    host: str


def _retrievals(parts: Annotated[ApiParts, Depends(parts_of)]) -> Retrievals:
    if parts.retrievals is None:
        raise NotFound("This process does not fetch studies.")
    return parts.retrievals


Pull = Annotated[Retrievals, Depends(_retrievals)]


@router.post("/studies/{uid}/retrieve", status_code=202, summary="Fetch a study", responses=described(403, 404, 503))
def retrieve_study(
    pull: Pull,
    principal: CurrentPrincipal,
    uid: StudyUid,
    response: Response,
    body: Annotated[RetrieveRequest | None, Body()] = None,
) -> Retrieval:
    """Begin to fetch a study from a configured PACS. `Location` leads to what becomes of it."""
    asked = body or RetrieveRequest()
    try:
        retrieval = pull.ask(WantedStudy(uid, tuple(asked.series)), asked.source)
    except SourceUnavailable as error:
        raise ProblemError(503, str(error), {"Retry-After": "60"}) from error
    _log.info("retrieval asked", extra={
        "retrieval": retrieval.id, "source": retrieval.source, "study": uid, "actor": principal.name})  # fmt: skip
    response.headers["Location"] = f"/api/retrievals/{retrieval.id}"
    return retrieval


@router.get("/retrievals", summary="List retrievals, newest first")
def list_retrievals(pull: Pull, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Sequence[Retrieval]:
    """Every retrieval since the node's start; the oldest finished ones are forgotten after a thousand."""
    return pull.all()[:limit]


@router.get("/retrievals/{id}", summary="One retrieval", responses=described(404))
def get_retrieval(pull: Pull, id_: Annotated[str, Path(alias="id", max_length=64)]) -> Retrieval:
    """State, counts and reason of one retrieval."""
    return pull.get(id_)


@router.get("/sources", summary="PACSs that studies can be fetched from")
def list_sources(parts: Annotated[ApiParts, Depends(parts_of)]) -> Sequence[SourceView]:
    """The configured sources."""
    return [SourceView(one.name, one.kind, one.place) for one in sources_of(parts.settings)]


@router.get("/sources/{name}/studies", summary="Look for studies in a PACS", responses=described(404, 502))
def find_studies(
    pull: Pull, name: Annotated[str, Path(max_length=64)], asked: Annotated[SearchQuery, Query()]
) -> Sequence[FoundStudy]:
    """What a PACS has, without the patient's name or number. The values asked for are written nowhere."""
    query = StudyQuery(patient_id=asked.patient_id, accession_number=asked.accession_number, date=asked.date)
    source = pull.source(name)
    try:
        return source.find_studies(query, asked.limit)
    except (NotFound, SourceUnavailable, SourceRefused) as error:
        raise ProblemError(502, str(error)) from error

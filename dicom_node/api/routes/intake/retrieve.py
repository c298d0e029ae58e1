"""Fetch studies from a configured PACS: what it has, have it sent, how far that is."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from dicom_node.api.access import CurrentPrincipal, Operates, Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.paging import PAGED, ListPages, TextPageQuery
from dicom_node.api.answers.problem_kinds import BUSY
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.api.parts import ApiParts, StudyUid, parts_of
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import NotFound, SourceRefused, SourceUnavailable
from dicom_node.core.uids import is_valid_uid
from dicom_node.retrieve.kinds import sources_of
from dicom_node.retrieve.retrieval import Retrieval
from dicom_node.retrieve.retrievals import Retrievals
from dicom_node.retrieve.sink import WantedStudy
from dicom_node.retrieve.source import FoundStudy, StudyQuery

router = APIRouter(prefix=V1, tags=["retrieve"], dependencies=[Reads], responses=described(401, 422, 429))

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


_WHOLE_STUDY = RetrieveRequest()


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


@router.post(
    "/studies/{uid}/retrieve",
    status_code=202,
    summary="Fetch a study",
    dependencies=[Operates, audited(AuditedAct.STUDY_RETRIEVED)],
    responses=described(403, 404, 503),
)
def retrieve_study(
    pull: Pull,
    principal: CurrentPrincipal,
    uid: StudyUid,
    response: Response,
    asked: Annotated[RetrieveRequest, Body()] = _WHOLE_STUDY,
) -> Retrieval:
    """Begin to fetch a study from a configured PACS. `Location` leads to what becomes of it."""
    try:
        retrieval = pull.ask(WantedStudy(uid, tuple(asked.series)), asked.source)
    except SourceUnavailable as error:
        raise ProblemError(503, str(error), {"Retry-After": "60"}, kind=BUSY) from error
    _log.info("retrieval asked", extra={
        "retrieval": retrieval.id, "source": retrieval.source, "study": uid, "actor": principal.name})  # fmt: skip
    response.headers["Location"] = f"{V1}/retrievals/{retrieval.id}"
    return retrieval


@router.get(
    "/retrievals",
    summary="List retrievals, newest first",
    responses={**PAGED, **described(404)},
    dependencies=[audited(AuditedAct.QUERY)],
)
def list_retrievals(
    pull: Pull, pages: Annotated[ListPages, Depends()], asked: Annotated[TextPageQuery, Query()]
) -> Sequence[Retrieval]:
    """Every retrieval since the node's start; the oldest finished ones are forgotten after a thousand."""
    return pages.cut_whole(pull.all(), asked.limit, asked.cursor, lambda one: one.id)


@router.get(
    "/retrievals/{id}", summary="One retrieval", responses=described(404), dependencies=[audited(AuditedAct.QUERY)]
)
def get_retrieval(
    pull: Pull,
    id_: Annotated[
        str,
        Path(alias="id", max_length=64, pattern=r"^[0-9A-Za-z-]+$", examples=["4be4d9fa-4c7a-4c6b-9a41-2f6c0cf3a1de"]),
    ],
) -> Retrieval:
    """State, counts and reason of one retrieval."""
    return pull.get(id_)


@router.get("/sources", summary="PACSs that studies can be fetched from")
def list_sources(parts: Annotated[ApiParts, Depends(parts_of)]) -> Sequence[SourceView]:
    """The configured sources."""
    return [SourceView(one.name, one.kind, one.place) for one in sources_of(parts.settings)]


class SearchPlaces:
    """Few searches wait for PACSs at once, and fewer for one that may be silent: each holds one of the forty threads
    that answer all requests, for as long as the PACS takes. Safe to share between threads."""

    IN_ALL, OF_ONE_SOURCE = 6, 3

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one(self, source: str) -> Iterator[None]:
        """Hold a place. Raises `ProblemError` 503 when all are taken."""
        with self._lock:
            if self._taken.total() >= self.IN_ALL or self._taken[source] >= self.OF_ONE_SOURCE:
                detail = "Other searches wait for the PACS already. Try again when they have ended."
                raise ProblemError(503, detail, {"Retry-After": "5"}, kind=BUSY)
            self._taken[source] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[source] -= 1


def search_places(request: Request) -> SearchPlaces:
    """Return the places of the application."""
    return cast(SearchPlaces, request.app.state.search_places)


@router.get(
    "/sources/{name}/studies",
    summary="Look for studies in a PACS",
    responses=described(404, 502, 503),
    dependencies=[audited(AuditedAct.QUERY)],
)
def find_studies(
    pull: Pull,
    places: Annotated[SearchPlaces, Depends(search_places)],
    name: Annotated[str, Path(max_length=64, description="Name of a [[source]].", examples=["archive"])],
    asked: Annotated[SearchQuery, Query()],
) -> Sequence[FoundStudy]:
    """What a PACS has, without the patient's name or number. The values asked for are written nowhere."""
    query = StudyQuery(patient_id=asked.patient_id, accession_number=asked.accession_number, date=asked.date)
    source = pull.source(name)
    try:
        with places.one(source.name):
            return source.find_studies(query, asked.limit)
    except (NotFound, SourceUnavailable, SourceRefused) as error:
        raise ProblemError(502, str(error)) from error

"""Export: a result as PDF, JSON, DICOM or CSV, whole lists as CSV or JSON, a study with its results as one archive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import FileResponse, Response, StreamingResponse

from dicom_node.api.access import Reads
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problem_kinds import OBJECT_LOST
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.answers.streamed import DaysQuery, as_file, json_list, streamed
from dicom_node.api.audited import audited
from dicom_node.api.export_places import OneOfFewExports
from dicom_node.api.front.ranges import OF_A_FILE
from dicom_node.api.parts import ApiParts, JobKey, Parts, StudyUid
from dicom_node.api.results import ResultAnswer, result_answer
from dicom_node.core.audit import AuditedAct
from dicom_node.core.csv_lines import MEDIA_TYPE as CSV
from dicom_node.core.csv_lines import csv_lines
from dicom_node.core.entities import ArtifactKind, JobState, ResultState, StudyState
from dicom_node.core.errors import InferenceError, WorkerDied
from dicom_node.deidentification.profile import BASIC
from dicom_node.deidentification.pseudonyms import KEY_FILE, read_or_make_key
from dicom_node.index.views.exported import ResultFilter, every_result, every_study, with_origin
from dicom_node.index.views.lists import StudyFilter
from dicom_node.index.views.study import artifact, result
from dicom_node.index.views.types import ResultView, StudyLine
from dicom_node.operate.exports.export import profile_named
from dicom_node.operate.exports.result_columns import RESULT_COLUMNS, STUDY_COLUMNS, rows_of
from dicom_node.operate.exports.study_zip import StudyZip, WithoutPatient, content_of
from dicom_node.operate.stored_pages import StoredPages, set_page
from dicom_node.storage.digest import is_damaged

_FILE = {"type": "string", "format": "binary"}
_DICOM, _PDF, _ZIP, _JSON = "application/dicom", "application/pdf", "application/zip", "application/json"
_STUDY_LINE = TypeAdapter(StudyLine)
router = APIRouter(
    prefix=V1, tags=["export"], responses=described(401, 422, 429, 503),
    dependencies=[Reads, audited(AuditedAct.EXPORT), OneOfFewExports],
)  # fmt: skip


class ResultExportQuery(DaysQuery):
    """Which results to export; nothing: all of them."""

    model: str = Field("", max_length=64, description="Only those of this model.", examples=["ct-lung-density"])
    route: str = Field("", max_length=64, description="Only those of this route.", examples=["chest-ct"])
    state: JobState | None = Field(None, description="Only those whose analysis ended so.")
    standing: ResultState | None = Field(None, description="Only those that stand so; CURRENT: those that hold.")

    def wanted(self) -> ResultFilter:
        """Return what the index is asked for."""
        return ResultFilter(
            since=self.since, until=self.until, model=self.model, route=self.route, state=self.state,
            standing=self.standing,
        )  # fmt: skip


class StudyExportQuery(BaseModel):
    """Which studies to export; nothing: all of them."""

    model_config = ConfigDict(extra="forbid")

    state: StudyState | None = Field(None, description="Only those in this state.", examples=["REPORTED"])
    query: str = Field("", max_length=64, description="UID or its beginning, words of the description, modality, AE.")

    def wanted(self) -> StudyFilter:
        """Return what the index is asked for."""
        return StudyFilter(state=self.state, text=self.query.strip())


class ZipQuery(BaseModel):
    """Whether the patient is in the archive."""

    model_config = ConfigDict(extra="forbid")

    deidentified: bool = Field(False, description="Without the patient, by PS3.15 Annex E.")
    profile: str = Field(BASIC.name, max_length=64, description="With `deidentified`: by which profile.")


def _kind(media_type: str, schema: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": schema}}}}


# --- lists -----------------------------------------------------------------------------------------------------------


@router.get(
    "/results.csv",
    summary="Results as CSV",
    response_class=StreamingResponse,
    responses=_kind("text/csv", {"type": "string"}),
)
def export_results_as_csv(parts: Parts, asked: Annotated[ResultExportQuery, Query()]) -> StreamingResponse:
    """A row for each number of each finding, with units and UCUM codes; sort by `created_at` for an order of time."""
    found = every_result(parts.database, asked.wanted())
    return streamed(csv_lines(RESULT_COLUMNS, (row for one in found for row in rows_of(one))), CSV, "results.csv")


@router.get(
    "/results.json",
    summary="Results as JSON",
    response_class=StreamingResponse,
    responses=_kind(_JSON, {"type": "object"}),
)
def export_results_as_json(parts: Parts, asked: Annotated[ResultExportQuery, Query()]) -> StreamingResponse:
    """The same results as `{"results": […]}`, each as the address of one result answers it."""
    found = (_told(one.result) for one in every_result(parts.database, asked.wanted()))
    return streamed(json_list("results", found), _JSON, "results.json")


@router.get(
    "/studies.csv",
    summary="Studies as CSV",
    response_class=StreamingResponse,
    responses=_kind("text/csv", {"type": "string"}),
)
def export_studies_as_csv(parts: Parts, asked: Annotated[StudyExportQuery, Query()]) -> StreamingResponse:
    """A row for each study, newest arrival first."""
    return streamed(csv_lines(STUDY_COLUMNS, every_study(parts.database, asked.wanted())), CSV, "studies.csv")


@router.get(
    "/studies.json",
    summary="Studies as JSON",
    response_class=StreamingResponse,
    responses=_kind(_JSON, {"type": "object"}),
)
def export_studies_as_json(parts: Parts, asked: Annotated[StudyExportQuery, Query()]) -> StreamingResponse:
    """The same studies as `{"studies": […]}`, each as in the list of studies."""
    found = (_STUDY_LINE.dump_python(one, mode="json") for one in every_study(parts.database, asked.wanted()))
    return streamed(json_list("studies", found), _JSON, "studies.json")


# --- one result ------------------------------------------------------------------------------------------------------


@router.get(
    "/results/{job_key}.json",
    summary="One result as JSON",
    responses=described(404),
)
def export_result_as_json(parts: Parts, job_key: JobKey, response: Response) -> ResultAnswer:
    """The same as the address without `.json`, to be kept as a file."""
    response.headers.update(as_file(f"result-{job_key[:12]}.json"))
    return result_answer(_result(parts, job_key))


@router.get(
    "/results/{job_key}.csv",
    summary="One result as CSV",
    response_class=StreamingResponse,
    responses={**_kind("text/csv", {"type": "string"}), **described(404)},
)
def export_result_as_csv(parts: Parts, job_key: JobKey) -> StreamingResponse:
    """A row for each number of each finding, with the columns of the list."""
    with parts.database.read() as connection:
        [origin] = with_origin(connection, [result(connection, job_key)])
    return streamed(csv_lines(RESULT_COLUMNS, rows_of(origin)), CSV, f"result-{job_key[:12]}.csv")


@router.get(
    "/results/{job_key}.dcm",
    summary="One result as DICOM SR",
    response_class=FileResponse,
    responses={**_kind(_DICOM, _FILE), **described(404), **OF_A_FILE},
)
def export_result_as_dicom(parts: Parts, job_key: JobKey) -> FileResponse:
    """The structured report, byte for byte as it is sent; of several, that of the first destination."""
    found = _result(parts, job_key)
    report = next((one for one in found.artifacts if one.kind is ArtifactKind.STRUCTURED_REPORT), None)
    if report is None:
        raise ProblemError(404, "No destination wants this result as a structured report. Export it as PDF or JSON.")
    with parts.database.read() as connection:
        stored = artifact(connection, report.uid)
    path = parts.open_object(stored.object_key)
    if is_damaged(path, stored.sha256):
        raise ProblemError(
            404, "The file of the report is gone or damaged. Look at the disk; analysing again makes it anew.",
            kind=OBJECT_LOST,
        )  # fmt: skip
    return FileResponse(path, media_type=_DICOM, filename=f"{report.uid}.dcm")


@router.get(
    "/results/{job_key}.pdf",
    summary="One result as PDF",
    response_class=Response,
    responses={**_kind(_PDF, _FILE), **described(404)},
)
def export_result_as_pdf(parts: Parts, job_key: JobKey) -> Response:
    """The page that was made for a destination; where none was, or the result does not hold any more, one that is set
    now from what is kept. It names no patient."""
    with parts.database.read() as connection:
        wanted = _pages(parts).wanted(connection, result(connection, job_key))
    try:
        document = set_page(wanted)
    except (InferenceError, WorkerDied) as error:
        raise ProblemError(503, f"The page could not be set. {error}", {"Retry-After": "30"}) from error
    return Response(document, media_type=_PDF, headers=as_file(f"result-{job_key[:12]}.pdf"))


def _pages(parts: ApiParts) -> StoredPages:
    return StoredPages(parts.open_object, parts.settings.node.intended_use)


def _result(parts: ApiParts, job_key: str) -> ResultView:
    with parts.database.read() as connection:
        return result(connection, job_key)


def _told(view: ResultView) -> dict[str, Any]:
    return result_answer(view).model_dump(mode="json")


# --- one study -------------------------------------------------------------------------------------------------------


@router.get(
    "/studies/{uid}.zip",
    summary="A study with its results as ZIP",
    response_class=StreamingResponse,
    responses={**_kind(_ZIP, _FILE), **described(404)},
)
def export_study(parts: Parts, uid: StudyUid, asked: Annotated[ZipQuery, Query()]) -> StreamingResponse:
    """Images and results as they are kept, what the results say as JSON, CSV and PDF, and a manifest with the sha256 of
    every file. With `deidentified` objects and labels only, under pseudonyms that stay the same."""
    without = _without_patient(parts, asked.profile) if asked.deidentified else None
    archive = StudyZip(
        content=content_of(parts.database, _pages(parts), uid), file_of=parts.open_object, as_json=_told,
        made_at=datetime.now(UTC), without=without,
    )  # fmt: skip
    return StreamingResponse(archive.pieces(), media_type=_ZIP, headers=as_file(archive.name))


def _without_patient(parts: ApiParts, name: str) -> WithoutPatient:
    """Return how the patient is taken out. Raises `NotFound` for a profile that the settings do not have."""
    profile = profile_named(name, parts.settings.deidentification, parts.cards.values())
    return WithoutPatient(profile=profile, key=read_or_make_key(parts.settings.node.data_dir / KEY_FILE))

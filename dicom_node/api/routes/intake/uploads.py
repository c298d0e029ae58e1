"""Upload of studies by people and scripts: DICOM files, zip archives of them, pictures with a few words."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter, Request

from dicom_node.api.access import CurrentPrincipal, Operates, address_of
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problem_kinds import NOTHING_STORED, SWITCHED_OFF
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.api.front.body import Body, Ingest, OneOfFew, cannot_store, few
from dicom_node.api.parts import ApiParts, Parts
from dicom_node.api.upload_files import UploadedFiles
from dicom_node.api.upload_form import PictureWords, RequestWords
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import StatedRequest
from dicom_node.core.errors import SpoolUnavailable
from dicom_node.core.principal import Principal
from dicom_node.index.received.stated_requests import state_request
from dicom_node.ingest.session import FileReport, FileState, IngestSession
from dicom_node.retrieve.multipart import MalformedBody, boundary_of, parts

router = APIRouter(
    prefix=V1,
    tags=["studies"],
    dependencies=[Operates, OneOfFew],
    responses=described(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
)
_MOST_ERRORS = 100
_FORM = PictureWords.model_json_schema()
_REQUEST = RequestWords.model_json_schema(ref_template="#/components/schemas/{model}")
_SCHEMA = {**_FORM, "required": ["files"], "properties": {
    "files": {"type": "array", "items": {"type": "string", "format": "binary"}}, **_REQUEST["properties"],
    **_FORM["properties"],
}}  # fmt: skip
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _SCHEMA}}}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UploadedStudy:
    """A study that files of this upload belong to, and where it is found."""

    study_instance_uid: str
    stored: int
    url: str


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file, and what became of it."""

    name: str
    state: FileState
    why: str
    study_instance_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Upload:
    """What became of an upload. `whole` is false when the body broke off or a field of it cannot be used: what came
    before is stored, nothing is noted of indication and purpose, and `why` says what it was."""

    stored: int
    refused: int
    skipped: int
    whole: bool
    why: str
    studies: Sequence[UploadedStudy]
    files: Sequence[UploadedFile]


@router.post(
    "/studies",
    status_code=201,
    summary="Upload studies",
    openapi_extra={"requestBody": _BODY},
    dependencies=[audited(AuditedAct.STUDY_IMPORTED)],
)
def upload(request: Request, principal: CurrentPrincipal, node: Parts, ingest: Ingest) -> Upload:
    """Take DICOM files, zip archives of them, and pictures (PNG, JPEG), which become Secondary Captures.

    What is in the answer as STORED is durable and indexed. Only pictures need the other fields.
    """
    limits = node.settings.upload
    if not limits.enabled:
        raise ProblemError(404, "Uploads are switched off. Set upload.enabled.", kind=SWITCHED_OFF)
    content_type = request.headers.get("content-type", "")
    boundary = boundary_of(content_type)
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise ProblemError(415, "Send the files as multipart/form-data, as a form of a web page does.")
    session = IngestSession(ingest, "UPLOAD", address_of(request))
    broken: ProblemError | None = None
    with UploadedFiles(session, ingest, limits) as files:
        try:
            body = Body(request, limits.max_request_mb, limits.silence_s)
            for part in few(parts(body, boundary), limits.max_parts, "upload.max_parts"):
                files.take(part)
            files.finish()
            _state(node, session, files.stated)
        except (MalformedBody, ProblemError, SpoolUnavailable) as error:
            broken = _problem(error)
        finally:
            session.close("released" if broken is None else "aborted")
    return _answer(files.reports, session, broken, principal)


def _state(node: ApiParts, session: IngestSession, stated: StatedRequest) -> None:
    """Note what the form says of the analyses of its studies, while none of them can be complete."""
    if stated == StatedRequest():
        return
    with node.database.write() as connection:
        for uid in session.stored:
            state_request(connection, uid, None, stated, datetime.now(UTC))


def _problem(error: MalformedBody | ProblemError | SpoolUnavailable) -> ProblemError:
    if isinstance(error, MalformedBody):
        return ProblemError(400, f"The body is not a well-formed form (RFC 7578): {error.why}.")
    return error if isinstance(error, ProblemError) else cannot_store()


def _answer(
    reports: Sequence[FileReport], session: IngestSession, broken: ProblemError | None, principal: Principal
) -> Upload:
    counts = {state: sum(report.state is state for report in reports) for state in FileState}
    told = {state.lower(): count for state, count in counts.items()}
    about = {"studies": len(session.stored), "whole": broken is None, "actor": principal.name}
    _log.info("files uploaded", extra=told | about)
    if not counts[FileState.STORED]:
        raise broken or _nothing_stored(reports)
    return Upload(
        stored=counts[FileState.STORED],
        refused=counts[FileState.REFUSED],
        skipped=counts[FileState.SKIPPED],
        whole=broken is None,
        why="" if broken is None else " ".join([broken.detail, *(one["why"] for one in broken.errors)]),
        studies=[UploadedStudy(uid, count, f"{V1}/studies/{uid}") for uid, count in session.stored.items()],
        files=[
            UploadedFile(one.name, one.state, one.why, one.study_instance_uid, one.sop_instance_uid) for one in reports
        ],
    )


def _nothing_stored(reports: Sequence[FileReport]) -> ProblemError:
    if any(report.again_later for report in reports):
        return cannot_store()
    if not reports:
        return ProblemError(
            422, "The form holds no file. Put at least one into the field `files`.", kind=NOTHING_STORED
        )
    errors = [{"where": report.name, "why": report.why} for report in reports[:_MOST_ERRORS]]
    return ProblemError(
        422, f"None of {len(reports)} files could be stored; `errors` says why.", errors=errors, kind=NOTHING_STORED
    )

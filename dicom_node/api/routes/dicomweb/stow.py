"""STOW-RS (PS3.18 10.5): studies from whoever speaks DICOMweb, streamed from the connection into the spool."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from dicom_node.api.access import CurrentPrincipal, Operates, address_of
from dicom_node.api.answers.problem_kinds import SWITCHED_OFF
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.api.front.body import Body, Ingest, OneOfFew, cannot_store, few
from dicom_node.api.parts import Parts, StudyUid
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import StoreStatus
from dicom_node.core.principal import Principal
from dicom_node.ingest.session import IngestSession, StoreOutcome
from dicom_node.retrieve.multipart import BodyPart, MalformedBody, boundary_of, parts, read_parameters

router = APIRouter(
    prefix="/dicom-web",
    tags=["DICOMweb"],
    dependencies=[Operates, OneOfFew],
    responses=described(400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 503),
)
MEDIA_TYPE = "application/dicom+json"
_DICOM = "application/dicom"
_FILES = {_DICOM, "application/octet-stream", ""}
_ANSWERS = {MEDIA_TYPE, "application/json", "application/*", "*/*"}
_BODY = {"required": True, "content": {f'multipart/related; type="{_DICOM}"': {"schema": {"type": "string"}}}}
_SOME: dict[int | str, dict[str, Any]] = {
    200: {"description": "All were stored", "content": {MEDIA_TYPE: {}}},
    202: {"description": "Some were stored; the others and why are in the answer", "content": {MEDIA_TYPE: {}}},
    409: {"description": "None was stored; why is in the answer", "content": {MEDIA_TYPE: {}}},
}
_log = logging.getLogger(__name__)


@router.post(
    "/studies",
    summary="Store objects",
    responses=_SOME,
    openapi_extra={"requestBody": _BODY},
    dependencies=[audited(AuditedAct.STUDY_IMPORTED)],
)
def store(request: Request, principal: CurrentPrincipal, node: Parts, ingest: Ingest) -> JSONResponse:
    """Store every object of the body. What is in the answer as stored is durable and indexed."""
    session = IngestSession(ingest, "STOW", address_of(request))
    return _store(request, principal, node, session, "")


@router.post(
    "/studies/{uid}",
    summary="Store objects of one study",
    responses=_SOME,
    openapi_extra={"requestBody": _BODY},
    dependencies=[audited(AuditedAct.STUDY_IMPORTED)],
)
def store_in_study(
    request: Request, principal: CurrentPrincipal, node: Parts, ingest: Ingest, uid: StudyUid
) -> JSONResponse:
    """Store the objects of the body that belong to this study; objects of others fail with reason 0xA900."""
    session = IngestSession(ingest, "STOW", address_of(request))
    return _store(request, principal, node, session, uid)


def _store(
    request: Request, principal: Principal, node: Parts, session: IngestSession, study_instance_uid: str
) -> JSONResponse:
    stow = node.settings.stow
    if not stow.enabled:
        raise ProblemError(404, "STOW-RS is switched off. Set stow.enabled.", kind=SWITCHED_OFF)
    _check_accept(request)
    outcomes: list[StoreOutcome] = []
    end = "aborted"
    try:
        files = _files(request, Body(request, stow.max_request_mb, stow.silence_s))
        for part in few(files, stow.max_parts, "stow.max_parts"):
            outcomes.append(_take(session, part, study_instance_uid))  # noqa: PERF401 - kept when the body breaks off
        end = "released"
    except (MalformedBody, ProblemError) as error:
        problem = error if isinstance(error, ProblemError) else _malformed(error)
        if not session.stored:
            raise problem from error
        outcomes.append(StoreOutcome(status=StoreStatus.CANNOT_UNDERSTAND, why=problem.detail))
    finally:
        session.close(end)
    if not outcomes:
        raise ProblemError(400, "The body holds no object. Send at least one part of type application/dicom.")
    answer = stow_answer(outcomes)
    counts = {"stored": session.stored.total(), "objects": len(outcomes), "studies": len(session.stored)}
    about = {"status": answer.status_code, "end": end, "actor": principal.name}
    _log.info("objects came by STOW-RS", extra=counts | about)
    return answer


def _check_accept(request: Request) -> None:
    accepted = {one.partition(";")[0].strip().lower() for one in request.headers.get("accept", "*/*").split(",")}
    if not accepted & _ANSWERS:
        raise ProblemError(406, f"The answer is {MEDIA_TYPE}; accept that.")


def _files(request: Request, body: Body) -> Iterator[BodyPart]:
    """Yield the objects of a body: the parts of a multipart one, or the one it is. Raises `ProblemError`."""
    content_type = request.headers.get("content-type", "")
    kind, parameters = read_parameters(content_type)
    if kind == _DICOM:
        return iter([BodyPart({"content-type": content_type}, iter(body))])
    if kind != "multipart/related" or parameters.get("type", _DICOM).lower() != _DICOM:
        raise ProblemError(415, f'Send multipart/related; type="{_DICOM}". Metadata apart from pixels is not taken.')
    boundary = boundary_of(content_type)
    if not boundary:
        raise ProblemError(400, "The Content-Type names no boundary (RFC 2046 5.1).")
    return parts(body, boundary)


def _take(session: IngestSession, part: BodyPart, study_instance_uid: str) -> StoreOutcome:
    kind, parameters = read_parameters(part.headers.get("content-type", ""))
    if kind not in _FILES:
        return StoreOutcome(status=StoreStatus.CANNOT_UNDERSTAND, why="A part is not of type application/dicom.")
    with session.new_file(parameters.get("transfer-syntax", "")) as file:
        for piece in part.content:
            file.write(piece)
        return session.take(file, study_instance_uid)


def _malformed(error: MalformedBody) -> ProblemError:
    return ProblemError(400, f"The body is not well-formed multipart (RFC 2046 5.1): {error.why}. Correct the client.")


# --- the answer (PS3.18 10.5.3) ------------------------------------------------------------------------------------


_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE, _OTHER_FAILURES_SEQUENCE = "00081199", "00081198", "0008119A"
_SOP_CLASS, _SOP_INSTANCE, _FAILURE_REASON = "00081150", "00081155", "00081197"


def stow_answer(outcomes: Sequence[StoreOutcome]) -> JSONResponse:
    """Return 200 when all were stored, 202 when some were, 409 when none was.

    Raises `ProblemError` 503 when none was stored and the node is the reason: the client must send all again.
    """
    stored = [outcome for outcome in outcomes if outcome.is_stored]
    failed = [outcome for outcome in outcomes if not outcome.is_stored]
    if not stored and any(outcome.is_passing for outcome in failed):
        raise cannot_store()
    sequences = {
        _REFERENCED_SOP_SEQUENCE: [_names(outcome) for outcome in stored],
        _FAILED_SOP_SEQUENCE: [_names(outcome) | _reason(outcome) for outcome in failed if outcome.sop_instance_uid],
        _OTHER_FAILURES_SEQUENCE: [_reason(outcome) for outcome in failed if not outcome.sop_instance_uid],
    }
    content = {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    status = 200 if not failed else 202 if stored else 409
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE)


def _names(outcome: StoreOutcome) -> dict[str, Any]:
    return {
        _SOP_CLASS: {"vr": "UI", "Value": [outcome.sop_class_uid]},
        _SOP_INSTANCE: {"vr": "UI", "Value": [outcome.sop_instance_uid]},
    }


def _reason(outcome: StoreOutcome) -> dict[str, Any]:
    return {_FAILURE_REASON: {"vr": "US", "Value": [int(outcome.status)]}}

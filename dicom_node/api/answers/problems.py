"""Errors as people and programs can read them: RFC 9457 problem documents, never with internals in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from dicom_node.api.addresses import V1, methods_at
from dicom_node.api.answers.problem_kinds import (
    ALREADY_REVIEWED,
    AUDIT_UNAVAILABLE,
    BEING_REVIEWED,
    INDEX_UNAVAILABLE,
    KIND_OF_STATUS,
    NOT_REVIEWABLE,
    NOT_SIGNED_IN,
    ProblemKind,
)
from dicom_node.core.errors import (
    AccountRefused,
    AlreadyReviewed,
    AuditUnavailable,
    BeingReviewed,
    ChangedMeanwhile,
    Conflict,
    IllegalTransition,
    IndexUnavailable,
    NodeError,
    NotFound,
    NotReviewable,
    ProviderAway,
    ReviewRefused,
    SignInDelayed,
)

MEDIA_TYPE = "application/problem+json"

_STATUS_OF = {
    ChangedMeanwhile: 412, NotFound: 404, IllegalTransition: 409, Conflict: 409, AccountRefused: 422,
    ReviewRefused: 422, SignInDelayed: 429,
    IndexUnavailable: 503, AuditUnavailable: 503, ProviderAway: 503,
}  # fmt: skip
_KIND_OF = {
    IndexUnavailable: INDEX_UNAVAILABLE, AuditUnavailable: AUDIT_UNAVAILABLE, AlreadyReviewed: ALREADY_REVIEWED,
    BeingReviewed: BEING_REVIEWED, NotReviewable: NOT_REVIEWABLE,
}  # fmt: skip
_DETAIL_OF = {
    404: f"Nothing is at this address. {V1}/openapi.json lists what there is.",
    405: f"This address does not take that method. {V1}/openapi.json lists what it takes.",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457). `detail` says what to do; `instance` names this one occurrence, also in the log."""

    type: str = Field(
        "about:blank",
        description="Kind of problem, where the node says what it means; about:blank: the status says it all.",
        examples=[NOT_SIGNED_IN.type],
    )
    title: str = Field(description="Short and always the same for a type.")
    status: int = Field(description="The HTTP status, repeated.")
    detail: str = Field(description="What happened, to what, and what to do.")
    instance: str = Field(description="This occurrence: the id of the request.")
    errors: Sequence[Mapping[str, str]] = Field((), description="422 only: which parameter or file, and why.")


class ProblemError(Exception):
    """Raised by a route or a guard to answer with a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        kind: ProblemKind | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.errors = errors
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(
    status: int, detail: str, request_id: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Build the answer for one problem; without a `kind` among `more` it is that of the status, if that has one."""
    kind = more.pop("kind", None) or KIND_OF_STATUS.get(status)
    named = {"title": kind.title, "type": kind.type} if kind else {"title": HTTPStatus(status).phrase}
    problem = Problem(**named, status=status, detail=detail, instance=f"urn:uuid:{request_id}", **more)
    content = problem.model_dump(exclude=set() if problem.errors else {"errors"})
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe these statuses as problems in the OpenAPI document of a route."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "model": Problem,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _example_of(status)}
            },
        }
        for status in statuses
    }


def _example_of(status: int) -> dict[str, Any]:
    kind = KIND_OF_STATUS.get(status)
    return Problem(
        type=kind.type if kind else "about:blank", title=kind.title if kind else HTTPStatus(status).phrase,
        status=status, detail=kind.meaning if kind else "What happened, to what, and what to do.",
        instance="urn:uuid:4be4d9fa-4c7a-4c6b-9a41-2f6c0cf3a1de",
    ).model_dump(exclude={"errors"})  # fmt: skip


def answer_with_problems(app: FastAPI) -> None:
    """Make every expected error of `app` a problem; unexpected ones are the business of `guard`."""
    app.add_exception_handler(ProblemError, _problem_error)
    app.add_exception_handler(NodeError, _node_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnicodeEncodeError, _no_text)


def _problem_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ProblemError):
        raise error
    id_ = request.state.request_id
    return problem_response(error.status, error.detail, id_, error.headers, errors=error.errors, kind=error.kind)


def _node_error(request: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)
    if status is None:
        raise error
    wait = {"Retry-After": str(math.ceil(error.wait_s))} if isinstance(error, SignInDelayed) else None
    kind = next((kind for of, kind in _KIND_OF.items() if isinstance(error, of)), None)
    return problem_response(status, str(error), request.state.request_id, wait, kind=kind)


def _http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail = _DETAIL_OF.get(error.status_code, str(error.detail))
    headers = {"Allow": ", ".join(methods_at(request))} if error.status_code == 405 else error.headers
    return problem_response(error.status_code, detail, request.state.request_id, headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # `input` is left out: it may be a token.
    errors = [{"where": ".".join(map(str, e["loc"])), "why": str(e["msg"])} for e in error.errors()]
    detail = "A part of the request cannot be used: " + "; ".join(f"{e['where']}: {e['why']}" for e in errors)
    return problem_response(422, detail, request.state.request_id, errors=errors)


def _no_text(request: Request, error: Exception) -> JSONResponse:
    """JSON can name half a character (RFC 8259 8.2), which nothing can store, compare or send."""
    del error
    detail = "A text of the request holds half a character, a surrogate without its other half. Leave it out."
    return problem_response(422, detail, request.state.request_id)

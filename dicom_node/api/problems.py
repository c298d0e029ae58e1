"""Errors as people and programs can read them: RFC 9457 problem documents, never with internals in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from dicom_node.core.errors import IllegalTransition, IndexUnavailable, NodeError, NotFound

MEDIA_TYPE = "application/problem+json"

_STATUS_OF = {NotFound: 404, IllegalTransition: 409, IndexUnavailable: 503}
_DETAIL_OF = {
    404: "Nothing is at this address. /api/openapi.json lists what there is.",
    405: "This address does not take that method. /api/openapi.json lists what it takes.",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457). `detail` says what to do; `instance` names this one occurrence, also in the log."""

    type: str = Field("about:blank", description="Kind of problem; about:blank: the status says it all.")
    title: str = Field(description="Short and always the same for a status.")
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
    ) -> None:
        super().__init__(detail)
        self.errors = errors
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(
    status: int, detail: str, request_id: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Build the answer for one problem."""
    instance = f"urn:uuid:{request_id}"
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, instance=instance, **more)
    content = problem.model_dump(exclude=set() if problem.errors else {"errors"})
    return JSONResponse(content, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe these statuses as problems in the OpenAPI document of a route."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "model": Problem, "content": {MEDIA_TYPE: schema}}
        for status in statuses
    }


def answer_with_problems(app: FastAPI) -> None:
    """Make every expected error of `app` a problem; unexpected ones are the business of `guard`."""
    app.add_exception_handler(ProblemError, _problem_error)
    app.add_exception_handler(NodeError, _node_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid)


def _problem_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ProblemError):
        raise error
    id_ = request.state.request_id
    return problem_response(error.status, error.detail, id_, error.headers, errors=error.errors)


def _node_error(request: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)
    if status is None:
        raise error
    return problem_response(status, str(error), request.state.request_id)


def _http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail = _DETAIL_OF.get(error.status_code, str(error.detail))
    return problem_response(error.status_code, detail, request.state.request_id, error.headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    # `input` is left out: it may be a token.
    errors = [{"where": ".".join(map(str, e["loc"])), "why": str(e["msg"])} for e in error.errors()]
    detail = "A part of the request cannot be used: " + "; ".join(f"{e['where']}: {e['why']}" for e in errors)
    return problem_response(422, detail, request.state.request_id, errors=errors)

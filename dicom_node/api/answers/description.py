"""The OpenAPI description: what FastAPI writes from the routes, and what holds for every route alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.api.addresses import V1
from dicom_node.api.answers.problems import described

_VERBS = ("get", "post", "put", "patch", "delete")
#: What the guard, or the reading of a body, answers before a route is asked.
_OF_BODIES = (400, 411, 413)
_OF_ALL = (500,)


def describe(app: FastAPI) -> None:
    """Let `app` describe itself, at one address, with what every route can answer; it is long, and written once."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(written())
        return app.openapi_schema

    @cache
    def written_once() -> bytes:
        return json.dumps(openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    def answered(request: Request) -> Response:
        del request
        return Response(written_once(), media_type="application/json")

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation says
    app.add_route(f"{V1}/openapi.json", answered, include_in_schema=False)


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    document["servers"] = [{"url": "/", "description": "This node."}]
    for operation in operations_of(document):
        has_body = "requestBody" in operation
        for status in (*(_OF_BODIES if has_body else ()), *_OF_ALL):
            [told] = described(status).values()
            shown = {name: value for name, value in told.items() if name != "model"}
            operation["responses"].setdefault(str(status), shown)
        _give_example(operation)
    return document


def _give_example(operation: dict[str, Any]) -> None:
    """Show what an operation answers on a node with a few studies; `tools.api_examples` has asked one."""
    example = _examples().get(operation["operationId"])
    for status, told in operation["responses"].items():
        content = told.get("content", {}).get("application/json")
        if content is not None and status.startswith("2") and example is not None:
            content["example"] = example


@cache
def _examples() -> Mapping[str, Any]:
    kept = files("dicom_node.api").joinpath("examples.json")
    return dict(json.loads(kept.read_text(encoding="utf-8"))) if kept.is_file() else {}


def operations_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every operation that a description has."""
    for item in document["paths"].values():
        yield from (item[verb] for verb in _VERBS if verb in item)

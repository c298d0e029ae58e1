"""Puts the admin API together."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from dicom_node.api import (
    destination_routes,
    event_routes,
    health_routes,
    node_routes,
    object_routes,
    retrieve_routes,
    session_routes,
    stow_routes,
    study_routes,
    upload_routes,
)
from dicom_node.api.access import Access
from dicom_node.api.body import body_places
from dicom_node.api.changes import ChangeFeed
from dicom_node.api.door import Door
from dicom_node.api.parts import ApiParts
from dicom_node.api.problems import answer_with_problems

_DESCRIPTION = (
    "What a DICOM AI node received, decided, found and delivered. Every result is AI output that no human has verified."
)


def create_app(parts: ApiParts) -> FastAPI:
    """Build the application; `app.state.feed.close()` sends listeners away before the server stops."""
    app = FastAPI(
        title="DICOM AI node",
        version=parts.version,
        description=_DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,  # would load scripts from another host
        redoc_url=None,
        middleware=[Middleware(Door)],
    )
    app.state.parts = parts
    app.state.access = Access(parts.token_digest)
    app.state.body_places = body_places()
    app.state.feed = ChangeFeed(parts.database)
    answer_with_problems(app)
    for module in (
        health_routes, session_routes, study_routes, retrieve_routes, object_routes, node_routes, destination_routes,
        event_routes, upload_routes, stow_routes,
    ):  # fmt: skip
        app.include_router(module.router)
    app.mount("/page", StaticFiles(directory=session_routes.PAGE), name="page")
    return app

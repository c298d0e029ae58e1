"""Puts the admin API together."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from dicom_node.api.access import Access
from dicom_node.api.body import body_places
from dicom_node.api.guard import RequestGuard
from dicom_node.api.parts import ApiParts
from dicom_node.api.problems import answer_with_problems
from dicom_node.api.routes import (
    destinations,
    events,
    health,
    node,
    objects,
    retrieve,
    session,
    stow,
    studies,
    uploads,
)
from dicom_node.api.routes.events import ChangeFeed
from dicom_node.index.probe import DatabaseProbe

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
        middleware=[Middleware(RequestGuard)],
    )
    app.state.parts = parts
    app.state.access = Access(parts.token_digest)
    app.state.body_places = body_places()
    app.state.feed = ChangeFeed(parts.database)
    app.state.database_probe = DatabaseProbe(parts.database)
    answer_with_problems(app)
    for module in (health, session, studies, retrieve, objects, node, destinations, events, uploads, stow):
        app.include_router(module.router)
    app.mount("/page", StaticFiles(directory=session.PAGE), name="page")
    return app

"""Puts the admin API together, and runs it in a thread of its own, beside the receiver."""

from __future__ import annotations

import logging
import socket
import time

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from dicom_node.api.access import Access
from dicom_node.api.body import body_places
from dicom_node.api.connections import ConnectionLimits, bounded_protocol
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
    well_known,
)
from dicom_node.api.routes.events import ChangeFeed
from dicom_node.core.errors import NodeError
from dicom_node.end import VitalThread
from dicom_node.index.database import DatabaseProbe

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_BACKLOG = 128
_LIMITS = ConnectionLimits()
_log = logging.getLogger(__name__)


class ApiServer:
    """One HTTP server; `port` 0 takes any free port, and `port` tells which after `start`."""

    def __init__(self, app: FastAPI, host: str, port: int, limits: ConnectionLimits = _LIMITS) -> None:
        self.port = port
        self._app = app
        self._host = host
        config = uvicorn.Config(
            app,
            log_config=None,  # uvicorn's few lines go through the node's logging; `guard` logs the requests
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            http=bounded_protocol(limits),
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread: VitalThread | None = None

    def start(self) -> None:
        """Listen and serve. Raises `NodeError` when the address cannot be had."""
        listener = _listen(self._host, self.port)
        self.port = listener.getsockname()[1]
        self._thread = VitalThread(self._serve, "api", listener)
        self._thread.start()
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > give_up_at:
                raise NodeError(f"The API on {self._host}:{self.port} did not start; the log says why.")
            time.sleep(0.01)
        _log.info("API is listening", extra={"host": self._host, "port": self.port})

    def _serve(self, listener: socket.socket) -> None:
        self._server.run([listener])
        if self._server.started and not self._server.should_exit:
            raise NodeError(f"The API on {self._host}:{self.port} ended by itself.")

    def stop(self) -> None:
        """Finish the answers under way, send event listeners away, and close the port."""
        self._app.state.feed.close()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_TIMEOUT_S)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise NodeError(
            f"The API cannot listen on {host}:{port} ({error.strerror}). Free the port, or set api.host and api.port."
        ) from error


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
    for module in (health, session, studies, retrieve, objects, node, destinations, events, uploads, stow, well_known):
        app.include_router(module.router)
    app.mount("/page", StaticFiles(directory=session.PAGE), name="page")
    return app

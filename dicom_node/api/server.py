"""Puts the admin API together, and runs it in a thread of its own, beside the receiver."""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from dicom_node.api import viewer
from dicom_node.api.access import Access
from dicom_node.api.answers.description import describe
from dicom_node.api.answers.problems import answer_with_problems
from dicom_node.api.export_places import ExportPlaces
from dicom_node.api.front.body import body_places
from dicom_node.api.front.connections import ConnectionLimits, bounded_protocol
from dicom_node.api.front.guard import RequestGuard
from dicom_node.api.front.ranges import RangeProblems
from dicom_node.api.front.rates import Rates
from dicom_node.api.front.rules import Front, rules_of
from dicom_node.api.page_files import PAGE, PageFiles
from dicom_node.api.parts import ApiParts
from dicom_node.api.routes import (
    alarms,
    configuration,
    destinations,
    drift,
    events,
    exports,
    health,
    jobs,
    metrics,
    models,
    node,
    retention,
    rules,
    studies,
    waiting,
    well_known,
)
from dicom_node.api.routes.dicomweb import frames, qido, stow, wado
from dicom_node.api.routes.events import ChangeFeed
from dicom_node.api.routes.intake import retrieve, uploads
from dicom_node.api.routes.people import accounts, audit, openid, session
from dicom_node.api.routes.reading import agreement, concordance, objects, patients, reviews, worklist
from dicom_node.config.settings import Settings
from dicom_node.core.errors import NodeError
from dicom_node.end import VitalThread
from dicom_node.index.database import DatabaseProbe
from dicom_node.people.directory import People
from dicom_node.people.openid.sessions import ProviderSessions
from dicom_node.people.openid.sign_in import OpenIdSignIn
from dicom_node.people.sealing import load_or_create_key

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
            log_config=None,  # uvicorn's errors go through the node's logging; `guard` logs the requests
            log_level="error",  # it warns of each request that is none: whoever sends many would fill the log
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

    def use(self, settings: Settings) -> None:
        """Answer by other settings, from the next request on."""
        self._app.state.parts = replace(self._app.state.parts, settings=settings)

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
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
        # Connections inherit it. asyncio sees to it only for sockets made for TCP by name; without it the second part
        # of an answer waits for the acknowledgement of the first: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise NodeError(
            f"The API cannot listen on {host}:{port} ({error.strerror}). Free the port, or set api.host and api.port."
        ) from error


_DESCRIPTION = (
    "What a DICOM AI node received, decided, found and delivered. Every result is AI output that no human has "
    "verified.\n"
    "\nHEAD is answered wherever GET is: by the same rules, with the same headers and without the body.\n"
    "\nEvery address under `/api/v1` is there under `/api` too, without the version: deprecated, kept for scripts from "
    "before there were versions, and not listed here a second time."
)


def _provider_sessions(parts: ApiParts, directory: People) -> ProviderSessions | None:
    """Return the sessions of people who sign in at a provider, if the settings name one. Raises `SettingsError`."""
    settings = parts.settings
    if not settings.oidc.issuer:
        return None
    key = load_or_create_key(settings.oidc.key_file or settings.node.data_dir / "session-key")
    return ProviderSessions(parts.database, directory.sessions, OpenIdSignIn(settings.oidc, key))


#: The resources. Exports stand before those whose addresses they lengthen by a suffix.
_MODULES = (
    health, session, openid, accounts, exports, studies, jobs, patients, retrieve, objects, node, models,
    destinations, rules, events, reviews, agreement, uploads, stow, qido, wado, frames, audit, well_known,
    worklist, waiting, metrics, retention, configuration, concordance, alarms, drift,
)  # fmt: skip


def create_app(parts: ApiParts) -> FastAPI:
    """Build the application; `app.state.feed.close()` sends listeners away before the server stops.

    Raises `SettingsError` for a viewer that is not in its folder.
    """
    rates = Rates(parts.settings.api.requests_per_minute)
    app = FastAPI(
        title="DICOM AI node",
        version=parts.version,
        description=_DESCRIPTION,
        openapi_url=None,  # it would be written anew for each who asks; see `describe`
        docs_url=None,  # would load scripts from another host
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # what programs that are made from it call the route
        middleware=[
            Middleware(RequestGuard),
            Middleware(Front, rules=rules_of(parts.settings.api), rates=rates),
            Middleware(RangeProblems),
        ],
    )
    _keep_state(app, parts, rates)
    answer_with_problems(app)
    describe(app)
    for module in _MODULES:
        app.include_router(module.router)
    app.mount("/page", PageFiles(directory=PAGE), name="page")
    app.mount(viewer.AT, viewer.Ohif(parts.settings.viewer.ohif), name="viewer")
    return app


def _keep_state(app: FastAPI, parts: ApiParts, rates: Rates) -> None:
    """Give the application what its routes share."""
    app.state.parts = parts
    directory = People.of(parts.database, parts.settings.people)
    provider = _provider_sessions(parts, directory)
    app.state.access = Access(parts.token_digest, directory, parts.audit, provider)
    app.state.rates = rates
    app.state.body_places = body_places()
    app.state.search_places = retrieve.SearchPlaces()
    app.state.export_places = ExportPlaces()
    app.state.feed = ChangeFeed(parts.database)
    app.state.database_probe = DatabaseProbe(parts.database)

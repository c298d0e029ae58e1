"""The door every request passes: an id, a bound on its size, security headers, one log line, no unhandled error."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.api.addresses import lead_to_v1
from dicom_node.api.answers.problems import problem_response
from dicom_node.core.calls.requests import REQUEST_HEADER, on_behalf_of
from dicom_node.core.metrics.table import API_REQUESTS, API_SECONDS
from dicom_node.core.metrics.tally import TALLY

#: No request of this API has more to say, but those that bring studies, and decisions with what was drawn.
MAX_BODY_BYTES = 16384
#: A dozen outlines of as many corners as one may have, and what is said of them.
MAX_DECISION_BYTES = 262144
_DECISION = re.compile(r"/api/v1/results/[^/]*/review")
#: What is posted here is read piece by piece, and bounded by the routes themselves, after the token was shown.
_STREAMED = re.compile(r"/api(/v1)?/studies|/dicom-web/studies(/[^/]*)?")

#: The address with or without a last slash; no route answers with it.
_ELSEWHERE_HERE = 307

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
#: Objects come from strangers: whatever a browser takes them for, no script of theirs runs.
_OBJECT_HEADERS = {**_HEADERS, "Content-Security-Policy": _HEADERS["Content-Security-Policy"] + "; script-src 'none'"}
#: OHIF compiles its codecs in workers and styles its page by script; nothing but its own files may run there.
_VIEWER_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "worker-src 'self' blob:; connect-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; font-src 'self' data:; object-src 'self' blob:; frame-src 'self' blob:; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    # Memory shared between its workers is for isolated pages only.
    "Cross-Origin-Embedder-Policy": "require-corp",
}
#: The headers of answers, by how their addresses begin.
_HEADERS_AT = {"/viewer/": _VIEWER_HEADERS, "/dicom-web/": _OBJECT_HEADERS}
_INTERNAL_ERROR = (
    "The node failed to answer because of an error of its own; intake and analysis go on. "
    "The log has the details under this request id: report them."
)
_log = logging.getLogger(__name__)


class RequestGuard:
    """Outermost middleware. Paths are logged as route templates, so nothing a client writes reaches the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope, send = _as_get(scope), _head_of(send)
        lead_to_v1(scope)
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        with on_behalf_of([request_id]):
            await self._served(scope, receive, _Exchange(scope, send, request_id))

    async def _served(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        request_id = exchange.request_id
        try:
            if refusal := _refusal(scope):
                await problem_response(*refusal, request_id)(scope, receive, exchange.send)
            else:
                await self.app(scope, exchange.heard_by(receive), exchange.send)
        except Exception:  # noqa: BLE001 - one of the four doors: an error becomes an answer and one log line
            _log.exception("request failed", extra=exchange.described())
            if not exchange.status:
                await problem_response(500, _INTERNAL_ERROR, request_id)(scope, receive, exchange.send)
        else:
            _log.debug("request answered", extra=exchange.described())
        finally:
            exchange.count()


class _Exchange:
    """One request on its way: adds the headers to the answer and remembers its status."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self.request_id = request_id
        self._began = time.monotonic()
        self._answered_after_s: float | None = None
        headers = Headers(scope=scope)
        self._more_comes = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    def heard_by(self, receive: Receive) -> Receive:
        """Return `receive`, and remember when the whole body has come."""

        async def remember() -> Message:
            message = await receive()
            self._more_comes = self._more_comes and message.get("more_body", False)
            return message

        return remember

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._answered_after_s = time.monotonic() - self._began
            headers = MutableHeaders(scope=message)
            headers.update({**_headers_at(self._scope["path"]), REQUEST_HEADER: self.request_id})
            headers.setdefault("Cache-Control", "no-store")
            if self.status == _ELSEWHERE_HERE:
                headers["Location"] = _here(headers["Location"])
            if self._more_comes:  # nobody will read the rest, so that no other request can come behind it
                headers["Connection"] = "close"
        await self._send(message)

    def count(self) -> None:
        """Count the request, and how long whoever asked had to wait; a stream of events may then go on for hours."""
        asked = {"method": self._scope["method"], "route": self._route or "other"}
        TALLY.count(API_REQUESTS, **asked, status=str(self.status or 500))
        if self._answered_after_s is not None:
            TALLY.observe(API_SECONDS, self._answered_after_s, **asked)

    @property
    def _route(self) -> str:
        return getattr(self._scope.get("route"), "path", "")

    def described(self) -> dict[str, object]:
        return {
            "request_id": self.request_id,
            "method": self._scope["method"],
            "route": self._route or "-",
            "status": self.status or 500,
            "took_s": round(time.monotonic() - self._began, 3),
        }


def _headers_at(path: str) -> Mapping[str, str]:
    return next((headers for begin, headers in _HEADERS_AT.items() if path.startswith(begin)), _HEADERS)


def _here(url: str) -> str:
    """Return the address without the host and scheme by which the client called: behind a proxy that the node was not
    told about they are not its own, and whoever went there would show their key without TLS."""
    found = urlsplit(url)
    return urlunsplit(("", "", "/" + found.path.lstrip("/"), found.query, ""))


def is_streamed(scope: Scope) -> bool:
    """Tell whether the body is read piece by piece, by somebody who has shown the token."""
    return scope["method"] == "POST" and _STREAMED.fullmatch(scope["path"]) is not None


def _refusal(scope: Scope) -> tuple[int, str] | None:
    """Return status and detail for a request whose body is too large, or of unknown size."""
    if is_streamed(scope):
        return None
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return 411, "Send the body with a Content-Length."
    length = headers.get("content-length", "0")
    most = MAX_DECISION_BYTES if _DECISION.fullmatch(scope["path"]) else MAX_BODY_BYTES
    if not length.isdecimal() or int(length) > most:
        return 413, f"The body may have at most {most} bytes."
    return None


# --- HEAD wherever GET is: the same request by the same rules, of whose answer only the head is sent (RFC 9110, 9.3.2)


def _as_get(scope: Scope) -> Scope:
    """Return a request for the head of an answer as one for the answer.

    Ranges are for GET alone (RFC 9110, 14.2). A file that nobody will see is named (ASGI extension
    `http.response.pathsend`) and not read.
    """
    headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
    extensions = {**(scope.get("extensions") or {}), "http.response.pathsend": {}}
    return {**scope, "method": "GET", "headers": headers, "extensions": extensions}


def _head_of(send: Send) -> Send:
    """Return a way out for an answer that ends behind its head; whoever streams one hears that the client has gone."""
    is_over = False

    async def send_head(message: Message) -> None:
        nonlocal is_over
        if is_over:
            return
        is_over = True  # first: a stream goes on while the head is on its way
        await send(message)
        await send({"type": "http.response.body"})

    return send_head

"""The door every request passes: an id, a bound on its size, security headers, one log line, no unhandled error."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.api.problems import problem_response

#: No request of this API has more to say, but those that bring studies; the largest is a log-in.
MAX_BODY_BYTES = 16384
#: What is posted here is read piece by piece, and bounded by the routes themselves, after the token was shown.
_STREAMED = re.compile(r"/api/studies|/dicom-web/studies(/[^/]*)?")

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
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
        request_id = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(scope, send, request_id)
        try:
            if refusal := _refusal(scope):
                await problem_response(*refusal, request_id)(scope, receive, exchange.send)
            else:
                await self.app(scope, receive, exchange.send)
        except Exception:  # noqa: BLE001 - one of the four doors: an error becomes an answer and one log line
            _log.exception("request failed", extra=exchange.described())
            if not exchange.status:
                await problem_response(500, _INTERNAL_ERROR, request_id)(scope, receive, exchange.send)
        else:
            _log.debug("request answered", extra=exchange.described())


class _Exchange:
    """One request on its way: adds the headers to the answer and remembers its status."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._began = time.monotonic()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update({**_HEADERS, "X-Request-Id": self._request_id})
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    def described(self) -> dict[str, object]:
        return {
            "request_id": self._request_id,
            "method": self._scope["method"],
            "route": getattr(self._scope.get("route"), "path", "-"),
            "status": self.status or 500,
            "took_s": round(time.monotonic() - self._began, 3),
        }


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
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        return 413, f"The body may have at most {MAX_BODY_BYTES} bytes."
    return None

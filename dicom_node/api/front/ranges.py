"""What is said to a `Range` that cannot be served: a problem, as everything else that goes wrong here.

Files are sent by the framework, which answers such a request itself, by a line of plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.api.answers.problem_kinds import BAD_RANGE
from dicom_node.api.answers.problems import described, problem_response

#: What the framework says of ranges that nobody can read, and of those behind the end.
_REFUSED = {400, 416}
_DETAIL = (
    "The Range of the request cannot be served. Write it as `bytes=0-1023` within the length of the file, which HEAD "
    "tells, or leave it out."
)


#: For the description of a route that sends a file.
OF_A_FILE: Mapping[int | str, dict[str, Any]] = {
    206: {"description": "The part of the file that `Range` asks for."},
    **described(416),
}


class RangeProblems:
    """Middleware. Both are answered by 416 (RFC 9110 15.5.17: ranges that are invalid, or outside)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or "range" not in Headers(scope=scope):
            await self.app(scope, receive, send)
            return
        refused: Headers | None = None

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in _REFUSED:
                headers = Headers(raw=message["headers"])
                refused = headers if headers.get("content-type", "").startswith("text/plain") else None
            if refused is None:
                await send(message)

        await self.app(scope, receive, send_unless_refused)
        if refused is not None:
            length = {name: refused[name] for name in ("content-range",) if name in refused}
            id_ = scope["state"]["request_id"]
            await problem_response(416, _DETAIL, id_, length, kind=BAD_RANGE)(scope, receive, send)

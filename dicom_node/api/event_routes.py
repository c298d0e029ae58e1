"""Server-sent events: the page learns of changed studies without asking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dicom_node.api.access import SignedIn
from dicom_node.api.changes import ChangeFeed, Listener
from dicom_node.api.problems import ProblemError, described

router = APIRouter(prefix="/api", tags=["studies"], dependencies=[SignedIn], responses=described(401, 429, 503))

HEARTBEAT_S = 15.0


def feed_of(request: Request) -> ChangeFeed:
    """Return the feed of the application."""
    return cast(ChangeFeed, request.app.state.feed)


@router.get(
    "/events",
    summary="Learn of changes as they happen",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
def get_events(feed: Annotated[ChangeFeed, Depends(feed_of)]) -> StreamingResponse:
    """Events named `change` carry `{"studies": [UID, …]}`; `heartbeat` comes every 15 s. At most 16 may listen."""
    listener = feed.join()
    if listener is None:
        detail = "Too many are listening already. Close a page, or ask /api/studies."
        raise ProblemError(503, detail, {"Retry-After": "15"})
    return _EventStream(listener)


class _EventStream(StreamingResponse):
    """Gives its place in the feed back however the answer ends."""

    def __init__(self, listener: Listener) -> None:
        super().__init__(_events(listener), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._listener = listener

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Return when the client has gone, and wake the thread that waits for the next change."""
        await super().listen_for_disconnect(receive)
        self._listener.leave()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client goes or the feed closes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listener.leave()


def _events(listener: Listener) -> Iterator[str]:
    yield "retry: 3000\n" + _event("heartbeat", {})
    while not listener.is_over:
        change = listener.next_change(HEARTBEAT_S)
        if change is not None:
            yield _event("change", {"studies": list(change.study_instance_uids)})
        elif not listener.is_over:
            yield _event("heartbeat", {})


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"

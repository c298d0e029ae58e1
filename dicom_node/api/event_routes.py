"""Server-sent events: the page learns of changed studies without asking."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dicom_node.api.access import SignedIn
from dicom_node.api.changes import Change, ChangeFeed
from dicom_node.api.problems import ProblemError, described

router = APIRouter(prefix="/api", tags=["studies"], dependencies=[SignedIn], responses=described(401, 429, 503))

HEARTBEAT_S = 15.0
#: A gone client is noticed no later than this.
_TURN_S = 1.0


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
    seen = feed.join()
    if seen is None:
        raise ProblemError(
            503, "Too many are listening already. Close a page, or ask /api/studies.", {"Retry-After": "15"}
        )
    return _EventStream(feed, seen)


class _EventStream(StreamingResponse):
    """Gives its place in the feed back however the answer ends."""

    def __init__(self, feed: ChangeFeed, seen: Change) -> None:
        super().__init__(_events(feed, seen), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client goes or the feed closes."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.leave()


def _events(feed: ChangeFeed, seen: Change) -> Iterator[str]:
    yield "retry: 3000\n" + _event("heartbeat", {})
    spoke_at = time.monotonic()
    while not feed.closed:
        latest = feed.wait(seen, _TURN_S)
        if latest.number != seen.number:
            seen = latest
            yield _event("change", {"studies": list(latest.study_instance_uids)})
            spoke_at = time.monotonic()
        elif time.monotonic() - spoke_at >= HEARTBEAT_S:
            yield _event("heartbeat", {})
            spoke_at = time.monotonic()


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"

"""Server-sent events: the page learns of changed studies without asking."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, cast

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dicom_node.api.access import CurrentPrincipal, Reads, access_of
from dicom_node.api.addresses import V1
from dicom_node.api.answers.problem_kinds import BUSY
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.audited import audited
from dicom_node.core.audit import AuditedAct
from dicom_node.core.errors import IndexUnavailable
from dicom_node.index.database import Database
from dicom_node.index.views.lists import changed_studies, last_change
from dicom_node.index.views.types import ChangeToken

router = APIRouter(prefix=V1, tags=["studies"], dependencies=[Reads], responses=described(401, 429, 503))

HEARTBEAT_S = 15.0


def feed_of(request: Request) -> ChangeFeed:
    """Return the feed of the application."""
    return cast(ChangeFeed, request.app.state.feed)


def place_of(feed: Annotated[ChangeFeed, Depends(feed_of)], principal: CurrentPrincipal) -> Callable[[], Listener]:
    """Return what takes a place in the feed for who is asking; it raises `ProblemError` 503 when there is none."""

    def join() -> Listener:
        listener = feed.join(principal.identity)
        if listener is None:
            detail = "You listen in as many places as you may now. Close a page, or ask /api/v1/studies."
            raise ProblemError(503, detail, {"Retry-After": "15"}, kind=BUSY)
        return listener

    return join


JoinFeed = Annotated[Callable[[], "Listener"], Depends(place_of)]


@router.get(
    "/events",
    summary="Learn of changes as they happen",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    dependencies=[audited(AuditedAct.QUERY)],
)
def get_events(request: Request, join: JoinFeed) -> StreamingResponse:
    """Events named `change` carry `{"studies": [UID, …]}`; `heartbeat` comes every 15 s. At most 16 may listen, 4 of
    them for one person or key. Where all places are taken, who comes gets the oldest of whoever has two more than they.

    The stream ends when the session or the key that opened it does, or somebody else gets its place.
    """
    listener = join()
    return EventStream(listener, while_admitted(request, _events(listener)))


def while_admitted(request: Request, told: Iterator[str]) -> Iterator[str]:
    """Pass a stream on for as long as the session or the key that opened it lasts."""
    for text in told:
        if not access_of(request).still_admits(request):
            return
        yield text


class EventStream(StreamingResponse):
    """Gives its place in the feed back however the answer ends. Waits in threads that no other answer needs."""

    def __init__(self, listener: Listener, told: Iterator[str]) -> None:
        super().__init__(
            listener.in_its_threads(told), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )
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
    yield "retry: 3000\n" + event("heartbeat", {})
    while not listener.is_over:
        change = listener.next_change(HEARTBEAT_S)
        if change is not None:
            yield event("change", {"studies": list(change.study_instance_uids)})
        elif not listener.is_over:
            yield event("heartbeat", {})


def event(name: str, data: Mapping[str, object], id_: str = "") -> str:
    """Write one event (HTML standard 9.2.6); `id_` is what a listener that comes back shows as Last-Event-ID."""
    numbered = f"id: {id_}\n" if id_ else ""
    return f"{numbered}event: {name}\ndata: {json.dumps(data)}\n\n"


# --- the feed: one thread looks at the database for all, and only while any listens --------------------------------

#: How many may listen at once, and how many of them may be one person's: pages in as many windows.
MAX_LISTENERS = 16
MAX_OF_ONE = 4
_POLL_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyChange:
    """The state of the index after something changed, and which studies that was (at most 100)."""

    number: int
    study_instance_uids: Sequence[str]


class Listener:
    """One page that listens. `seen` is the newest change it was told."""

    def __init__(self, feed: ChangeFeed, who: str, seen: StudyChange) -> None:
        self.who = who
        self.seen = seen
        self.has_left = False
        self._feed = feed

    @property
    def is_over(self) -> bool:
        """Whether it has left, or the server is stopping."""
        return self.has_left or self._feed.is_closed

    def next_change(self, timeout_s: float) -> StudyChange | None:
        """Wait for a change not told yet; `None` when time is up or it is over."""
        latest = self._feed.wait(self, timeout_s)
        if latest.number == self.seen.number:
            return None
        self.seen = latest
        return latest

    def leave(self) -> None:
        """Give the place back."""
        self._feed.leave(self)

    async def in_its_threads(self, told: Iterator[str]) -> AsyncIterator[str]:
        """Pass a stream on that waits in the threads of the feed: in those of the API others would wait behind it."""
        while (text := await to_thread.run_sync(next, told, None, limiter=self._feed.threads)) is not None:
            yield text


class ChangeFeed:
    """Watches the index of one node; safe to share between threads."""

    def __init__(self, database: Database, poll_s: float = _POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._changed = threading.Condition()
        self._latest = StudyChange(0, ())
        #: Whoever came first stands first.
        self._listeners: list[Listener] = []
        self._watching = False
        self._closed = False

    def join(self, who: str) -> Listener | None:
        """Begin to listen; `None` when `who` has their share of the places already, or when the feed is closed."""
        with self._changed:
            if self._closed or not self._has_place_for(who):
                return None
            listener = Listener(self, who, self._latest)
            self._listeners.append(listener)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="api-changes", daemon=True).start()
            return listener

    def _has_place_for(self, who: str) -> bool:
        """Tell whether there is a place, or one could be made: few who listen often must not keep the others out.

        Of those who have the most places, the one that was taken first ends, if who comes has two fewer: nobody loses
        their last one, and nobody takes back what they lost.
        """
        held = Counter(one.who for one in self._listeners)
        if held[who] >= MAX_OF_ONE or len(self._listeners) < MAX_LISTENERS:
            return held[who] < MAX_OF_ONE
        oldest = max(self._listeners, key=lambda one: held[one.who])
        if held[oldest.who] < held[who] + 2:
            return False
        self.leave(oldest)
        return True

    def leave(self, listener: Listener) -> None:
        """Stop listening; whoever waits for this listener returns at once. Leaving twice means nothing."""
        with self._changed:
            if not listener.has_left:
                listener.has_left = True
                self._listeners.remove(listener)
                self._changed.notify_all()

    def wait(self, listener: Listener, timeout_s: float) -> StudyChange:
        """Wait until something newer than `listener.seen` happened, it leaves, or time is up; return the latest."""
        with self._changed:
            self._changed.wait_for(lambda: listener.is_over or self._latest.number != listener.seen.number, timeout_s)
            return self._latest

    @cached_property
    def threads(self) -> CapacityLimiter:
        """The threads in which listeners wait, one for each. For the event loop alone."""
        return CapacityLimiter(MAX_LISTENERS)

    @property
    def is_closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    def close(self) -> None:
        """Send everybody away; the server is stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _watch(self) -> None:
        token: ChangeToken | None = None
        while self._wanted():
            token = self._look(token)
            with self._changed:
                self._changed.wait_for(lambda: self._closed or not self._listeners, self._poll_s)

    def _wanted(self) -> bool:
        with self._changed:
            self._watching = bool(self._listeners) and not self._closed
            return self._watching

    def _look(self, token: ChangeToken | None) -> ChangeToken | None:
        try:
            with self._database.read() as connection:
                newest = last_change(connection)
                changed = [] if token is None or token == newest else changed_studies(connection, token)
        except IndexUnavailable:
            _log.warning("changes cannot be watched: the database does not answer; tried again")
            return token
        if token is not None and newest != token:
            with self._changed:
                self._latest = StudyChange(self._latest.number + 1, changed)
                self._changed.notify_all()
        return newest

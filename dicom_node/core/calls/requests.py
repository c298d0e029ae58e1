"""For which request something is done: ids that go along with the work, into log lines, timelines and what is sent.

An association, an upload, a retrieval and a call of the API have an id each, a random UUID. A study is worked on for
those that brought it. The ids cross borders between processes with the work: in the journal and the
index as the association's id, in a task, in a header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: The name of the header by which ids cross HTTP (R4 http 3.1.0.1.4).
REQUEST_HEADER = "X-Request-Id"
_in_work: ContextVar[tuple[str, ...]] = ContextVar("requests_in_work", default=())


def requests_in_work() -> tuple[str, ...]:
    """Return for which requests the present thread works, the outermost first."""
    return _in_work.get()


@contextmanager
def on_behalf_of(requests: Iterable[str]) -> Iterator[None]:
    """Do the work of the block for these requests, beside those that it is part of."""
    known = _in_work.get()
    before = _in_work.set((*known, *(one for one in requests if one not in known)))
    try:
        yield
    finally:
        _in_work.reset(before)


def name_request(request: Any) -> None:
    """Tell a server for which request it is called, the newest of those in work: a hook of an HTTP client."""
    if requests := requests_in_work():
        request.headers.setdefault(REQUEST_HEADER, requests[-1])

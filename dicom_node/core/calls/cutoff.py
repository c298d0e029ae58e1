"""Ends what a server draws out: HTTP libraries bound each wait for a byte, and nothing bounds all of them together.

A server that sends its headers one byte at a time, or one interim response after the other, would hold its caller for
as long as it likes.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakSet


class _Client(Protocol):
    """As `httpx.Client`: what is called before each request, which may carry a `trace`."""

    event_hooks: dict[str, list[Callable[..., Any]]]


class Cutoff:
    """Shuts down the connections of one HTTP client when its time is over; the request under way then fails at once.

    Requests of several threads at once are cut together.
    """

    def __init__(self, client: _Client) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self.is_over = False
        #: How long an answer may take, counted from when its request is out; `None`: not counted so.
        self._answer_s: float | None = None
        self._answer_timer: threading.Timer | None = None
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], self._watch]}

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Give what is done in the block so long; what it is doing then ends in an error of the connection."""
        self.is_over = False
        timer = self._started(seconds)
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def of_answers(self, seconds: float) -> Iterator[None]:
        """Give every answer in the block so long, headers and body, from when its request has gone out whole.

        A large body may take its time on the way there, as long as it moves.
        """
        self.is_over, self._answer_s = False, seconds
        try:
            yield
        finally:
            self._answer_s = None
            self._end_answer()

    def _started(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        return timer

    def _end_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        self._answer_timer = None

    def _watch(self, request: Any) -> None:
        request.extensions["trace"] = self._opened

    def _opened(self, event: str, said: Mapping[str, Any]) -> None:
        """Keep each connection, of which TLS makes another socket; and note when a request is out."""
        if event.endswith(".send_request_body.complete") and self._answer_s is not None:
            self._end_answer()
            self._answer_timer = self._started(self._answer_s)
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        opened = said["return_value"].get_extra_info("socket")
        if isinstance(opened, socket.socket):
            self._sockets.add(opened)
        if self.is_over:
            self._cut()

    def _cut(self) -> None:
        self.is_over = True
        for one in list(self._sockets):
            with suppress(OSError):  # closed meanwhile
                # Of the plain socket: under TLS the method would take the session away from the thread that reads.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

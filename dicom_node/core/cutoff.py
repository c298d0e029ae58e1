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
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "request": [*hooks["request"], self._watch]}

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Give what is done in the block so long; what it is doing then ends in an error of the connection."""
        self.is_over = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _watch(self, request: Any) -> None:
        request.extensions["trace"] = self._opened

    def _opened(self, event: str, said: Mapping[str, Any]) -> None:
        """Keep each connection; TLS makes another socket of one."""
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

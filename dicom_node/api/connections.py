"""How many connections the API holds: some for each address, and one that asks for nothing makes room for the next.

A connection costs a client nothing, and without a request it may stay for ever: whoever opened enough of them closed
the API to everybody, also to the watchdog that asks whether the node lives.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.api.guard import is_streamed
from dicom_node.core.limits import network_of

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n"
    b"content-type: text/plain; charset=utf-8\r\n\r\n"
    b"Too many requests of this address are under way (api.max_connections_per_address). Try again.\n"
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections are held at once: in all, and of one address (one /64 network for IPv6)."""

    most: int = 256
    most_per_address: int = 128


class _Places:
    """The connections of one server, the one longest without a request first. For its event loop alone."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._held: dict[H11Protocol, str] = {}
        self._count: Counter[str] = Counter()

    def enter(self, connection: H11Protocol) -> bool:
        """Take a place; one without a request may have to go for it. Tell whether there was any."""
        address = network_of(connection.client[0]) if connection.client else ""
        if self._count[address] >= self._limits.most_per_address:
            has_room = self._make_room(address)
        else:
            has_room = len(self._held) < self._limits.most or self._make_room()
        if has_room:
            self._held[connection] = address
            self._count[address] += 1
        return has_room

    def leave(self, connection: H11Protocol) -> None:
        """Give the place back, if it has one."""
        address = self._held.pop(connection, None)
        if address is not None:
            self._count[address] -= 1
            self._count += Counter()  # forgets addresses without a place

    def asked(self, connection: H11Protocol) -> None:
        """A request was answered: those that never asked go before this one."""
        address = self._held.pop(connection, None)
        if address is not None:
            self._held[connection] = address

    def _make_room(self, address: str | None = None) -> bool:
        """Close the connection that has been without a request for longest: one of this address, or of any."""
        for connection, its_address in self._held.items():
            if address in (None, its_address) and _asks_nothing(connection):
                connection.transport.close()
                self.leave(connection)
                return True
        return False


def _asks_nothing(connection: H11Protocol) -> bool:
    """Tell whether no request of it is under way: none has been read, it is answered, or its body does not come.

    A body that is read piece by piece comes from somebody who was let in; any other is small, and comes at once or is
    promised for ever by one who need not show anything.
    """
    cycle: Any = connection.cycle  # none before the head of the first request has been read
    return cycle is None or cycle.response_complete or (cycle.more_body and not is_streamed(cycle.scope))


def bounded_protocol(limits: ConnectionLimits) -> type[H11Protocol]:
    """Return HTTP for uvicorn, with these limits on the connections of one server."""
    places = _Places(limits)

    class BoundedHttp(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if not places.enter(self):
                transport.write(_FULL)
                transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            places.leave(self)
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            places.asked(self)
            super().on_response_complete()

    return BoundedHttp

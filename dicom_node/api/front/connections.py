"""How many connections the API holds: some for each address, and one that asks for nothing makes room for the next.

A connection costs a client nothing, and without a request it may stay for ever: whoever opened enough of them closed
the API to everybody, also to the watchdog that asks whether the node lives.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from dicom_node.api.front.guard import is_streamed
from dicom_node.api.front.patience import Patience, PatientHttp
from dicom_node.core.calls.limits import Networks, network_of

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n"
    b"content-type: text/plain; charset=utf-8\r\n\r\n"
    b"Too many requests of this address are under way (api.max_connections_per_address). Try again.\n"
)
#: How many of those that are turned away may read why at once; others are cut off.
_MOST_TOLD = 64


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections are held at once: in all, and of one address (one /64 network for IPv6).

    Behind a proxy are all its clients: those of `proxies` are held to the first number alone. `tls` gives the context
    of the next handshake; without it the server speaks plain HTTP.
    """

    most: int = 256
    most_per_address: int = 128
    proxies: Networks = field(default_factory=Networks)
    patience: Patience = field(default_factory=Patience)
    tls: Callable[[], ssl.SSLContext] | None = None


class _Places:
    """The connections of one server, the one longest without a request first. For its event loop alone."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._held: dict[_BoundedHttp, str] = {}
        self._count: Counter[str] = Counter()
        self.told: set[_BoundedHttp] = set()

    def enter(self, connection: _BoundedHttp) -> bool:
        """Take a place; one without a request may have to go for it. Tell whether there was any."""
        address = network_of(connection.address)
        is_proxy = connection.address in self._limits.proxies
        if not is_proxy and self._count[address] >= self._limits.most_per_address:
            has_room = self._make_room(address)
        else:
            has_room = len(self._held) < self._limits.most or self._make_room()
        if has_room:
            self._held[connection] = address
            self._count[address] += 1
        return has_room

    def leave(self, connection: _BoundedHttp) -> None:
        """Give the place back, if it has one."""
        self.told.discard(connection)
        address = self._held.pop(connection, None)
        if address is not None:
            self._count[address] -= 1
            self._count += Counter()  # forgets addresses without a place

    def asked(self, connection: _BoundedHttp) -> None:
        """A request was answered: those that never asked go before this one."""
        address = self._held.pop(connection, None)
        if address is not None:
            self._held[connection] = address

    def _make_room(self, address: str | None = None) -> bool:
        """Cut the connection that has been without a request for longest: one of this address, or of any."""
        for connection, its_address in self._held.items():
            if address in (None, its_address) and _asks_nothing(connection):
                connection.cut()
                self.leave(connection)
                return True
        return False


def _asks_nothing(connection: PatientHttp) -> bool:
    """Tell whether no request of it is under way: none has been read, it is answered, its body does not come, or its
    answer is not read.

    A body that is read piece by piece comes from somebody who was let in; any other is small, and comes at once or is
    promised for ever by one who need not show anything.
    """
    cycle: Any = connection.cycle  # none before the head of the first request has been read
    if cycle is None or cycle.response_complete or connection.is_unread:
        return True
    return bool(cycle.more_body and not is_streamed(cycle.scope))


class _BoundedHttp(PatientHttp):
    """HTTP on one connection that has a place."""

    places: _Places
    tls: Callable[[], ssl.SSLContext] | None
    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, before anything is read or any hand is shaken."""
        self.own(transport)
        peer = get_remote_addr(transport)
        self.address = peer[0] if peer else ""
        if not self.places.enter(self):
            self._turn_away(transport)
        elif self.tls is None:
            super().connection_made(transport)
        else:
            self.shake_hands(self.tls)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        if self.tls is not None or len(self.places.told) >= _MOST_TOLD:
            self.cut()
            return
        self.places.told.add(self)
        super().connection_made(transport)
        transport.write(_FULL)
        self.hang_up(before_it_asked=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.places.leave(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Those that never asked go before this one."""
        self.places.asked(self)
        super().on_response_complete()


def bounded_protocol(limits: ConnectionLimits) -> type[H11Protocol]:
    """Return HTTP for uvicorn, with these limits on the connections of one server."""
    tls = None if limits.tls is None else staticmethod(limits.tls)
    return type("BoundedHttp", (_BoundedHttp,), {"places": _Places(limits), "patience": limits.patience, "tls": tls})

"""How long the API waits for one connection, and how it ends one so that the peer can still read why.

uvicorn waits for ever for the head of a request, for its body, and for a client to read its answer; and it closes a
connection with what it has not read of the request still in the socket. The kernel answers that by a reset, which
takes the answer from the peer (RFC 9112 9.6). Each connection is looked at once a second here, and ended in stages.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import h11
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.api.front.guard import is_streamed

#: What is read, and thrown away, of a peer that is being told why its connection ends.
_LAST_BYTES = 16 << 20
#: Whoever reads less of an answer within `Patience.unread_s` reads nothing.
_LEAST_READ_BYTES = 16384
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds are waited: for the head of a request and for a small body, for a TLS handshake, for a client
    that reads nothing of its answer (and until it makes room for others), and for one to read the last word; and how
    often a connection is looked at."""

    request_s: float = 20.0
    handshake_s: float = 10.0
    unread_s: float = 60.0
    makes_room_s: float = 5.0
    last_word_s: float = 2.0
    look_every_s: float = 1.0


class PatientHttp(H11Protocol):
    """HTTP on one connection, with a deadline on every step a peer must take."""

    patience: Patience
    _socket: asyncio.Transport
    _hanging_up = False
    _handshake: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None

    def own(self, transport: asyncio.Transport) -> None:
        """Remember the connection itself; below TLS, where there is any."""
        self._socket = transport
        self._awaits_since = self._moved_at = self.loop.time()
        self._unsent = self._taken = self._thrown_away = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Speak HTTP from here on."""
        self._awaits_since = self.loop.time()
        super().connection_made(cast("asyncio.Transport", _Line(transport, self)))
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look at it no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handshake is not None:
            self._handshake.cancel()
        if self.transport is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; or throw away what comes after the last word."""
        if not self._hanging_up:
            super().data_received(data)
            return
        self._thrown_away += len(data)
        if self._thrown_away > _LAST_BYTES:
            self.cut()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._awaits_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; of a body that breaks its rules, in the place of who was reading it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._leave_out(self.cycle)
        super().send_400_response(msg)

    # --- the end --------------------------------------------------------------------------------------------------

    @property
    def is_hanging_up(self) -> bool:
        """Whether the last word has been said."""
        return self._hanging_up

    @property
    def is_unread(self) -> bool:
        """Whether an answer lies here that the peer has begun to leave unread."""
        return self._unsent > 0 and self.loop.time() - self._moved_at > self.patience.makes_room_s

    def hang_up(self, *, before_it_asked: bool = False) -> None:
        """Say that nothing more comes; what the peer still says is read for a while, so that it can read, too."""
        if self._hanging_up:
            return
        self._hanging_up = True
        self._awaits_since = self.loop.time()
        line = cast("_Line", self.transport).below
        if self._has_heard_all() and not before_it_asked:
            line.close()
            return
        line.resume_reading()
        if line.can_write_eof():
            line.write_eof()

    def cut(self) -> None:
        """End the connection at once."""
        self._socket.abort()
        if self._handshake is not None:
            self._handshake.cancel()

    def _has_heard_all(self) -> bool:
        """Tell whether all is read that the peer has sent of its request."""
        return self.conn.their_state in {h11.IDLE, h11.DONE, h11.MUST_CLOSE, h11.CLOSED} and not (
            self.conn.trailing_data[0] or self.flow.read_paused
        )

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(self.patience.look_every_s, self._look)

    def _look(self) -> None:
        """End the connection when the peer has not done its part in time."""
        now = self.loop.time()
        waited_s = now - self._awaits_since
        if self._reads_nothing(now) or (self._hanging_up and not self._unsent and waited_s > self.patience.last_word_s):
            self.cut()
        elif not self._hanging_up and waited_s > self.patience.request_s and (late := self._late()):
            self._say_late(late)
        self._look_later()

    def _reads_nothing(self, now: float) -> bool:
        """Tell whether an answer lies here of which the peer has read next to nothing for too long."""
        line = cast("_Line", self.transport)
        self._unsent = self._socket.get_write_buffer_size() + line.below.get_write_buffer_size()
        taken = line.written - self._unsent
        if self._unsent == 0 or taken - self._taken >= _LEAST_READ_BYTES:
            self._taken, self._moved_at = taken, now
        return now - self._moved_at > self.patience.unread_s

    def _late(self) -> str:
        """Return what has not come in time; "" where nothing is awaited. The routes see to bodies of studies."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return "head"
        return "body" if cycle.more_body and not cycle.response_started and not is_streamed(cycle.scope) else ""

    def _say_late(self, what: str) -> None:
        """Answer 408 (RFC 9110 15.5.9) to a request that has begun; one that has not is closed without a word."""
        if what == "body":
            self._leave_out(self.cycle)
        if what == "body" or self.conn.trailing_data[0]:
            text = f"The {what} of the request did not come within {self.patience.request_s:g} s.\n".encode()
            headers = [CLOSE_HEADER, (b"content-type", b"text/plain; charset=utf-8")]
            for event in (h11.Response(status_code=408, headers=headers), h11.Data(data=text), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.hang_up()

    @staticmethod
    def _leave_out(cycle: Any) -> None:
        """Let the application hear that nobody listens any more: what it says is not sent behind the last word."""
        cycle.disconnected = True
        cycle.message_event.set()

    # --- TLS ------------------------------------------------------------------------------------------------------

    def shake_hands(self, context: Callable[[], ssl.SSLContext]) -> None:
        """Begin a TLS handshake, beside all others; HTTP begins when it is over."""
        self._handshake = self.loop.create_task(self._shake_hands(context))

    async def _shake_hands(self, context: Callable[[], ssl.SSLContext]) -> None:
        early = _Early()
        try:
            transport = await self.loop.start_tls(
                self._socket, early, context(), server_side=True, ssl_handshake_timeout=self.patience.handshake_s,
                ssl_shutdown_timeout=self.patience.last_word_s,
            )  # fmt: skip
        except (OSError, asyncio.CancelledError) as error:  # `ssl.SSLError` and time-outs are among them
            _log.debug("no TLS connection", extra={"why": type(error).__name__})
            transport = None
        self._handshake = None
        if transport is None:
            self._socket.abort()
            self.connection_lost(None)
            return
        PatientHttp.connection_made(self, transport)
        early.hand_over(transport, self)


class _Early(asyncio.Protocol):
    """Keeps what comes between the end of a handshake and the beginning of HTTP."""

    def __init__(self) -> None:
        self._heard = bytearray()
        self._is_over = False

    def data_received(self, data: bytes) -> None:
        self._heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._is_over = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """Let HTTP hear from here on, and what came before."""
        transport.set_protocol(protocol)
        if self._heard:
            protocol.data_received(bytes(self._heard))
        if self._is_over:
            protocol.connection_lost(None)


class _Line:
    """A transport as uvicorn sees it: its end is that of `PatientHttp`."""

    def __init__(self, transport: asyncio.Transport, connection: PatientHttp) -> None:
        self.below = transport
        self.written = 0
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self.below.write(data)

    def is_closing(self) -> bool:
        return self._connection.is_hanging_up or self.below.is_closing()

    def close(self) -> None:
        self._connection.hang_up()

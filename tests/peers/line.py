"""A line to a receiver (TCP) that breaks while a result is on it, at the moment that a test names.

What is behind the line is a receiver of any make: it knows nothing of the break but that the connection is gone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

#: Command field (0000,0100) of a C-STORE-RQ, implicit VR little endian (PS3.7 E.1-1).
_C_STORE_RQ = bytes.fromhex("0000000102000000 0100")
_P_DATA = 0x04


class Break(StrEnum):
    """Where the line breaks."""

    BEFORE = "before the first byte"
    TORN = "in the middle"
    UNHEARD = "after receipt, and nothing is heard of it"
    DROPPED = "after receipt, by hanging up"
    ANSWERED = "at the answer, which is held back until the test lets it go"


def holds_object(said: bytes) -> bool:
    """Tell whether a DICOM requestor is storing an object."""
    return said[:1] == bytes([_P_DATA]) and _C_STORE_RQ in said[:512]


def holds_message(said: bytes) -> bool:
    """Tell whether a message of HL7 v2 has begun (MLLP)."""
    return said[:1] == b"\x0b"


def holds_written(said: bytes) -> bool:
    """Tell whether an HTTP client writes: what is only asked by POST is no result."""
    head = said.split(b"\r\n", 1)[0]
    return head.startswith((b"POST ", b"PUT ", b"PATCH ")) and b"/_search" not in head and b"\r\n\r\n" in said


class Line:
    """Passes connections on to `target`. `results` counts what was begun to be sent that `is_result` is true of."""

    def __init__(self, target: int, is_result: Callable[[bytes], bool]) -> None:
        self._target, self._is_result = target, is_result
        self._break: Break | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.results = 0
        #: An answer that this line gives by itself to every result, instead of passing it on.
        self.answers: bytes | None = None
        self.reached, self.heard, self._released = threading.Event(), threading.Event(), threading.Event()
        self._start(self._accept)

    def breaks(self, where: Break) -> None:
        """Break the line where the next result is on it, and so on until it is mended."""
        for event in (self.reached, self.heard, self._released):
            event.clear()
        self._break = where

    def let_answer_through(self) -> None:
        """Pass on the answers that are held back; `heard` is set when the first is on its way."""
        self._released.set()

    def mend(self) -> None:
        """Pass on everything from now on; what is held ends with its connection."""
        self._break = self.answers = None
        self._released.set()

    def close(self) -> None:
        """Take no more connections."""
        self.mend()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(_Call(self, client).run)

    def _start(self, action: Callable[[], None]) -> None:
        threading.Thread(target=action, daemon=True).start()

    # --- what a call asks of its line

    def begins(self, said: bytes) -> bool:
        """Tell whether a result is on the line with what the client has said since the last answer."""
        return self._is_result(said)

    def result_begun(self) -> Break | None:
        """Count a result, and return where it breaks."""
        self.results += 1
        return self._break

    def hold(self) -> None:
        """Say that the line is broken, and wait until it is mended."""
        self.reached.set()
        self._released.wait()

    def connect(self) -> socket.socket:
        """Call the receiver."""
        return socket.create_connection(("127.0.0.1", self._target))


class _Call:
    """One connection."""

    def __init__(self, line: Line, client: socket.socket) -> None:
        self._line, self._client = line, client
        self._said = b""
        #: Where the result that is on the line now breaks.
        self._breaks: Break | None = None

    def run(self) -> None:
        with self._client:
            try:
                server = self._line.connect()
            except OSError:
                return
            with server:
                back = threading.Thread(target=self._pass_back, args=(server,), daemon=True)
                back.start()
                self._pass_on(server)
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_WR)
                back.join()

    def _pass_on(self, server: socket.socket) -> None:
        """Pass on what the client says until it is silent for good, or the line breaks."""
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                was_result = self._line.begins(self._said)
                self._said = (self._said + data)[:8192]
                if self._line.begins(self._said) and not was_result:
                    self._breaks = self._line.result_begun()
                    if self._line.answers is not None:
                        self._answer(self._line.answers)
                        return
                    if self._breaks in {Break.BEFORE, Break.TORN}:
                        if self._breaks is Break.TORN:
                            server.sendall(data[: len(data) // 2])
                        self._line.hold()
                        return
                server.sendall(data)

    def _answer(self, answer: bytes) -> None:
        """Say this, and hear the client out: one that is cut off while it speaks would not read what is said."""
        self._client.sendall(answer)
        self._client.shutdown(socket.SHUT_WR)
        while self._client.recv(65536):
            pass

    def _pass_back(self, server: socket.socket) -> None:
        """Pass on what the receiver answers; where the line breaks after receipt, only that it has."""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                where, self._said, self._breaks = self._breaks, b"", None
                if where in {Break.UNHEARD, Break.ANSWERED}:
                    self._line.hold()
                if where in {Break.UNHEARD, Break.DROPPED}:
                    self._line.reached.set()
                    break
                self._client.sendall(data)
                if where is Break.ANSWERED:
                    self._line.heard.set()
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_line(target: int, is_result: Callable[[bytes], bool]) -> Iterator[Line]:
    """Run a line to a port of this machine."""
    line = Line(target, is_result)
    try:
        yield line
    finally:
        line.close()

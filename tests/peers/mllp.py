"""Receivers of HL7 v2 over MLLP: one of another make that obeys (hl7apy), and one that does whatever it is told."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hl7
from hl7apy.core import Message
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from dicom_node.fhir.hl7.grammar import value

_START, _END = b"\x0b", b"\x1c\r"
_ACCEPTING = {"AA", "CA", "close", "lines", "twice", "late", "bytes"}
#: Longer than any test waits for the node to give up.
_SILENCE_S = 60.0


class Hl7Receiver(socketserver.ThreadingTCPServer):
    """Takes messages and does with each what comes next in `behaviour`; with nothing left there it accepts (AA).

    `AA`, `CA`, `AE`, `CE`, `AR`, `CR` answer so; `drop` closes after receipt, `silence` says nothing, `garbage` is no
    MLLP, `nonsense` no acknowledgement, `another` answers for another message, `endless` never ends, `close` accepts
    and closes. These accept in their own way: `lines` ends segments by line feeds, `bytes` sends byte by byte, `twice`
    acknowledges receipt and then the message, `late` answers for the message before, too. `received` are the messages
    in the order of arrival, a dropped one too.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, behaviour: Sequence[str] = (), tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.behaviour = deque(behaviour)
        self.received: list[str] = []
        #: Those that it has accepted and keeps.
        self.accepted: list[str] = []
        self.connections = 0
        self.tls = tls
        self.stopped = threading.Event()
        super().__init__(("127.0.0.1", port), _Conversation)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away or show the wrong certificate: that is what the tests are about."""

    def messages(self) -> list[hl7.Message]:
        """Return what arrived, each message once however often the same bytes came."""
        return [hl7.parse(one) for one in dict.fromkeys(self.received)]

    def chart(self) -> dict[str, hl7.Message]:
        """Return by OBR-3 the message that came last: what a reader of the chart sees."""
        return {str(value(one.segment("OBR"), 3)): one for one in map(hl7.parse, self.received)}

    def live(self) -> list[hl7.Message]:
        """Return what the chart shows as a result that holds."""
        return [one for one in self.chart().values() if "WITHDRAWN" not in str(one)]


class _Conversation(socketserver.BaseRequestHandler):
    server: Hl7Receiver

    def handle(self) -> None:
        line: socket.socket = self.request
        if self.server.tls is not None:
            line = self.server.tls.wrap_socket(line, server_side=True)
        self.server.connections += 1
        with line:
            while (message := _message(line)) is not None:
                self.server.received.append(message)
                what = self.server.behaviour.popleft() if self.server.behaviour else "AA"
                if what in _ACCEPTING:
                    self.server.accepted.append(message)
                if not self._answer(line, what, message):
                    return

    def _answer(self, line: socket.socket, what: str, message: str) -> bool:
        """Do it; `False` ends the conversation."""
        control_id = str(hl7.parse(message).segment("MSH")[10])
        before = str(hl7.parse(self.server.received[0]).segment("MSH")[10])
        if what in {"drop", "silence"}:
            if what == "silence":
                self.server.stopped.wait(_SILENCE_S)
            return False
        said = {
            "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "nonsense": _START + b"MSH|^~\\&|no\rXXX|what?" + _END,
            "another": _ack("AA", "ANOTHER"),
            "endless": _START + b"x" * 200_000,
            "close": _ack("AA", control_id),
            "lines": _ack("AA", control_id).replace(b"\rMSA", b"\r\nMSA").replace(b"\r" + _END, b" \r\n" + _END),
            "twice": _ack("CA", control_id) + _ack("AA", control_id),
            "late": _ack("AA", before) + _ack("AA", control_id),
            "bytes": _ack("AA", control_id),
        }
        answer = said.get(what) or _ack(what, control_id)
        for part in map(bytes, zip(answer, strict=True)) if what == "bytes" else [answer]:
            line.sendall(part)
        return what not in {"garbage", "endless", "close"}


def _message(line: socket.socket) -> str | None:
    received = b""
    while not received.endswith(_END):
        chunk = line.recv(65536)
        if not chunk:
            return None
        received += chunk
    return received[1 : -len(_END)].decode("utf-8")


def _ack(code: str, control_id: str) -> bytes:
    error = "" if code in {"AA", "CA"} else "\rERR|||207^Application internal error^HL70357|E|||Jane Doe is unknown"
    text = f"MSH|^~\\&|RIS|HOSP|AINODE||20261129||ACK^R01^ACK|1|P|2.5.1\rMSA|{code}|{control_id}{error}\r"
    return _START + text.encode() + _END


@contextmanager
def running_receiver(
    *behaviour: str, tls: ssl.SSLContext | None = None, port: int = 0, kind: type[Hl7Receiver] = Hl7Receiver
) -> Iterator[Hl7Receiver]:
    """Run one on a port of the loopback address."""
    with kind(behaviour, tls, port) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stopped.set()
            receiver.shutdown()
            thread.join()


class _Obeying(AbstractHandler):  # type: ignore[misc]
    """Accepts whatever its parser can read by the grammar of 2.5.1."""

    def __init__(self, message: str, taken: list[str]) -> None:
        super().__init__(message)
        self._taken = taken

    def reply(self) -> str:
        told = parse_message(self.incoming_message)
        self._taken.append(self.incoming_message)
        ack = Message("ACK", version="2.5.1")
        ack.msh.msh_9, ack.msa.msa_1, ack.msa.msa_2 = "ACK^R01^ACK", "AA", told.msh.msh_10.to_er7()
        return str(ack.to_mllp())


@contextmanager
def running_hl7apy() -> Iterator[tuple[int, list[str]]]:
    """Run hl7apy's listener, which closes behind every answer; gives its port and what it took."""
    taken: list[str] = []
    with MLLPServer("127.0.0.1", 0, {"ORU^R01^ORU_R01": (_Obeying, taken)}, timeout=30) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], taken
        finally:
            server.shutdown()
            thread.join()

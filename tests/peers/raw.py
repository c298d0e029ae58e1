"""A DICOM client made of bytes: it says exactly what a test wants said, right or wrong, and sees what comes back.

PDUs after PS3.8 9.3, command sets after PS3.7 Annex E, written here on their own so that the node is not judged by the
code it is made of.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tests.support.studies.small_images import CT_IMAGE, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Image

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, LAST = 1, 2
STORE_CONTEXT, ECHO_CONTEXT = 1, 3
#: What a plain modality proposes: context ID to abstract syntax and transfer syntaxes.
USUAL_CONTEXTS: Mapping[int, tuple[str, Sequence[str]]] = {
    STORE_CONTEXT: (CT_IMAGE, (EXPLICIT_LITTLE,)),
    ECHO_CONTEXT: (VERIFICATION, (IMPLICIT_LITTLE,)),
}


# --- bytes -----------------------------------------------------------------------------------------------------------


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """Return a PDU; `length` lies about its body."""
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def item(kind: int, value: bytes) -> bytes:
    """Return an item of an A-ASSOCIATE PDU."""
    return struct.pack(">BxH", kind, len(value)) + value


def associate_rq(
    contexts: Mapping[int, tuple[str, Sequence[str]]] = USUAL_CONTEXTS,
    *,
    calling: str | bytes = "MOD1",
    called: str | bytes = "AINODE",
    max_pdu_bytes: int = 16384,
    user_items: bytes = b"",
    version: int = 1,
) -> bytes:
    """Return an A-ASSOCIATE-RQ."""
    titles = b"".join((t.encode() if isinstance(t, str) else t).ljust(16) for t in (called, calling))
    body = struct.pack(">HH", version, 0) + titles + bytes(32) + item(0x10, APPLICATION_CONTEXT.encode())
    for number, (abstract, syntaxes) in contexts.items():
        names = item(0x30, abstract.encode()) + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
        body += item(0x20, bytes([number, 0, 0, 0]) + names)
    own = item(0x51, struct.pack(">L", max_pdu_bytes)) + item(0x52, b"1.2.3.4.5") + item(0x55, b"RAW")
    return pdu(ASSOCIATE_RQ, body + item(0x50, own + user_items))


def fragment(context_id: int, control: int, body: bytes) -> bytes:
    """Return one presentation data value with its length."""
    return struct.pack(">LBB", len(body) + 2, context_id, control) + body


def p_data(context_id: int, control: int, body: bytes) -> bytes:
    """Return a P-DATA-TF of one fragment."""
    return pdu(P_DATA, fragment(context_id, control, body))


def command_set(elements: Mapping[int, bytes]) -> bytes:
    """Return a command set; element numbers of group 0000 to values."""
    body = b"".join(struct.pack("<HHL", 0, n, len(v)) + v for n, v in sorted(elements.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def us(value: int) -> bytes:
    return struct.pack("<H", value)


def ui(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid.encode()) % 2)


def c_store_rq(sop_class: str, sop_instance: str, message_id: int = 1) -> bytes:
    """Return the command set of a C-STORE-RQ."""
    return command_set(
        {2: ui(sop_class), 0x100: us(1), 0x110: us(message_id), 0x700: us(2), 0x800: us(1), 0x1000: ui(sop_instance)}
    )


def c_echo_rq(message_id: int = 1) -> bytes:
    """Return the command set of a C-ECHO-RQ."""
    return command_set({2: ui(VERIFICATION), 0x100: us(0x30), 0x110: us(message_id), 0x800: us(0x101)})


def store_pdus(image: Image, message_id: int = 1, pdu_bytes: int = 16384, context_id: int = STORE_CONTEXT) -> bytes:
    """Return every PDU of a C-STORE."""
    command = c_store_rq(image.sop_class_uid, image.sop_instance_uid, message_id)
    return p_data(context_id, COMMAND | LAST, command) + b"".join(data_pdus(image.data_set, pdu_bytes, context_id))


def data_pdus(data_set: bytes, pdu_bytes: int = 16384, context_id: int = STORE_CONTEXT) -> Iterator[bytes]:
    """Yield the PDUs of a data set, the last one marked as such."""
    step = pdu_bytes - 6
    for start in range(0, len(data_set), step):
        control = LAST if start + step >= len(data_set) else 0
        yield p_data(context_id, control, data_set[start : start + step])


# --- a connection ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pdu:
    """A PDU as received."""

    kind: int
    body: bytes

    @property
    def status(self) -> int:
        """The status of a response (PS3.7 C)."""
        return struct.unpack("<H", self.element(0x900))[0]  # type: ignore[no-any-return]

    def element(self, number: int) -> bytes:
        """The value of a command element of a P-DATA-TF with one fragment."""
        position = 6
        while position + 8 <= len(self.body):
            _, element, length = struct.unpack_from("<HHL", self.body, position)
            if element == number:
                return self.body[position + 8 : position + 8 + length]
            position += 8 + length
        raise LookupError(f"no element (0000,{number:04x})")


class Raw:
    """One connection; closed by `with`."""

    def __init__(
        self,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 60.0,
        host: str = "127.0.0.1",
        source: str = "127.0.0.1",
    ) -> None:
        """Connect, on loopback from `source`; with `tls` the handshake is made, too."""
        own = (source, 0) if host == "127.0.0.1" else None
        self._plain = socket.create_connection((host, port), timeout_s, own)
        self._plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = self._plain if tls is None else tls.wrap_socket(self._plain)
        self._message_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Pdu | None:
        """Return the next PDU, `None` when the peer closed. Raises `TimeoutError`, `ConnectionError`."""
        head = self._exactly(6)
        if head is None:
            return None
        kind, length = struct.unpack(">BxL", head)
        body = self._exactly(length)
        return None if body is None else Pdu(kind, body)

    def associate(
        self,
        contexts: Mapping[int, tuple[str, Sequence[str]]] = USUAL_CONTEXTS,
        *,
        calling: str | bytes = "MOD1",
        called: str | bytes = "AINODE",
    ) -> Pdu:
        """Ask for an association and return the answer."""
        self.send(associate_rq(contexts, calling=calling, called=called))
        return self._answer()

    def opened(self) -> Self:
        """Ask for an association, see that it is accepted, and return this connection."""
        answer = self.associate()
        assert answer.kind == ASSOCIATE_AC, answer
        return self

    def echo(self) -> int:
        """Make a C-ECHO and return its status."""
        self._message_id += 1
        self.send(p_data(ECHO_CONTEXT, COMMAND | LAST, c_echo_rq(self._message_id)))
        return self._response().status

    def store(self, image: Image, pdu_bytes: int = 16384) -> int:
        """Make a C-STORE and return its status."""
        self._message_id = self._message_id % 65535 + 1
        self.send(store_pdus(image, self._message_id, pdu_bytes))
        return self._response().status

    def release(self) -> None:
        """End the association in order."""
        self.send(pdu(RELEASE_RQ, bytes(4)))
        answer = self._answer()
        assert answer.kind == RELEASE_RP, answer
        self.close()

    def end(self, within_s: float) -> str:
        """Wait for the peer to end the connection; return how: ``abort`` (an A-ABORT came first), ``closed``,
        ``reset``, or ``open`` if it has not ended in time. Anything else that comes is thrown away."""
        deadline, aborted = time.monotonic() + within_s, False
        while True:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                found = self.receive()
            except TimeoutError:
                return "open"
            except (ConnectionError, ssl.SSLError):
                return "abort" if aborted else "reset"
            if found is None:
                return "abort" if aborted else "closed"
            aborted = aborted or found.kind == ABORT

    def abort(self) -> None:
        """Send an A-ABORT of the service user and close."""
        self.send(pdu(ABORT, bytes(4)))
        self.close()

    def reset(self) -> None:
        """Close so that the peer gets a TCP reset."""
        self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def _answer(self) -> Pdu:
        found = self.receive()
        assert found is not None, "the peer closed the connection"
        return found

    def _response(self) -> Pdu:
        found = self._answer()
        assert found.kind == P_DATA, found
        return found

    def _exactly(self, count: int) -> bytes | None:
        pieces = b""
        while len(pieces) < count:
            more = self.socket.recv(min(count - len(pieces), 1 << 20))
            if not more:
                return None
            pieces += more
        return pieces

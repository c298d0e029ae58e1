"""The Minimal Lower Layer Protocol as its sender (HL7 v2 transport, MLLP release 1): a frame out, a frame back.

The clients of the libraries wait for ever, take any length, and know no TLS; every wait here ends, and so does an
answer that is longer than one may be.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DestinationAway, fault_told
from dicom_node.dimse.negotiation import Tls

_START, _END = b"\x0b", b"\x1c"
#: What may stand between two frames.
_BETWEEN = b"\r\n"
#: An acknowledgement is some hundred bytes; this leaves room for many errors told in it.
LONGEST_ANSWER_BYTES = 64 * 1024
_CHUNK_BYTES = 4096
#: So long a receiver has to say under TLS 1.3, behind the handshake, that it does not take the certificate.
_REFUSED_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True)
class MllpPeer:
    """Where a receiver listens, how it is spoken to, and the time limit of connecting and of one message."""

    host: str
    port: int
    timeout_s: float
    tls: Tls | None = None

    def __str__(self) -> str:
        """Return what operators read of it."""
        return f"{self.host}:{self.port}"


class MllpConnection:
    """An open connection; a context manager that closes it. Raises `DestinationAway` where nobody answers."""

    def __init__(self, peer: MllpPeer) -> None:
        self._peer = peer
        self._rest = b""
        self._deadline = 0.0
        #: Whether it has brought an answer; a receiver may close behind each.
        self.has_answered = False
        try:
            plain = socket.create_connection((peer.host, peer.port), timeout=peer.timeout_s)
        except (OSError, UnicodeError) as error:  # a name with an empty or endless part is no text for Python's codec
            raise DestinationAway(f"{peer} cannot be reached: {fault_told(error)}. Check host and port.") from error
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain if peer.tls is None else _encrypted(plain, peer, peer.tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def ask(self, message: bytes) -> bytes:
        """Send one message and return what comes back as one, without its frame.

        Raises `DeliveryDeferred` where none comes in time: the message may have arrived all the same. Raises
        `CredentialsRefused` where the receiver does not take the node's certificate.
        """
        self._deadline = time.monotonic() + self._peer.timeout_s
        with self._explained():
            self._socket.settimeout(self._peer.timeout_s)
            self._socket.sendall(_START + message + _END + b"\r")
        answer = self.next_answer()
        self.has_answered = True
        return answer

    def next_answer(self) -> bytes:
        """Return what comes next, within the time that the last message has. Raises as `ask`."""
        with self._explained():
            return self._frame(self._deadline)

    def await_refusal(self) -> None:
        """Wait a moment for a refusal of the certificate, which under TLS 1.3 comes behind the handshake.

        Raises as `ask`; silence is what a receiver says that waits for a message.
        """
        with self._explained(), suppress(TimeoutError):
            self._socket.settimeout(_REFUSED_WITHIN_S)
            if not self._socket.recv(_CHUNK_BYTES):
                raise self._lost("closed the connection")

    def _frame(self, deadline: float) -> bytes:
        """Read up to the end of a frame; what stands before its beginning is nothing that MLLP knows."""
        received = self._rest
        while _END not in received:
            if len(received) > LONGEST_ANSWER_BYTES:
                raise self._lost(f"answered more than {LONGEST_ANSWER_BYTES} bytes; is it a receiver of HL7 v2?")
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            chunk = self._socket.recv(_CHUNK_BYTES)
            if not chunk:
                raise self._lost("closed the connection and did not answer")
            received += chunk
            if received.lstrip(_BETWEEN) and not received.lstrip(_BETWEEN).startswith(_START):
                raise self._lost("answered something that is no MLLP; is it a receiver of HL7 v2?")
        frame, _, self._rest = received.partition(_END)
        return frame.lstrip(_BETWEEN)[1:]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what a socket raises into one sentence."""
        try:
            yield
        except TimeoutError as error:
            raise self._lost(f"did not answer within {self._peer.timeout_s:g} s") from error
        except ssl.SSLError as error:
            if "CERTIFICATE" in str(error.reason) or "UNKNOWN_CA" in str(error.reason):
                why = f"{self._peer} does not take the certificate of this node ({error.reason})."
                raise CredentialsRefused(f"{why} Check client_certificate.") from error
            raise self._lost(f"ended TLS ({error.reason})") from error
        except OSError as error:
            raise self._lost("broke off the connection and did not answer") from error

    def _lost(self, what: str) -> DeliveryDeferred:
        return DeliveryDeferred(f"{self._peer} {what}.")


def _encrypted(plain: socket.socket, peer: MllpPeer, tls: Tls) -> socket.socket:
    advice = "Check ca and tls_server_name, and that it speaks TLS on this port."
    try:
        context = tls.context()
        return context.wrap_socket(plain, server_hostname=tls.server_name if context.check_hostname else None)
    except (OSError, ValueError) as error:
        plain.close()
        why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or fault_told(error)
        raise DestinationAway(f"TLS with {peer} could not be agreed on: {why}. {advice}") from error

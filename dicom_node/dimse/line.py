"""The line to a peer that was called: a socket, TLS on it where it is wanted, PDUs, and a deadline on every wait.

The PDU types are pynetdicom's; the socket is driven here. A threaded requestor reads a whole file into its queue before
the first byte leaves, and a peer that stops reading holds its thread for ever; here a file is streamed through one
buffer, and every wait ends.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pynetdicom.pdu import A_ABORT_RQ, A_RELEASE_RQ

from dicom_node.core.errors import NodeError
from dicom_node.dimse.negotiation import Remote, Tls

LONGEST_ANSWER_BYTES = 1 << 20
ASSOCIATE_AC, P_DATA = 0x02, 0x04
_ASSOCIATE_RJ, _RELEASE_RP, _ABORT = 0x03, 0x06, 0x07
_ADVICE_ON_CERTIFICATE = (
    "Check who signed it (tls_ca, or ca of [dicom_tls]) and the name that it bears (tls_server_name; --tls-name of a "
    "command)."
)
_PDU_HEAD = struct.Struct(">BxL")


@dataclass(frozen=True, slots=True)
class PeerErrors:
    """What a requestor raises for its peer: the error for one that is lost or confused, the advice that ends its
    sentence, and what makes the error for a rejection."""

    error: type[NodeError]
    advice: str
    rejection: Callable[[Remote, bytes], NodeError]


class Line:
    """A connection to a peer. Every method raises the error of `errors` when the peer is lost or confused."""

    def __init__(self, remote: Remote, errors: PeerErrors) -> None:
        """Connect."""
        self._remote = remote
        self._errors = errors
        self._has_answered = False
        try:
            self._socket = socket.create_connection((remote.host, remote.port), timeout=remote.timeout_s)
        except (OSError, UnicodeError) as error:  # a name with an empty or endless part is no text for Python's codec
            why = getattr(error, "strerror", "") or str(error) or type(error).__name__
            raise self.failure(f"cannot be reached: {why}. Check host and port.") from error
        # Without this a small PDU waits for the peer's delayed acknowledgement, 40 ms per object.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if remote.tls:
            self._socket = self._encrypted(self._socket, remote.tls)

    def say(self, pdu: bytes | memoryview) -> None:
        """Send bytes; to be called inside `explained`."""
        self._socket.sendall(pdu)

    def hear(self, wanted: int, most_bytes: int = LONGEST_ANSWER_BYTES) -> bytearray:
        """Read one PDU within the time limit and return its body, if it is the one `wanted`; inside `explained`."""
        deadline = time.monotonic() + self._remote.timeout_s
        kind, length = _PDU_HEAD.unpack(self._read(_PDU_HEAD.size, deadline))
        if length > most_bytes:
            raise self.failure(f"announced a PDU of {length} bytes; is it a DICOM peer?")
        body = self._read(length, deadline)
        self._has_answered = True
        if kind == wanted:
            return body
        if kind == _ASSOCIATE_RJ:
            raise self._errors.rejection(self._remote, _PDU_HEAD.pack(kind, length) + body)
        if kind == _ABORT:
            raise self.failure("aborted the association. Does it know this node and allow this? Its log may say.")
        raise self.failure(f"sent PDU type 0x{kind:02X} out of turn.")

    def comes(self, within_s: float) -> bool:
        """Tell whether the peer says something, or hangs up, within so many seconds."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def acceptance(self, request: bytes) -> bytes:
        """Send an A-ASSOCIATE-RQ and return the A-ASSOCIATE-AC; inside `explained`."""
        self.say(request)
        body = self.hear(ASSOCIATE_AC)
        return _PDU_HEAD.pack(ASSOCIATE_AC, len(body)) + body

    def release(self) -> None:
        """Ask for release, wait for the answer, and close; a peer that has gone by now has lost nothing."""
        with suppress(OSError, NodeError):
            self.say(bytes(A_RELEASE_RQ().encode()))
            self.hear(_RELEASE_RP)
        self.close()

    def abort(self) -> None:
        """Say that this is over, and close."""
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0, 0
        with suppress(OSError):
            self._socket.settimeout(1.0)
            self.say(bytes(abort.encode()))
        self.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self._socket.close()

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turn what a socket or a malformed answer raises into one sentence."""
        try:
            yield
        except TimeoutError as error:
            raise self.failure(f"did not get on for {self._remote.timeout_s:g} s while {doing}.") from error
        except ssl.SSLEOFError as error:
            raise self._closed(doing) from error
        except ssl.SSLError as error:
            why = f"ended TLS ({error.reason}) while {doing}"
            raise self.failure(f"{why}. Does it know the certificate of this node?") from error
        except OSError as error:
            raise self._closed(doing) from error
        except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
            raise self.failure(f"sent malformed bytes while {doing}.") from error

    def _closed(self, doing: str) -> NodeError:
        """Under TLS 1.3 a peer refuses a certificate after the handshake, and its reset may overtake the alert."""
        if self._has_answered:
            advice = ""
        elif self._remote.tls:
            advice = " Does it know the certificate of this node?"
        else:
            advice = " Check its port, whether it wants TLS there, and whether it lets this node in."
        return self.failure(f"closed the connection while {doing}.{advice}")

    def _encrypted(self, plain: socket.socket, tls: Tls) -> socket.socket:
        try:
            context = tls.context()
        except OSError as error:
            plain.close()
            why = error.strerror or str(error)
            raise self.failure(
                f"cannot be called: {why}. Check tls_ca, client_certificate, and [dicom_tls] of this node."
            ) from error
        try:
            return context.wrap_socket(plain, server_hostname=tls.server_name if context.check_hostname else None)
        except ssl.SSLCertVerificationError as error:
            why = f"shows a certificate that does not hold: {error.verify_message.rstrip('.')}"
            failure = self.failure(f"{why}. {_ADVICE_ON_CERTIFICATE}")
        except TimeoutError:
            failure = self.failure(f"did not agree on TLS within {self._remote.timeout_s:g} s.")
        except OSError:
            failure = self.failure("does not agree on TLS here. Check its port, and whether and which TLS it speaks.")
        except ValueError:  # an empty label, a character that no name has
            why = f"cannot be called: {tls.server_name!r} is no name of a host"
            failure = self.failure(f"{why}. Check tls_server_name.")
        plain.close()
        raise failure

    def failure(self, what: str) -> NodeError:
        """Return the error that says what the peer did."""
        return self._errors.error(f"{self._remote} {what} {self._errors.advice}".rstrip())

    def _read(self, length: int, deadline: float) -> bytearray:
        received = bytearray(length)
        view = memoryview(received)
        while view:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            count = self._socket.recv_into(view)
            if not count:
                raise ConnectionResetError
            view = view[count:]
        self._socket.settimeout(self._remote.timeout_s)
        return received

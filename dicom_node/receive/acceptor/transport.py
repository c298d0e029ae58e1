"""One peer's bytes and PDUs, plain or TLS: exact lengths, checked before anything is received, and total deadlines.

On a plain socket the kernel keeps the deadline: a blocking receive with MSG_WAITALL and SO_RCVTIMEO returns when the
bytes are there or the time is over, in one system call. A peer that sends one byte a second gains nothing by it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import struct
import time
from typing import Protocol

from dicom_node.config.files import require_regular
from dicom_node.dimse.vocabulary import AbortReason, PduType

_TIMEVAL = struct.Struct("ll")
_SEND_TIMEOUT_S = 30.0
_LAST_WORD_S, _LAST_READS = 1.0, 64


class PeerGone(Exception):
    """The connection ended: closed, reset, or silent at the system's level."""


class PeerTooSlow(Exception):
    """Some bytes came, the rest not in time."""


class PeerSilent(Exception):
    """Nothing came in time."""


class Transport(Protocol):
    """One connection."""

    def read(self, view: memoryview) -> None:
        """Fill the view. Raises `PeerSilent` (nothing came), `PeerTooSlow` (not all), `PeerGone`."""

    def read_two(self, first: memoryview, second: memoryview) -> None:
        """Fill both views, as `read` does."""

    def write(self, data: bytes) -> None:
        """Send all of it. Raises `PeerGone`."""

    def patience(self, seconds: float) -> None:
        """Set how long one `read` may take."""

    def comes(self, seconds: float) -> bool:
        """Wait so long for something to read; tell whether it came (or the end of the connection)."""

    def hang_up(self) -> None:
        """Say that nothing more comes, and let the peer read the last word before the connection is closed."""

    def cut(self) -> None:
        """End the connection from another thread; the reader gets `PeerGone`."""

    def close(self) -> None:
        """Close the connection."""


class PlainTransport:
    """A TCP connection."""

    def __init__(self, connection: socket.socket, patience_s: float) -> None:
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_SEND_TIMEOUT_S))
        self._socket = connection
        self.patience(patience_s)

    def patience(self, seconds: float) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))

    def comes(self, seconds: float) -> bool:
        return _is_readable(self._socket, seconds)

    def read(self, view: memoryview) -> None:
        try:
            received = self._socket.recv_into(view, 0, socket.MSG_WAITALL)
        except (BlockingIOError, InterruptedError) as error:
            raise PeerSilent from error
        except OSError as error:
            raise PeerGone from error
        if received < len(view):
            raise self._short(received)

    def read_two(self, first: memoryview, second: memoryview) -> None:
        try:
            received = self._socket.recvmsg_into([first, second], 0, socket.MSG_WAITALL)[0]
        except (BlockingIOError, InterruptedError) as error:
            raise PeerSilent from error
        except OSError as error:
            raise PeerGone from error
        if received < len(first) + len(second):
            raise self._short(received)

    def _short(self, received: int) -> Exception:
        """Tell the end of the connection from the end of patience; both come as fewer bytes than asked for."""
        if not received:
            return PeerGone()
        try:
            ended = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        return PeerGone() if ended else PeerTooSlow()

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise PeerGone from error

    def hang_up(self) -> None:
        _hang_up(self._socket)

    def cut(self) -> None:
        _shut(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        _shut(self._socket, socket.SHUT_RDWR)
        self._socket.close()


class TlsTransport:
    """A TLS connection, once hands are shaken."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, patience_s: float) -> None:
        """Take the connection over; nothing is sent or received yet. Raises `PeerGone`."""
        self._patience_s = patience_s
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            connection.close()
            raise PeerGone(_tls_fault(error)) from error

    def shake_hands(self, timeout_s: float) -> None:
        """Do the handshake. Raises `PeerGone` when it fails and `PeerTooSlow` when it takes too long."""
        try:
            # Not `do_handshake` with a timeout: that one counts from byte to byte.
            self._shake_hands(time.monotonic() + timeout_s)
        except TimeoutError as error:
            raise PeerTooSlow from error
        except (OSError, ValueError) as error:
            raise PeerGone(_tls_fault(error)) from error

    def _shake_hands(self, deadline: float) -> None:
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.do_handshake()
            except ssl.SSLWantReadError:
                _wait(self._socket, deadline, write=False)
            except ssl.SSLWantWriteError:
                _wait(self._socket, deadline, write=True)
            else:
                return

    def certificate(self) -> bytes | None:
        """Return the peer's certificate (DER), if it showed one."""
        return self._socket.getpeercert(binary_form=True)

    def patience(self, seconds: float) -> None:
        self._patience_s = seconds

    def comes(self, seconds: float) -> bool:
        return self._socket.pending() > 0 or _is_readable(self._socket, seconds)

    def read(self, view: memoryview) -> None:
        deadline = time.monotonic() + self._patience_s
        got = 0
        while got < len(view):
            left_s = deadline - time.monotonic()
            try:
                self._socket.settimeout(max(left_s, 0.001))
                count = self._socket.recv_into(view[got:])
            except TimeoutError as error:
                raise (PeerTooSlow if got else PeerSilent) from error
            except (OSError, ValueError) as error:
                raise PeerGone from error
            if not count:
                raise PeerGone
            got += count
            if left_s <= 0 and got < len(view):
                raise PeerTooSlow

    def read_two(self, first: memoryview, second: memoryview) -> None:
        self.read(first)
        self.read(second)

    def write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(_SEND_TIMEOUT_S)
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise PeerGone from error

    def hang_up(self) -> None:
        _hang_up(self._socket)

    def cut(self) -> None:
        _shut(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        _shut(self._socket, socket.SHUT_RDWR)
        self._socket.close()


def tls_context(certificate: str, private_key: str, authorities: str, client_certificate: str) -> ssl.SSLContext:
    """Return a server context after BCP 195 (RFC 9325): TLS 1.2 or newer, forward secrecy, authenticated encryption.

    `client_certificate` is ``required``, ``optional`` or ``none``. Raises `OSError` or `ssl.SSLError` when a file
    cannot be used.
    """
    require_regular(certificate, private_key, authorities)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(certificate, private_key or None, _no_pass_phrase)
    wanted = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
    context.verify_mode = wanted[client_certificate]
    if authorities:
        context.load_verify_locations(authorities)
    return context


def _no_pass_phrase() -> str:
    """Else OpenSSL would ask for it on the terminal, and wait for ever."""
    raise OSError(errno.EACCES, "the private key is encrypted; the node can only read a plain one")


def _hang_up(connection: socket.socket) -> None:
    """Close our side and throw away what is still coming: closing on unread bytes would reset the connection and
    take the last word from the peer."""
    _shut(connection, socket.SHUT_WR)
    deadline = time.monotonic() + _LAST_WORD_S
    poll = select.poll()  # not select(): that one fails for descriptors above 1023
    poll.register(connection, select.POLLIN)
    for _ in range(_LAST_READS):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            return
        try:
            if not os.read(connection.fileno(), 65536):
                return
        except OSError:
            return


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        # Not the method of a TLS socket: that one takes the TLS state away from the thread that reads.
        socket.socket.shutdown(connection, how)


def _is_readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _wait(connection: socket.socket, deadline: float, *, write: bool) -> None:
    """Wait until the handshake can go on. Raises `TimeoutError` at the deadline."""
    left_s = deadline - time.monotonic()
    poll = select.poll()
    poll.register(connection, select.POLLOUT if write else select.POLLIN)
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise TimeoutError


def _tls_fault(error: Exception) -> str:
    return str(getattr(error, "reason", None) or type(error).__name__)


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return _TIMEVAL.pack(whole, int((seconds - whole) * 1_000_000))


# --- PDUs on one connection ----------------------------------------------------------------------------------------

#: The shortest PDU has ten bytes; of P-DATA-TF they hold the length of the first fragment.
_HEAD = struct.Struct(">BxLL")
_LENGTH = struct.Struct(">L")
_CONTROL_BYTES = 2
RELEASE_RP = struct.pack(">BxLL", PduType.RELEASE_RP, 4, 0)


class MalformedPdu(Exception):
    """The peer broke the protocol; `reason` goes into the A-ABORT."""

    def __init__(self, why: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(why)
        self.reason = reason


def abort_pdu(reason: AbortReason) -> bytes:
    """Build the A-ABORT of a service provider (PS3.8 9.3.8)."""
    return struct.pack(">BxLxxBB", PduType.ABORT, 4, 2, reason)


class PduReader:
    """Reads PDU after PDU; the fragments of P-DATA-TF go where the caller says."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = memoryview(bytearray(_HEAD.size))
        self._control = memoryview(bytearray(_CONTROL_BYTES))
        self._length = memoryview(bytearray(_LENGTH.size))

    def head(self) -> tuple[int, int, int]:
        """Return type and length of the next PDU, and the first four bytes of its body as a number.

        Raises `PeerSilent` when none began, `PeerTooSlow`, `PeerGone`.
        """
        self._transport.read(self._head)
        kind, length, first = _HEAD.unpack(self._head)
        if length < 4:
            raise MalformedPdu(f"a PDU of type 0x{kind:02X} and length {length}")
        return kind, length, first

    def beginning(self, length: int) -> bytes:
        """Return the first bytes of the body of the PDU whose head was just read; four at least."""
        return bytes(self._head[6:]) + self.rest(length - 4, length)

    def rest(self, length: int, most: int) -> bytes:
        """Return the bytes that come next in the body of a PDU. Raises `MalformedPdu` when they are above `most`."""
        if length > most:
            raise MalformedPdu(f"a PDU with {length} bytes more than may be")
        rest = bytearray(length)
        if rest:
            self._read(memoryview(rest))
        return bytes(rest)

    def control(self, view: memoryview) -> tuple[int, int]:
        """Receive one fragment into `view`; return its presentation context ID and message control header."""
        self._quick(self._control, view)
        return self._control[0], self._control[1]

    def next_length(self) -> int:
        """Return the length of the next fragment of the same PDU."""
        self._read(self._length)
        return int(_LENGTH.unpack(self._length)[0])

    def _read(self, view: memoryview) -> None:
        try:
            self._transport.read(view)
        except PeerSilent as error:
            raise PeerTooSlow from error  # the PDU has begun

    def _quick(self, first: memoryview, second: memoryview) -> None:
        try:
            self._transport.read_two(first, second)
        except PeerSilent as error:
            raise PeerTooSlow from error

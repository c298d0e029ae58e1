"""Sends syslog messages to an audit repository: over TLS with octet counting (RFC 5425), or over UDP (RFC 5426)."""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence

from dicom_node.config.files import require_regular
from dicom_node.config.running import AuditSyslogSettings
from dicom_node.core.errors import DestinationAway, fault_told

_TIMEOUT_S = 10.0
#: In TLS 1.3 a repository refuses the node's certificate only after the handshake; so long it may take to say so.
_VERDICT_S = 0.5
_POLL_S = 0.01


class SyslogOverTls:
    """One connection, opened when there is something to send, and kept."""

    def __init__(self, settings: AuditSyslogSettings) -> None:
        self._settings = settings
        self._connection: ssl.SSLSocket | None = None

    def send(self, messages: Sequence[bytes]) -> None:
        """Return when the repository's machine has every message; syslog knows no other acknowledgement.

        Raises `DestinationAway`; then each of these messages may have arrived, or not.
        """
        try:
            if self._connection is None or self._is_gone(0):
                self.close()
                self._connection = self._opened()
            for message in messages:
                self._connection.sendall(b"%d %s" % (len(message), message))
            self._await_acknowledged()
        except (OSError, ValueError) as error:
            self.close()
            raise DestinationAway(f"The audit repository {self._place} cannot be reached: {_told(error)}.") from error

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _place(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _opened(self) -> ssl.SSLSocket:
        own = self._settings
        require_regular(own.ca, own.certificate, own.private_key)
        context = ssl.create_default_context(cafile=own.ca)
        if own.certificate is not None:
            context.load_cert_chain(own.certificate, own.private_key)
        plain = socket.create_connection((own.host, own.port), _TIMEOUT_S)
        try:
            self._connection = context.wrap_socket(plain, server_hostname=own.server_name or own.host)
        except BaseException:
            plain.close()
            raise
        if self._is_gone(_VERDICT_S):
            raise ConnectionResetError("it closed the connection after the handshake; does it know our certificate?")
        return self._connection

    def _is_gone(self, wait_s: float) -> bool:
        """Tell whether the repository has closed; it never says anything else. Raises `OSError` for what it refuses."""
        assert self._connection is not None
        deadline = time.monotonic() + wait_s
        while select.select([self._connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self._connection.settimeout(0)
            try:
                if not self._connection.recv(1):
                    return True
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass  # a session ticket, which is no data
            finally:
                self._connection.settimeout(_TIMEOUT_S)
        return False

    def _await_acknowledged(self) -> None:
        """Wait until the other machine has acknowledged every byte (tcp(7), SIOCOUTQ)."""
        assert self._connection is not None
        deadline = time.monotonic() + _TIMEOUT_S
        while _unacknowledged_bytes(self._connection):
            if time.monotonic() > deadline:
                raise TimeoutError("it does not acknowledge what it is sent")
            time.sleep(_POLL_S)
        if self._is_gone(0):
            raise ConnectionResetError("it closed the connection while it was sent something")


class SyslogOverUdp:
    """Sends each message as one datagram; whether it arrives nobody knows."""

    def __init__(self, settings: AuditSyslogSettings) -> None:
        self._settings = settings

    def send(self, messages: Sequence[bytes]) -> None:
        """Send them. Raises `DestinationAway` where not even that can be done."""
        place = (self._settings.host, self._settings.port)
        try:
            family = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)[0][0]
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                for message in messages:
                    sender.sendto(message, place)
        except OSError as error:
            raise DestinationAway(f"The audit repository {place[0]} cannot be sent to: {_told(error)}.") from error

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _unacknowledged_bytes(connection: socket.socket) -> int:
    found = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", found)[0])


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) or not getattr(error, "strerror", "") else fault_told(error)

"""Hands a message about alarms to a mail server (RFC 5321), over TLS whose certificate and name are checked."""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

from dicom_node.config.files import require_regular
from dicom_node.core.alarms.telling import AlarmMessage
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DeliveryRefused,
    DestinationAway,
    fault_told,
)

#: Replies that say that the login does not suffice (RFC 4954 6).
_LOGIN_REFUSED = frozenset({530, 534, 535})
_FAILS_FOR_GOOD = 500
_FROM_A_MACHINE: Mapping[str, str] = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MailServer:
    """A server that takes mail: `tls` is implicit, starttls or none, `login` is user and password, "" for none;
    `timeout_s` bounds each wait, and all that is said once it has greeted."""

    host: str
    port: int
    tls: str
    ca: Path | None
    login: tuple[str, str]
    timeout_s: float

    def send(self, message: AlarmMessage, sender: str, to: Sequence[str]) -> None:
        """Return when it has taken the message, for somebody at least: nobody is told twice because another cannot be.

        Raises `DeliveryError`.
        """
        try:
            with self._connected(sender.partition("@")[2]) as server:
                if self.login[0]:
                    server.login(*self.login)
                not_taken = server.send_message(_mail(message, sender, to), sender, list(to))
        except smtplib.SMTPException as error:
            raise self._fault(error) from error
        except (OSError, UnicodeError) as error:
            why = fault_told(error)
            raise DestinationAway(f"{self._place} cannot be reached: {why}. Check host, port, tls and ca.") from error
        if not_taken:
            _log.warning("alarm not taken for everybody", extra={"why": str(self._not_for(not_taken))})

    @contextmanager
    def _connected(self, own: str) -> Iterator[smtplib.SMTP]:
        """Give a connection that is encrypted as the settings say; nothing of weight was said on it before."""
        if self.tls == "implicit":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, own, timeout=self.timeout_s, context=self._context()
            )
        else:
            server = smtplib.SMTP(self.host, self.port, own, timeout=self.timeout_s)
        timer = threading.Timer(self.timeout_s, _cut, [server])
        timer.daemon = True
        timer.start()
        try:
            if self.tls == "starttls":
                server.starttls(context=self._context())
            yield server
            with suppress(smtplib.SMTPException, OSError):  # it has the message
                server.quit()
        finally:
            timer.cancel()
            server.close()

    def _context(self) -> ssl.SSLContext:
        """Made for each connection, so that renewed authorities need no restart."""
        require_regular(self.ca)
        return ssl.create_default_context(cafile=self.ca)

    @property
    def _place(self) -> str:
        return f"Mail server {self.host}:{self.port}"

    def _not_for(self, replies: Mapping[str, tuple[int, bytes]]) -> DeliveryError:
        codes = ", ".join(f"{address} ({reply[0]})" for address, reply in sorted(replies.items()))
        return DeliveryRefused(f"{self._place} does not take messages for {codes}. Correct to.")

    def _fault(self, error: smtplib.SMTPException) -> DeliveryError:
        """Say what the server answered by its number alone: its words may repeat what it was told."""
        if isinstance(error, smtplib.SMTPNotSupportedError):
            return CredentialsRefused(f"{self._place} offers no STARTTLS, or no login. Check port, tls and username.")
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            return self._not_for(error.recipients)
        code = error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else 0
        if code in _LOGIN_REFUSED:
            return CredentialsRefused(f"{self._place} answered {code}. Check username and password_file.")
        if code >= _FAILS_FOR_GOOD:
            return DeliveryRefused(f"{self._place} answered {code}. Check sender, to, and the server's log.")
        told = f"answered {code}" if code > 0 else "broke the connection off"
        return DeliveryDeferred(f"{self._place} {told}. Tried again later.")


def _cut(server: smtplib.SMTP) -> None:
    """Let what is said now fail: a server that answers one byte at a time would hold its caller for good."""
    connection = server.sock
    if isinstance(connection, socket.socket):
        with suppress(OSError):  # closed meanwhile
            # Of the plain socket: under TLS the method would take the session away from the thread that reads.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _mail(message: AlarmMessage, sender: str, to: Sequence[str]) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(datetime.now(UTC))
    # The same at every attempt: whoever gets it twice sees that.
    mail["Message-ID"] = f"<{message.id}@{sender.partition('@')[2]}>"
    for name, value in _FROM_A_MACHINE.items():
        mail[name] = value
    mail.set_content(message.text)
    return mail

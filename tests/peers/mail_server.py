"""A mail server for tests (RFC 5321) with TLS from the first byte or by STARTTLS (RFC 3207) and a login (RFC 4954); it
keeps what it took, and answers what a test wants."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

USER, PASSWORD = "alarms", "a pass word"


@dataclass(frozen=True)
class TakenMail:
    """A message, who it went to, whether it came under TLS, and who had logged in."""

    message: EmailMessage
    sender: str
    to: tuple[str, ...]
    is_encrypted: bool
    user: str


@dataclass
class MailServer:
    """A running server. `answers` are replies instead of the usual ones, by command; `commands` what was said to it."""

    port: int = 0
    taken: list[TakenMail] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    offers_starttls: bool = True


class _Session(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        self._kept: MailServer = self.server.kept  # type: ignore[attr-defined]
        self._context: ssl.SSLContext | None = self.server.context  # type: ignore[attr-defined]
        self._is_encrypted, self._user, self._sender, self._to = False, "", "", list[str]()
        if self.server.is_implicit and not self._encrypt():  # type: ignore[attr-defined]
            return
        self._say("220 mail.test")
        while line := self.rfile.readline(4096).decode("ascii", "replace").rstrip("\r\n"):
            verb = line.partition(" ")[0].upper()
            self._kept.commands.append(verb)
            if verb in self._kept.answers:
                self._say(self._kept.answers[verb])
            elif verb == "QUIT":
                self._say("221 bye")
                return
            elif not self._do(verb, line):
                return

    def finish(self) -> None:
        super().finish()
        if self._is_encrypted:  # the server closes only what it accepted
            self.request.close()

    def _do(self, verb: str, line: str) -> bool:
        if verb == "EHLO":
            offers = ["SIZE 1000000"]
            offers += ["STARTTLS"] if self._kept.offers_starttls and not self._is_encrypted else ["AUTH PLAIN"]
            lines = ["mail.test", *offers]
            self._say("\r\n".join(f"250{'-' if one is not lines[-1] else ' '}{one}" for one in lines))
        elif verb == "STARTTLS":
            self._say("220 go ahead")
            return self._encrypt()
        elif verb == "AUTH":
            _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
            is_right = (user, password) == (USER, PASSWORD)
            self._user = user if is_right else ""
            self._say("235 in" if is_right else f"535 no {password}")
        elif verb == "MAIL":
            self._sender = _address(line)
            self._say("250 ok")
        elif verb == "RCPT":
            self._to.append(_address(line))
            self._say("550 nobody" if "nobody" in line else "250 ok")
        elif verb == "DATA":
            self._say("354 go")
            self._take()
        else:
            self._say("250 ok" if verb == "RSET" else "502 what")
        return True

    def _take(self) -> None:
        body = b""
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            body += line[1:] if line.startswith(b"..") else line
        message: Any = message_from_bytes(body, policy=policy.default)
        to = tuple(one for one in self._to if "nobody" not in one)
        self._kept.taken.append(TakenMail(message, self._sender, to, self._is_encrypted, self._user))
        self._say("250 taken")

    def _encrypt(self) -> bool:
        assert self._context is not None
        try:
            self.request = self._context.wrap_socket(self.request, server_side=True)
        except (OSError, ssl.SSLError):  # the client does not believe the certificate
            return False
        self.setup()
        self._is_encrypted = True
        return True

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


@contextmanager
def running_mail_server(context: ssl.SSLContext | None, *, is_implicit: bool = False) -> Iterator[MailServer]:
    """Start one on any free port of this machine that shows the certificate of `context`, and end it afterwards."""
    with _Server(("127.0.0.1", 0), _Session) as server:
        server.kept = kept = MailServer(server.server_address[1])  # type: ignore[attr-defined]
        server.context, server.is_implicit = context, is_implicit  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield kept
        finally:
            server.shutdown()
            server.socket.close()

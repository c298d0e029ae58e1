"""What the acceptor process and its parent tell each other: JSON over a socket pair, several messages a line."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

_BUFFER_BYTES = 1 << 19
_MESSAGES_PER_LINE = 200
#: Messages that come this close together travel in one line.
_GATHER_S = 0.005

Message = dict[str, Any]


class Channel:
    """One end. `tell` never blocks; `messages` yields until the other end is gone."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, name=f"{name}-sender", daemon=True)
        self._sender.start()

    def tell(self, kind: str, **more: object) -> None:
        """Send a message some milliseconds from now, in order."""
        self._waiting.put({"kind": kind, **more})

    def messages(self) -> Iterator[Message]:
        """Yield what the other end tells."""
        with contextlib.suppress(OSError), self._connection.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else the other end died inside it
                    yield from json.loads(line)

    def close(self) -> None:
        """Send what waits, and end."""
        self._waiting.put(None)
        self._sender.join(2)
        self._connection.close()

    def _send(self) -> None:
        while True:
            batch = [self._waiting.get()]
            if batch[0] is not None:
                time.sleep(_GATHER_S)
            while len(batch) < _MESSAGES_PER_LINE and not self._waiting.empty():
                batch.append(self._waiting.get())
            told = [message for message in batch if message is not None]
            try:
                if told:
                    self._connection.sendall(json.dumps(told).encode() + b"\n")
            except OSError:
                return  # the other end is gone; whoever reads here learns of it
            if None in batch:
                return


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets with room for what one end says while the other is busy."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for one in (ours, theirs):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs


# --- What the acceptor process is told at its start, as plain data that travels as JSON ------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOption:
    """Who may send: a calling AE title, from where, and how it proves itself."""

    ae_title: str
    network: str
    tls: bool = False
    certificate_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AeOption:
    """One AE title the node answers to, and its policy. No `peers`: every listed peer."""

    ae_title: str
    peers: tuple[str, ...] = ()
    tls: bool = False
    any_sop_class: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOption:
    """A user for identity negotiation (PS3.7 D.3.3.7); no password: the name alone will do."""

    name: str
    password: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOption:
    """Files and rules of the TLS listener."""

    certificate: str
    private_key: str
    authorities: str
    client_certificate: str
    handshake_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptorOptions:
    """Everything the acceptor needs to know."""

    spool: str
    journal: str
    parts_owner: str
    aes: tuple[AeOption, ...]
    peers: tuple[PeerOption, ...] = ()
    users: tuple[UserOption, ...] = ()
    tls: TlsOption | None = None
    max_associations: int = 64
    max_associations_per_peer: int = 32
    max_waiting: int = 128
    max_pdu_bytes: int = 131072
    max_object_bytes: int = 4 << 30
    min_free_bytes: int = 0
    journal_slots: int = 512
    idle_timeout_s: float = 60.0
    pdu_timeout_s: float = 30.0
    log_level: str = "INFO"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild from `to_json`'s result after a way through JSON."""
        known = {field.name: data[field.name] for field in fields(cls)}
        known["aes"] = tuple(AeOption(**one | {"peers": tuple(one["peers"])}) for one in data["aes"])
        known["peers"] = tuple(PeerOption(**one) for one in data["peers"])
        known["users"] = tuple(UserOption(**one) for one in data["users"])
        known["tls"] = TlsOption(**data["tls"]) if data["tls"] else None
        return cls(**known)

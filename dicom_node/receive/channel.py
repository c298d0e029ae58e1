"""The typed message stream between the acceptor process and its parent: JSON over a socket pair, in order.

A message is a frozen dataclass; on the wire it is an object of its fields with its tag as ``kind``. Many small ones
travel in one line, so that thousands of objects a second cost a handful of system calls.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from dicom_node.core.errors import NodeError
from dicom_node.core.metrics.tally import Count
from dicom_node.end import VitalThread
from dicom_node.receive.options import AcceptorOptions

_BUFFER_BYTES = 1 << 19
_MESSAGES_PER_LINE = 200
#: Messages that come this close together travel in one line.
_GATHER_S = 0.005

# --- what the acceptor tells its parent ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AcceptorReady:
    """Peers are served."""


@dataclass(frozen=True, slots=True)
class AcceptorFailed:
    """It cannot start, and ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class RecordStored:
    """A record is in a slot. `found`: by the scan at a start, so it may be cut off; the sequence number is
    `journal.UNREADABLE` where no head could be read."""

    slot: int
    sequence: int
    study_instance_uid: str
    found: bool = False


@dataclass(frozen=True, slots=True)
class AssociationClosed:
    """An association ended (released, aborted, lost); comes after its objects."""

    association_id: str
    outcome: str
    at_s: float


@dataclass(frozen=True, slots=True)
class ReportAnswered:
    """The outcome of a storage commitment was answered on its association; `None`: it could not be sent there."""

    number: int
    association_id: str
    status: int | None
    at_s: float


@dataclass(frozen=True, slots=True)
class ReportReceived:
    """A peer reports on a storage commitment that this node asked for; it waits for `AnswerReport` with the ticket."""

    ticket: str
    calling_ae_title: str
    host: str
    transfer_syntax_uid: str
    data_set: bytes


@dataclass(frozen=True, slots=True)
class ContextRefused:
    """A peer proposed a SOP class and none of its presentation contexts was accepted."""

    calling_ae_title: str
    host: str
    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class CallerRefused:
    """A caller was not let in, or so many calls of one address together."""

    calling_ae_title: str
    host: str
    why: str
    count: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What it has counted since it last told, and what its gauges are."""

    counts: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class StillAlive:
    """The answer to `AreYouAlive`; `disk_fault`: why nothing can be written where objects go, "" when it can."""

    disk_fault: str


@dataclass(frozen=True, slots=True)
class RulesTaken:
    """The answer to `NewRules`: whoever calls from now on is judged by them."""

    number: int


FromAcceptor = (
    AcceptorReady
    | AcceptorFailed
    | RecordStored
    | AssociationClosed
    | ReportAnswered
    | ReportReceived
    | ContextRefused
    | CallerRefused
    | Counted
    | StillAlive
    | RulesTaken
)

# --- what the parent tells the acceptor ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """Everything it needs to know; the first message."""

    options: AcceptorOptions


@dataclass(frozen=True, slots=True)
class NewRules:
    """Let in who these options say, from now on: AE titles, peers and users of them count, and the log level."""

    number: int
    options: AcceptorOptions


@dataclass(frozen=True, slots=True)
class Freed:
    """These records (slot, sequence) have settled; their slots can be used again."""

    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why nothing can be filed; until an empty reason comes, objects are answered "out of resources"."""

    reason: str


@dataclass(frozen=True, slots=True)
class SendReport:
    """Send an N-EVENT-REPORT on an association; `ReportAnswered` tells what came of it."""

    number: int
    association_id: str
    event_type: int
    data_set: bytes


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """Answer a report that came, with this status."""

    ticket: str
    status: int


@dataclass(frozen=True, slots=True)
class AreYouAlive:
    """Asked again and again; who does not answer for long is ended and started anew."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End: no new connections, the open ones cut."""


ToAcceptor = Options | NewRules | Freed | Unavailable | SendReport | AnswerReport | AreYouAlive | Stop
Message = FromAcceptor | ToAcceptor

#: The tags on the wire. Both ends are of one version; a tag that is not here is a fault, never passed over.
_KINDS: Mapping[str, type[Message]] = {
    "ready": AcceptorReady, "failed": AcceptorFailed,
    "stored": RecordStored, "closed": AssociationClosed, "answered": ReportAnswered, "reported": ReportReceived,
    "refused": ContextRefused, "caller-refused": CallerRefused, "counted": Counted,
    "alive": StillAlive, "rules-taken": RulesTaken,
    "options": Options, "rules": NewRules, "freed": Freed, "unavailable": Unavailable, "report": SendReport,
    "answer": AnswerReport, "alive?": AreYouAlive, "stop": Stop,
}  # fmt: skip
_TAGS = {kind: tag for tag, kind in _KINDS.items()}


class UnknownMessage(NodeError):
    """The other end said something that this one does not understand."""


def encode(message: Message) -> dict[str, Any]:
    """Return a message as what JSON can say."""
    return {"kind": _TAGS[type(message)], **_plain(message)}


def decode(data: Mapping[str, Any]) -> Message:
    """Return the message that `encode` made this of. Raises `UnknownMessage`."""
    kind = _KINDS.get(data.get("kind", ""))
    if kind is None:
        raise UnknownMessage(f"The acceptor and its parent do not understand each other: no message {data!r:.80}.")
    try:
        rebuilt: Message = _rebuilt(kind, data)
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownMessage(f"A message {kind.__name__} between acceptor and parent is malformed: {error}.") from error
    return rebuilt


def _plain(value: Any) -> Any:
    """Return dataclasses as objects, tuples as lists, bytes as Base64."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _rebuilt(hint: Any, value: Any) -> Any:
    """Return a value of `_plain` as the type it had."""
    if is_dataclass(hint) and isinstance(hint, type):
        return hint(**{name: _rebuilt(inner, value[name]) for name, inner in _hints(hint).items()})
    if hint is bytes:
        return base64.b64decode(value)
    inner = get_args(hint)
    if get_origin(hint) is tuple:
        kinds = inner[:1] * len(value) if Ellipsis in inner else inner
        return tuple(_rebuilt(kind, one) for kind, one in zip(kinds, value, strict=True))
    if get_origin(hint) is UnionType:
        return None if value is None else _rebuilt(inner[0], value)
    return value


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


# --- the wire ------------------------------------------------------------------------------------------------------


class Channel:
    """One end. `tell` never blocks; `messages` yields until the other end is gone."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._sender = VitalThread(self._send, f"{name}-sender")
        self._sender.start()

    def tell(self, message: Message) -> None:
        """Send a message some milliseconds from now, in order."""
        self._waiting.put(message)

    def messages(self) -> Iterator[Message]:
        """Yield what the other end tells. Raises `UnknownMessage`."""
        with contextlib.suppress(OSError), self._connection.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else the other end died inside it
                    yield from map(decode, json.loads(line))

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
            told = [encode(message) for message in batch if message is not None]
            try:
                if told:
                    self._connection.sendall(json.dumps(told).encode() + b"\n")
            except OSError:
                return  # the other end is gone; whoever reads here learns of it
            if None in batch:
                return


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that hold what one end says while the other is busy."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for one in (ours, theirs):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs

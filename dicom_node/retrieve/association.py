"""One association as its requestor, with messages going both ways: what C-FIND, C-MOVE and C-GET need.

The PDU and negotiation types are pynetdicom's; the socket is driven here, for the reasons `send.association` gives:
an object is streamed instead of gathered in a queue, and every wait for the PACS ends.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pynetdicom.pdu import A_ABORT_RQ, A_RELEASE_RQ

from dicom_node.errors import RetrieveError, SourceUnavailable
from dicom_node.retrieve.messages import Command, read_command
from dicom_node.retrieve.negotiation import MAX_PDU_BYTES, rejection, request_pdu
from dicom_node.send.negotiation import Proposal, Remote, read_acceptance

_LONGEST_ANSWER_BYTES = 1 << 20
_LONGEST_COMMAND_BYTES = 16384
_SMALLEST_PDU_BYTES = 4096
_AC, _RJ, _P_DATA, _RELEASE_RP, _ABORT = 0x02, 0x03, 0x04, 0x06, 0x07
_PDU_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")
_IS_COMMAND, _IS_LAST = 0x01, 0x02


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: its context, its command, and the pieces of its data set, to be read before the next."""

    context_id: int
    command: Command
    pieces: Iterator[memoryview]


class Association:
    """An open association; a context manager that releases it, or aborts when left by an error."""

    def __init__(self, remote: Remote, proposed: Sequence[Proposal], stored_here: Sequence[str] = ()) -> None:
        """Connect and negotiate. Raises `SourceUnavailable` when there is no one, `SourceRefused` when they say no."""
        self._remote = remote
        self._fragments: deque[tuple[int, int, memoryview]] = deque()
        self._unread: Iterator[memoryview] = iter(())
        self._max_pdu_bytes = MAX_PDU_BYTES
        #: Accepted contexts: ID to (abstract syntax, transfer syntax).
        self.contexts: Mapping[int, tuple[str, str]] = {}
        self._socket = _connect(remote)
        try:
            self._negotiate(proposed, stored_here)
        except RetrieveError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._release()
        else:
            self._abort()

    def context_of(self, abstract_syntax: str) -> tuple[int, str] | None:
        """Return ID and transfer syntax of an accepted context for this SOP class, `None` if there is none."""
        found = ((id_, syntax) for id_, (abstract, syntax) in self.contexts.items() if abstract == abstract_syntax)
        return next(found, None)

    def send(self, context_id: int, command: bytes, data_set: bytes = b"") -> None:
        """Send one message. Raises `SourceUnavailable` when the peer is lost."""
        pdus = [*_pdus(context_id, command, _IS_COMMAND, self._max_pdu_bytes)]
        if data_set:
            pdus += _pdus(context_id, data_set, 0, self._max_pdu_bytes)
        with self._told("taking a request"):
            self._socket.sendall(b"".join(pdus))

    def next_message(self) -> Message:
        """Return the next message. Raises `SourceUnavailable` when the peer is lost or sends nonsense."""
        for _ in self._unread:
            pass  # what the caller did not want of the message before
        with self._told("sending a message"):
            context_id, command = self._command()
            has_data_set = command.has_data_set
        self._unread = self._data_set(context_id) if has_data_set else iter(())
        return Message(context_id, command, self._unread)

    # --- messages ----------------------------------------------------------------------------------------------

    def _command(self) -> tuple[int, Command]:
        encoded = bytearray()
        while True:
            context_id, control, piece = self._fragment()
            encoded += piece
            if not control & _IS_COMMAND or len(encoded) > _LONGEST_COMMAND_BYTES or context_id not in self.contexts:
                raise ValueError("no command where one should be")
            if control & _IS_LAST:
                return context_id, read_command(encoded)

    def _data_set(self, expected_context_id: int) -> Iterator[memoryview]:
        is_last = 0
        while not is_last:
            with self._told("sending an object"):
                context_id, control, piece = self._fragment()
                if control & _IS_COMMAND or context_id != expected_context_id:
                    raise ValueError("a command inside a data set")
            is_last = control & _IS_LAST
            yield piece

    def _fragment(self) -> tuple[int, int, memoryview]:
        while not self._fragments:
            self._fragments.extend(_fragments(self._pdu(_P_DATA, MAX_PDU_BYTES)))
        return self._fragments.popleft()

    # --- the association ---------------------------------------------------------------------------------------

    def _negotiate(self, proposed: Sequence[Proposal], stored_here: Sequence[str]) -> None:
        with self._told("answering the association request"):
            self._socket.sendall(request_pdu(self._remote, proposed, stored_here))
            body = self._pdu(_AC, _LONGEST_ANSWER_BYTES)
            accepted = read_acceptance(_PDU_HEADER.pack(_AC, len(body)) + body, proposed)
        self.contexts = {id_: names for names, id_ in accepted.context_ids.items()}
        self._max_pdu_bytes = max(_SMALLEST_PDU_BYTES, min(accepted.max_pdu_bytes or MAX_PDU_BYTES, MAX_PDU_BYTES))

    def _pdu(self, wanted: int, most_bytes: int) -> bytes:
        """Read one PDU within the time limit and return its body. Raises `SourceUnavailable` unless it is `wanted`."""
        deadline = time.monotonic() + self._remote.timeout_s
        kind, length = _PDU_HEADER.unpack(self._read(_PDU_HEADER.size, deadline))
        if length > most_bytes:
            raise SourceUnavailable(f"{self._remote} announced a PDU of {length} bytes; is it a DICOM peer?")
        body = self._read(length, deadline)
        if kind == wanted:
            return bytes(body)
        if kind == _RJ:
            raise rejection(self._remote, _PDU_HEADER.pack(kind, length) + body)
        if kind == _ABORT:
            raise SourceUnavailable(
                f"{self._remote} aborted the association. Does it know this node and allow this? Its log may say."
            )
        raise SourceUnavailable(f"{self._remote} sent PDU type 0x{kind:02X} out of turn.")

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

    def _release(self) -> None:
        """Ask for release and wait for the answer; a peer that has gone by now has lost nothing."""
        with suppress(OSError, RetrieveError):
            self._socket.sendall(A_RELEASE_RQ().encode())
            self._pdu(_RELEASE_RP, _LONGEST_ANSWER_BYTES)
        self._socket.close()

    def _abort(self) -> None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0, 0
        with suppress(OSError):
            self._socket.settimeout(1.0)
            self._socket.sendall(abort.encode())
        self._socket.close()

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn what a socket or a malformed answer raises into one sentence."""
        try:
            yield
        except TimeoutError as error:
            text = f"{self._remote} did not get on for {self._remote.timeout_s:g} s while {doing}. Ask again later."
            raise SourceUnavailable(text) from error
        except OSError as error:
            raise SourceUnavailable(f"{self._remote} closed the connection while {doing}. Ask again later.") from error
        except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
            raise SourceUnavailable(f"{self._remote} sent malformed bytes while {doing}.") from error


def _connect(remote: Remote) -> socket.socket:
    try:
        connection = socket.create_connection((remote.host, remote.port), timeout=remote.timeout_s)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise SourceUnavailable(
            f"{remote} cannot be reached: {why}. Check host and port, or ask again later."
        ) from error
    # Without this a small PDU waits for the peer's delayed acknowledgement, 40 ms per object.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _pdus(context_id: int, content: bytes, control: int, max_pdu_bytes: int) -> Iterator[bytes]:
    step = max_pdu_bytes - _PDV_HEADER.size
    for start in range(0, len(content), step):
        piece = content[start : start + step]
        last = _IS_LAST if start + step >= len(content) else 0
        head = _PDV_HEADER.pack(len(piece) + 2, context_id, control | last)
        yield _PDU_HEADER.pack(_P_DATA, len(head) + len(piece)) + head + piece


def _fragments(p_data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Yield (context ID, control header, bytes) of each fragment of a P-DATA-TF PDU; `ValueError` if malformed."""
    view = memoryview(p_data)
    position = 0
    while position < len(view):
        if position + _PDV_HEADER.size > len(view):
            raise ValueError("P-DATA ends within a header")
        length, context_id, control = _PDV_HEADER.unpack_from(view, position)
        end = position + 4 + length
        if length < 2 or end > len(view):
            raise ValueError("P-DATA fragment has a wrong length")
        yield context_id, control, view[position + _PDV_HEADER.size : end]
        position = end

"""One association as its requestor, with messages going both ways: what C-FIND, C-MOVE and C-GET need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dicom_node.dimse import (
    IS_COMMAND,
    IS_LAST,
    MAX_COMMAND_BYTES,
    Command,
    command_pdu,
    data_pdus,
    fragments,
    read_command,
)
from dicom_node.errors import NodeError, SourceUnavailable
from dicom_node.retrieve.negotiation import MAX_PDU_BYTES, rejection, request_pdu
from dicom_node.send.line import P_DATA, Line, Trouble
from dicom_node.send.negotiation import Proposal, Remote, read_acceptance

_SMALLEST_PDU_BYTES = 4096
_TROUBLE = Trouble(SourceUnavailable, "Ask again later.", rejection)


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
        self._line = Line(remote, _TROUBLE)
        try:
            self._negotiate(proposed, stored_here)
        except NodeError:
            self._line.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._line.release()
        else:
            self._line.abort()

    def context_of(self, abstract_syntax: str) -> tuple[int, str] | None:
        """Return ID and transfer syntax of an accepted context for this SOP class, `None` if there is none."""
        found = ((id_, syntax) for id_, (abstract, syntax) in self.contexts.items() if abstract == abstract_syntax)
        return next(found, None)

    def send(self, context_id: int, command: bytes, data_set: bytes = b"") -> None:
        """Send one message. Raises `SourceUnavailable` when the peer is lost."""
        pdus = [command_pdu(context_id, command), *data_pdus(context_id, data_set, self._max_pdu_bytes)]
        with self._line.told("taking a request"):
            self._line.say(b"".join(pdus))

    def next_message(self) -> Message:
        """Return the next message. Raises `SourceUnavailable` when the peer is lost or sends nonsense."""
        for _ in self._unread:
            pass  # what the caller did not want of the message before
        with self._line.told("sending a message"):
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
            if not control & IS_COMMAND or len(encoded) > MAX_COMMAND_BYTES or context_id not in self.contexts:
                raise ValueError("no command where one should be")
            if control & IS_LAST:
                return context_id, read_command(encoded)

    def _data_set(self, expected_context_id: int) -> Iterator[memoryview]:
        is_last = 0
        while not is_last:
            with self._line.told("sending an object"):
                context_id, control, piece = self._fragment()
                if control & IS_COMMAND or context_id != expected_context_id:
                    raise ValueError("a command inside a data set")
            is_last = control & IS_LAST
            yield piece

    def _fragment(self) -> tuple[int, int, memoryview]:
        while not self._fragments:
            self._fragments.extend(fragments(self._line.hear(P_DATA, MAX_PDU_BYTES)))
        return self._fragments.popleft()

    # --- the association ---------------------------------------------------------------------------------------

    def _negotiate(self, proposed: Sequence[Proposal], stored_here: Sequence[str]) -> None:
        with self._line.told("answering the association request"):
            request = request_pdu(self._remote, proposed, stored_here)
            accepted = read_acceptance(self._line.acceptance(request), proposed)
        self.contexts = {id_: names for names, id_ in accepted.context_ids.items()}
        self._max_pdu_bytes = max(_SMALLEST_PDU_BYTES, min(accepted.max_pdu_bytes or MAX_PDU_BYTES, MAX_PDU_BYTES))

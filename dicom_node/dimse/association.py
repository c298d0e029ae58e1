"""One association as its requestor: connect, negotiate, exchange fragments, release; a deadline on every step.

What is said on it is its subclasses' affair: `storage_scu` sends objects, `retrieve_scu` asks for studies and takes
them, `event_report` tells the outcome of a storage commitment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import ClassVar, Self

from dicom_node.core.errors import NodeError
from dicom_node.dimse.command_set import (
    IS_COMMAND,
    IS_LAST,
    Command,
    Element,
    Field,
    command_pdu,
    data_pdus,
    fragments,
    read_command,
)
from dicom_node.dimse.line import LONGEST_ANSWER_BYTES, P_DATA, Line, PeerErrors
from dicom_node.dimse.negotiation import Proposal, Remote, read_acceptance, request_pdu

#: The least a PDU that is sent may hold, whatever a peer says it takes.
_SMALLEST_PDU_BYTES = 128
_MOST_ANSWER_FRAGMENTS = 16


class Association:
    """An open association; a context manager that releases it, or aborts when left by an error."""

    #: What it raises for its peer; the longest PDU asked for, read, and sent (also to a peer that takes longer ones).
    peer_errors: ClassVar[PeerErrors]
    asked_pdu_bytes: ClassVar[int]
    longest_read_bytes: ClassVar[int] = LONGEST_ANSWER_BYTES
    longest_sent_bytes: ClassVar[int]

    def __init__(self, remote: Remote, proposed: Sequence[Proposal], stored_here: Iterable[str] = ()) -> None:
        """Connect and negotiate; for the SOP classes `stored_here` this node offers to be the one who stores.

        Raises the error of `peer_errors` when there is no one, and that of its `rejection` when they say no.
        """
        self._remote = remote
        self._fragments: deque[tuple[int, int, memoryview]] = deque()
        self._line = Line(remote, self.peer_errors)
        try:
            with self._line.explained("answering the association request"):
                request = request_pdu(remote, proposed, self.asked_pdu_bytes, stored_here)
                accepted = read_acceptance(self._line.acceptance(request), proposed)
        except NodeError:
            self._line.close()
            raise
        #: Accepted contexts: ID to (abstract syntax, transfer syntax).
        self.contexts: Mapping[int, tuple[str, str]] = {id_: names for names, id_ in accepted.context_ids.items()}
        #: What the peer calls itself.
        self.implementation = accepted.implementation
        longest = min(accepted.max_pdu_bytes or self.longest_sent_bytes, self.longest_sent_bytes)
        self._max_pdu_bytes = max(_SMALLEST_PDU_BYTES, longest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A caller that has heard enough closes the generator it iterates; the peer has done nothing wrong.
        if error is None or isinstance(error, GeneratorExit):
            self._line.release()
        else:
            self._line.abort()

    def context_of(self, abstract_syntax: str) -> tuple[int, str] | None:
        """Return ID and transfer syntax of an accepted context for this SOP class, `None` if there is none."""
        found = ((id_, syntax) for id_, (abstract, syntax) in self.contexts.items() if abstract == abstract_syntax)
        return next(found, None)

    def send(self, context_id: int, command: bytes, data_set: bytes = b"") -> None:
        """Send one message that lies in memory. Raises when the peer is lost."""
        pdus = [command_pdu(context_id, command), *data_pdus(context_id, data_set, self._max_pdu_bytes)]
        with self._line.explained("taking a request"):
            self._line.say(b"".join(pdus))

    def response(self, field: Field, message_id: int) -> int:
        """Read until the response to the message just sent is whole; return its status. Raises when there is none."""
        with self._line.explained("waiting for a response"):
            answer = self._answer()
            said = answer.number(Element.COMMAND_FIELD), answer.number(Element.MESSAGE_ID_RESPONDED_TO)
            status = answer.number(Element.STATUS)
        if said != (field, message_id):
            raise self._line.failure("answered another message than the one sent.")
        return status

    def _answer(self) -> Command:
        """Read fragments until a command is whole; a response has no data set, and what some send as one is dropped."""
        command = bytearray()
        for _ in range(_MOST_ANSWER_FRAGMENTS):
            _context_id, control, piece = self.next_fragment()
            command += piece if control & IS_COMMAND else b""
            if control & IS_COMMAND and control & IS_LAST:
                return read_command(command)
        raise ValueError("the command never ends")

    def comes(self, within_s: float) -> bool:
        """Tell whether there is more to read, or the peer says something within so many seconds."""
        return bool(self._fragments) or self._line.comes(within_s)

    def next_fragment(self) -> tuple[int, int, memoryview]:
        """Return context ID, control header and bytes of the next fragment; inside `explained` of the line."""
        while not self._fragments:
            self._fragments.extend(fragments(self._line.hear(P_DATA, self.longest_read_bytes)))
        return self._fragments.popleft()

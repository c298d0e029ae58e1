"""One association as its requestor, with messages going both ways: what C-FIND, C-MOVE and C-GET need."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dicom_node.core.errors import NodeError, SourceUnavailable
from dicom_node.dimse.command_set import (
    IS_COMMAND,
    IS_LAST,
    MAX_COMMAND_BYTES,
    Command,
    Element,
    Field,
    command_pdu,
    command_set,
    data_pdus,
    fragments,
    read_command,
)
from dicom_node.dimse.line import P_DATA, Line, Trouble
from dicom_node.dimse.negotiation import Proposal, Remote, read_acceptance
from dicom_node.dimse.retrieve_negotiation import MAX_PDU_BYTES, rejection, request_pdu

_SMALLEST_PDU_BYTES = 4096
_TROUBLE = Trouble(SourceUnavailable, "Ask again later.", rejection)


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: its context, its command, and the pieces of its data set, to be read before the next."""

    context_id: int
    command: Command
    pieces: Iterator[memoryview]


class RetrieveAssociation:
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


# --- What a Query/Retrieve user says (PS3.7 9.1.2 to 9.1.4, PS3.4 C.4) -----------------------------------------------

#: Query/Retrieve, Study Root (PS3.4 C.6.2).
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

_MEDIUM = 0x0000


def request(field: Field, sop_class_uid: str, message_id: int, move_destination: str = "") -> bytes:
    """Encode a C-FIND-RQ, C-GET-RQ or C-MOVE-RQ; an identifier follows it."""
    elements: dict[Element, int | str | bytes] = {
        Element.AFFECTED_SOP_CLASS_UID: sop_class_uid,
        Element.COMMAND_FIELD: field,
        Element.MESSAGE_ID: message_id,
        Element.PRIORITY: _MEDIUM,
    }
    if move_destination:
        elements[Element.MOVE_DESTINATION] = move_destination
    return command_set(elements, has_data_set=True)


def cancel(message_id: int) -> bytes:
    """Encode a C-CANCEL-RQ for a request that still runs."""
    return command_set(
        {Element.COMMAND_FIELD: Field.C_CANCEL_RQ, Element.MESSAGE_ID_RESPONDED_TO: message_id}, has_data_set=False
    )


def store_response(command: Command, status: int) -> bytes:
    """Encode the C-STORE-RSP to a C-STORE-RQ."""
    return command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: command.elements.get(Element.AFFECTED_SOP_CLASS_UID, b""),
            Element.AFFECTED_SOP_INSTANCE_UID: command.elements.get(Element.AFFECTED_SOP_INSTANCE_UID, b""),
            Element.COMMAND_FIELD: Field.C_STORE_RSP,
            Element.MESSAGE_ID_RESPONDED_TO: command.number(Element.MESSAGE_ID),
            Element.STATUS: status,
        },
        has_data_set=False,
    )

"""One association as its requestor: negotiate, C-STORE, C-ECHO, release. Synchronous, with a deadline on every step."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from io import BytesIO, FileIO
from types import TracebackType
from typing import Self

from pydicom.uid import UID

from dicom_node.core.errors import ClassRefused, DeliveryDeferred, DeliveryRefused, NodeError
from dicom_node.dimse.command_set import (
    FRAGMENT_HEAD_BYTES,
    IS_COMMAND,
    IS_LAST,
    P_DATA_HEAD_BYTES,
    Command,
    Element,
    Field,
    command_pdu,
    command_set,
    fragments,
    p_data_head,
    read_command,
)
from dicom_node.dimse.dicom_file import DicomFile, opened, transcoded
from dicom_node.dimse.line import P_DATA, Line, Trouble
from dicom_node.dimse.negotiation import (
    MAX_CONTEXTS,
    VERIFICATION,
    Proposal,
    Remote,
    read_acceptance,
    rejected,
    request_pdu,
)

#: The largest PDU sent, also to a peer that takes longer ones.
_MAX_PDU_BYTES = 262144
_MOST_ANSWER_PDUS = 16
_TROUBLE = Trouble(DeliveryDeferred, "Tried again later.", rejected)


class StoreAssociation:
    """An open association; a context manager that releases it, or aborts when left by an error."""

    def __init__(self, remote: Remote, proposed: Iterable[Proposal]) -> None:
        """Connect and negotiate. Raises `DeliveryDeferred` when there is no one, or they say no."""
        self._remote = remote
        self._message_id = 0
        self._contexts: Mapping[tuple[str, str], int] = {}
        #: What the peer calls itself.
        self.implementation = ""
        self._max_pdu_bytes = _MAX_PDU_BYTES
        self._line = Line(remote, _TROUBLE)
        try:
            self._negotiate(sorted(set(proposed))[:MAX_CONTEXTS])
        except NodeError:
            self._line.close()
            raise

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

    @property
    def accepted(self) -> Collection[tuple[str, str]]:
        """Return the SOP classes the peer accepted, each with the transfer syntax it chose."""
        return self._contexts.keys()

    def store(self, file: DicomFile) -> int:
        """Send one file and return the status of the response.

        Raises `ClassRefused` when the peer accepted no context for it, `DeliveryDeferred` when the peer is lost;
        the association is then of no more use.
        """
        transfer_syntax_uid, context_id = self._context_for(file)
        if transfer_syntax_uid == file.transfer_syntax_uid:
            with opened(file) as stored:
                return self._store(file, context_id, stored, file.offset)
        return self._store(file, context_id, transcoded(file, transfer_syntax_uid), 0)

    def echo(self) -> int:
        """Send a C-ECHO and return the status of the response. Raises as `store` does."""
        context_id = next((id_ for (sop_class, _), id_ in self._contexts.items() if sop_class == VERIFICATION), None)
        if context_id is None:
            raise DeliveryRefused(f"{self._remote} does not accept Verification (C-ECHO); it may still take objects.")
        self._message_id += 1
        with self._line.told("answering C-ECHO"):
            self._line.say(command_pdu(context_id, echo_command(VERIFICATION, self._message_id)))
        return self._response(Field.C_ECHO_RSP)

    # --- one message -------------------------------------------------------------------------------------------

    def _context_for(self, file: DicomFile) -> tuple[str, int]:
        for syntax in (file.transfer_syntax_uid, *file.fallback_syntaxes()):
            context_id = self._contexts.get((file.sop_class_uid, syntax))
            if context_id is not None:
                return syntax, context_id
        raise ClassRefused(
            f"{self._remote} does not accept {UID(file.sop_class_uid).name} "
            f"as {UID(file.transfer_syntax_uid).name} (no presentation context)."
        )

    def _store(self, file: DicomFile, context_id: int, stored: BytesIO | FileIO, offset: int) -> int:
        size_bytes = stored.seek(0, 2) - offset
        stored.seek(offset)
        self._message_id = self._message_id % 65535 + 1
        command = store_command(file.sop_class_uid, file.sop_instance_uid, self._message_id)
        with self._line.told("taking an object"):
            self._line.say(command_pdu(context_id, command))
            for pdu in file_pdus(context_id, stored, size_bytes, self._max_pdu_bytes):
                self._line.say(pdu)
        return self._response(Field.C_STORE_RSP)

    def _response(self, expected: Field) -> int:
        """Read until the response to the last message is whole; return its status."""
        with self._line.told("waiting for a response"):
            answer = self._command()
            field, answered = answer.number(Element.COMMAND_FIELD), answer.number(Element.MESSAGE_ID_RESPONDED_TO)
            status = answer.number(Element.STATUS)
        if (field, answered) != (expected, self._message_id):
            raise DeliveryDeferred(f"{self._remote} answered another message than the one sent. Tried again later.")
        return status

    def _command(self) -> Command:
        """Read fragments until a command is whole; a response has no data set."""
        command = bytearray()
        for _ in range(_MOST_ANSWER_PDUS):
            for _context_id, control, piece in fragments(self._line.hear(P_DATA)):
                command += piece if control & IS_COMMAND else b""
                if control & IS_COMMAND and control & IS_LAST:
                    return read_command(command)
        raise ValueError("the command never ends")

    def _negotiate(self, proposed: list[Proposal]) -> None:
        with self._line.told("answering the association request"):
            accepted = read_acceptance(self._line.acceptance(request_pdu(self._remote, proposed)), proposed)
        self._contexts, self.implementation = accepted.context_ids, accepted.implementation
        self._max_pdu_bytes = min(accepted.max_pdu_bytes or _MAX_PDU_BYTES, _MAX_PDU_BYTES)


# --- What a C-STORE or C-ECHO user says (PS3.7 9.3.1.1, 9.3.5.1), and an open file as PDUs ---------------------------

_MEDIUM = 0x0000


def store_command(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    """Encode a C-STORE-RQ command set."""
    return command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            Element.COMMAND_FIELD: Field.C_STORE_RQ,
            Element.MESSAGE_ID: message_id,
            Element.PRIORITY: _MEDIUM,
            Element.AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
        },
        has_data_set=True,
    )


def echo_command(sop_class_uid: str, message_id: int) -> bytes:
    """Encode a C-ECHO-RQ command set."""
    return command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            Element.COMMAND_FIELD: Field.C_ECHO_RQ,
            Element.MESSAGE_ID: message_id,
        },
        has_data_set=False,
    )


def file_pdus(context_id: int, data_set: BytesIO | FileIO, size_bytes: int, max_pdu_bytes: int) -> Iterator[memoryview]:
    """Yield P-DATA-TF PDUs that carry `size_bytes` of an open file; one buffer is reused for all of them.

    Raises `DeliveryRefused` when the file is shorter than it should be.
    """
    fragment_bytes = max_pdu_bytes - FRAGMENT_HEAD_BYTES
    buffer = bytearray(P_DATA_HEAD_BYTES + min(fragment_bytes, size_bytes))
    view = memoryview(buffer)
    left = size_bytes
    while left:
        wanted = min(fragment_bytes, left)
        if data_set.readinto(view[P_DATA_HEAD_BYTES : P_DATA_HEAD_BYTES + wanted]) != wanted:
            raise DeliveryRefused("The file became shorter while it was sent; check the object store.")
        left -= wanted
        buffer[:P_DATA_HEAD_BYTES] = p_data_head(context_id, 0 if left else IS_LAST, wanted)
        yield view[: P_DATA_HEAD_BYTES + wanted]

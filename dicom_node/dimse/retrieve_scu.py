"""The user of query and retrieve: C-FIND, C-MOVE and C-GET on an association, with messages going both ways."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from dicom_node.core.errors import SourceRefused, SourceUnavailable
from dicom_node.core.uids import is_valid_uid
from dicom_node.dimse.association import Association
from dicom_node.dimse.command_set import (
    IS_COMMAND,
    IS_LAST,
    MAX_COMMAND_BYTES,
    Command,
    Element,
    Field,
    command_set,
    read_command,
)
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import MAX_CONTEXTS, Proposal, Remote, read_rejection
from dicom_node.dimse.vocabulary import TRANSFER_SYNTAXES

_MAX_PDU_BYTES = 131072


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: its context, its command, and the pieces of its data set, to be read before the next."""

    context_id: int
    command: Command
    pieces: Iterator[memoryview]


def _rejection(remote: Remote, pdu: bytes) -> SourceRefused | SourceUnavailable:
    found = read_rejection(remote, pdu, "source")
    return SourceUnavailable(f"{found.text} Ask again later.") if found.is_transient else SourceRefused(found.text)


class RetrieveAssociation(Association):
    """An association on which is asked and received. Raises `SourceUnavailable` when there is no one, `SourceRefused`
    when they say no."""

    peer_errors = PeerErrors(SourceUnavailable, "Ask again later.", _rejection)
    asked_pdu_bytes = longest_read_bytes = longest_sent_bytes = _MAX_PDU_BYTES

    _unread: Iterator[memoryview] = iter(())

    def next_message(self) -> Message:
        """Return the next message. Raises `SourceUnavailable` when the peer is lost or sends nonsense."""
        for _ in self._unread:
            pass  # what the caller did not want of the message before
        with self._line.explained("sending a message"):
            context_id, command = self._command()
            has_data_set = command.has_data_set
        self._unread = self._data_set(context_id) if has_data_set else iter(())
        return Message(context_id, command, self._unread)

    def _command(self) -> tuple[int, Command]:
        encoded = bytearray()
        while True:
            context_id, control, piece = self.next_fragment()
            encoded += piece
            if not control & IS_COMMAND or len(encoded) > MAX_COMMAND_BYTES or context_id not in self.contexts:
                raise ValueError("no command where one should be")
            if control & IS_LAST:
                return context_id, read_command(encoded)

    def _data_set(self, expected_context_id: int) -> Iterator[memoryview]:
        is_last = 0
        while not is_last:
            with self._line.explained("sending an object"):
                context_id, control, piece = self.next_fragment()
                if control & IS_COMMAND or context_id != expected_context_id:
                    raise ValueError("a command inside a data set")
            is_last = control & IS_LAST
            yield piece


# --- commands (PS3.7 9.1.2 to 9.1.4, PS3.4 C.4) --------------------------------------------------------------------

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


# --- the storage contexts that a C-GET proposes --------------------------------------------------------------------

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_OF_MODALITY = {
    "CT": ("2", "2.1", "2.2"),
    "MR": ("4", "4.1", "4.4", "4.3", "4.2"),
    "PT": ("128", "130", "128.1"),
    "CR": ("1", "1.1", "1.1.1"),
    "DX": ("1.1", "1", "1.1.1"),
    "MG": ("1.2", "1.2.1", "13.1.3", "1.1"),
    "US": ("6.1", "3.1", "6", "3", "6.2"),
    "XA": ("12.1", "12.1.1", "13.1.1"),
    "RF": ("12.2", "12.2.1", "12.1"),
    "NM": ("20",),
    "SM": ("77.1.6",),
    "OP": ("77.1.5.1", "77.1.5.2", "77.1.5.4"),
    "ES": ("77.1.1", "77.1.1.1"),
    "SR": ("88.11", "88.22", "88.33", "88.34", "88.50", "88.65", "88.67"),
    "PR": ("11.1", "11.2"),
    "SEG": ("66.4", "66.5"),
    "DOC": ("104.1",),
    "RTSTRUCT": ("481.3",),
    "RTPLAN": ("481.5", "481.8"),
    "RTDOSE": ("481.2",),
    "RTIMAGE": ("481.1",),
    "REG": ("66.1", "66.3"),
}
#: What turns up in a study of any modality: captures, reports, key images, presentation states, segmentations.
_ANYWHERE = ("7", "88.59", "88.33", "88.22", "88.11", "88.34", "88.67", "11.1", "66.4", "7.4", "7.2", "104.1")
_MOST_COMMON = ("2", "4", "1", "1.1", "6.1", "3.1", "128", "20", "12.1", "12.2", "1.2", "13.1.3", "2.1", "4.1")


def storage_classes(told: Collection[str], modalities: Collection[str]) -> list[str]:
    """Return the SOP classes to propose: those the PACS `told`, else what such modalities make."""
    known = [uid for uid in told if is_valid_uid(uid)]
    if known:
        return sorted(set(known))
    own = [suffix for modality in sorted(set(modalities)) for suffix in _OF_MODALITY.get(modality, ())]
    return list(dict.fromkeys(_STORAGE + suffix for suffix in (*(own or _MOST_COMMON), *_ANYWHERE)))


def storage_proposals(sop_classes: Sequence[str], taken: int) -> list[Proposal]:
    """Return one context for each class and encoding as far as places reach beside those `taken`."""
    pairs: list[Proposal] = [(sop_class, (syntax,)) for syntax in TRANSFER_SYNTAXES for sop_class in sop_classes]
    return pairs[: MAX_CONTEXTS - taken]

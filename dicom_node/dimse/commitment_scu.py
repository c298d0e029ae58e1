"""The user of storage commitment (PS3.4 Annex J): N-ACTION asks a PACS to keep objects, N-EVENT-REPORT tells which.

The report may come on the association that asked, even before its response, or on another one, to the node's listener.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.core.errors import DeliveryDeferred, DestinationAway, QueryNotOffered
from dicom_node.core.uids import is_valid_uid
from dicom_node.dimse.command_set import Command, Element, Field, command_set
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import Remote, deferred_rejection
from dicom_node.dimse.retrieve_scu import Message, RetrieveAssociation
from dicom_node.dimse.vocabulary import (
    COMMITMENT_EVENTS,
    PLAIN_TRANSFER_SYNTAXES,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    EventStatus,
)

#: How long a response is waited for, and after it a report; who needs longer opens an association of its own.
_ANSWERED_WITHIN_S, _REPORTED_WITHIN_S = 20.0, 5.0
_REQUEST = 1
_MESSAGE_ID = 1
_LONGEST_REPORT_BYTES = 1 << 20
_ADVICE = "Asked again later."


#: Failure Reason (0008,1197) in words (PS3.3 C.14.1.1).
FAILURE_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
#: What a request is answered with by those that have no such service, or not for this node (PS3.7 10.1.4.1.10).
_NOT_OFFERED = {0x0112, 0x0117, 0x0118, 0x0122, 0x0123, 0x0124, 0x0211}


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a PACS says of one request: SOP Instance UIDs that it keeps, those that it cannot keep with the Failure
    Reason, and who says so."""

    transaction_uid: str
    committed: Collection[str]
    failed: Mapping[str, int]
    told_by: str


def read_report(data_set: bytes, transfer_syntax_uid: str, told_by: str) -> CommitmentReport:
    """Decode the data set of an N-EVENT-REPORT (PS3.4 Table J.3-2). Raises `ValueError` for what is none.

    What stands under both is failed.
    """
    syntax = UID(transfer_syntax_uid)
    try:
        report = decode(BytesIO(data_set), syntax.is_implicit_VR, syntax.is_little_endian)
        transaction_uid = str(report.get("TransactionUID") or "")
        failed = {_uid(one): int(one.get("FailureReason") or 0) for one in report.get("FailedSOPSequence") or ()}
        committed = {_uid(one) for one in report.get("ReferencedSOPSequence") or ()}
    except Exception as error:
        raise ValueError(f"the report cannot be parsed ({type(error).__name__})") from error
    if not is_valid_uid(transaction_uid):
        raise ValueError("the report names no transaction")
    return CommitmentReport(transaction_uid, committed - failed.keys(), failed, told_by)


def _uid(item: Dataset) -> str:
    return str(item.get("ReferencedSOPInstanceUID") or "")


def event_answer(command: Command, status: int) -> bytes:
    """Encode the N-EVENT-REPORT-RSP to a N-EVENT-REPORT-RQ (PS3.7 10.3.1.2)."""
    elements: dict[Element, int | str | bytes] = {
        Element.AFFECTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
        Element.COMMAND_FIELD: Field.N_EVENT_REPORT_RSP,
        Element.MESSAGE_ID_RESPONDED_TO: command.number(Element.MESSAGE_ID),
        Element.STATUS: status,
        Element.AFFECTED_SOP_INSTANCE_UID: STORAGE_COMMITMENT_INSTANCE,
    }
    return command_set(elements, has_data_set=False)


class _CommitmentAssociation(RetrieveAssociation):
    """An association on which is asked for storage commitment. Raises `DestinationAway` when there is no one."""

    peer_errors = PeerErrors(DestinationAway, _ADVICE, deferred_rejection)


def request_commitment(
    remote: Remote,
    transaction_uid: str,
    objects: Sequence[tuple[str, str]],
    take: Callable[[CommitmentReport], int],
) -> None:
    """Ask the peer to commit itself to keeping `objects` (SOP class and instance UIDs), and wait a moment for its
    report, which `take` answers with a status.

    Returns when the request was accepted, or reported on. Raises `QueryNotOffered` where there is no such service for
    this node, and `DeliveryDeferred` where the peer is away or fails.
    """
    prompt = replace(remote, timeout_s=min(remote.timeout_s, _ANSWERED_WITHIN_S))
    with _CommitmentAssociation(prompt, [(STORAGE_COMMITMENT, PLAIN_TRANSFER_SYNTAXES)]) as association:
        context = association.context_of(STORAGE_COMMITMENT)
        if context is None:
            raise QueryNotOffered(f"{remote} does not accept {UID(STORAGE_COMMITMENT).name}.")
        association.send(context[0], _action_command(), _request(transaction_uid, objects, context[1]))
        _Conversation(prompt, association, context, take).hear(transaction_uid)


def _action_command() -> bytes:
    return command_set(
        {
            Element.REQUESTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
            Element.COMMAND_FIELD: Field.N_ACTION_RQ,
            Element.MESSAGE_ID: _MESSAGE_ID,
            Element.REQUESTED_SOP_INSTANCE_UID: STORAGE_COMMITMENT_INSTANCE,
            Element.ACTION_TYPE_ID: _REQUEST,
        },
        has_data_set=True,
    )


def _request(transaction_uid: str, objects: Sequence[tuple[str, str]], transfer_syntax_uid: str) -> bytes:
    """Encode the data set of the N-ACTION (PS3.4 Table J.3-1)."""
    request = Dataset()
    request.TransactionUID = UID(transaction_uid)
    request.ReferencedSOPSequence = [_item(*one) for one in objects]
    syntax = UID(transfer_syntax_uid)
    encoded = encode(request, syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None, "the request is made of UIDs"
    return encoded


def _item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class_uid), UID(sop_instance_uid)
    return item


@dataclass(slots=True)
class _Conversation:
    """What is said after a request: its response, and perhaps the report, in either order."""

    remote: Remote
    association: _CommitmentAssociation
    context: tuple[int, str]
    take: Callable[[CommitmentReport], int]
    is_accepted: bool = False
    is_reported: bool = False

    def hear(self, transaction_uid: str) -> None:
        """Return when response and report have come, or the time for the report is over."""
        deadline = time.monotonic() + self.remote.timeout_s
        while not (self.is_accepted and self.is_reported):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self.association.comes(left_s):
                break
            self._message(self.association.next_message(), transaction_uid)
            if self.is_accepted:
                deadline = min(deadline, time.monotonic() + _REPORTED_WITHIN_S)
        if not (self.is_accepted or self.is_reported):
            raise DeliveryDeferred(f"{self.remote} does not answer a request for storage commitment. {_ADVICE}")

    def _message(self, message: Message, transaction_uid: str) -> None:
        field = message.command.count(Element.COMMAND_FIELD)
        if field == Field.N_EVENT_REPORT_RQ:
            self._report(message, transaction_uid)
        elif field == Field.N_ACTION_RSP:
            self._check(message.command.count(Element.STATUS))
            self.is_accepted = True
        else:
            raise DeliveryDeferred(f"{self.remote} sent another message than what was asked for. {_ADVICE}")

    def _check(self, status: int) -> None:
        if status in _NOT_OFFERED:
            raise QueryNotOffered(f"{self.remote} refuses storage commitment (0x{status:04X}).")
        if status != EventStatus.SUCCESS:
            raise DeliveryDeferred(f"{self.remote} cannot take the request for storage commitment (0x{status:04X}).")

    def _report(self, message: Message, transaction_uid: str) -> None:
        encoded = bytearray()
        for piece in message.pieces:
            encoded += piece
            if len(encoded) > _LONGEST_REPORT_BYTES:
                raise DeliveryDeferred(f"{self.remote} sent a report of more than {_LONGEST_REPORT_BYTES} bytes.")
        status: int = EventStatus.NO_SUCH_EVENT_TYPE
        if message.command.count(Element.EVENT_TYPE_ID) in COMMITMENT_EVENTS:
            status = self._taken(bytes(encoded), transaction_uid)
        self.association.send(self.context[0], event_answer(message.command, status))

    def _taken(self, encoded: bytes, transaction_uid: str) -> int:
        try:
            report = read_report(encoded, self.context[1], str(self.remote))
        except ValueError:
            return EventStatus.PROCESSING_FAILURE
        status = self.take(report)
        self.is_reported |= report.transaction_uid == transaction_uid and status == EventStatus.SUCCESS
        return status

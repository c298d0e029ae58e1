"""The DIMSE messages of one association: assembled from fragments, answered one by one."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dicom_node.core.errors import RefusedObject, SpoolUnavailable, StoreStatus
from dicom_node.core.metrics.table import OBJECTS_REFUSED
from dicom_node.core.metrics.tally import TALLY
from dicom_node.core.uids import is_valid_uid, loggable_uid
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
    event_report_command,
    read_command,
)
from dicom_node.dimse.vocabulary import (
    COMMITMENT_EVENTS,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    VERIFICATION,
    AbortReason,
    ActionStatus,
    EventStatus,
)
from dicom_node.receive.acceptor.admission import Capacity
from dicom_node.receive.acceptor.incoming import IncomingObject
from dicom_node.receive.acceptor.negotiation import Context
from dicom_node.receive.acceptor.storing import AssociationRef, ObjectIdentity, Storing
from dicom_node.receive.acceptor.transport import MalformedPdu
from dicom_node.receive.channel import SendReport

_REQUEST_COMMITMENT = 1
#: An Error Comment has at most so many characters (LO, PS3.5 6.2).
_MAX_COMMENT = 64
_OF_COMMITMENT = frozenset({Field.N_ACTION_RQ, Field.N_EVENT_REPORT_RQ})
_NO_DATA_SET = RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "The request has no data set. Correct it at the sender.")
_log = logging.getLogger(__name__)

#: Outcomes of storage commitments, to be sent on one association (PS3.4 J.3.3).
ReportQueue = queue.SimpleQueue[SendReport]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request whose data set is coming."""

    command: Command
    field: int
    context_id: int
    context: Context


class Messages:
    """Takes fragments in the order in which they come and answers each message when it is whole."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        association: AssociationRef,
        incoming: IncomingObject,
        storing: Storing,
        capacity: Capacity,
    ) -> None:
        self._write = write
        self._association = association
        self._incoming = incoming
        self._storing = storing
        self._capacity = capacity
        self._command = memoryview(bytearray(MAX_COMMAND_BYTES))
        self._command_filled = 0
        self._pending: _Pending | None = None
        self._commitment_context: int | None = None
        self._sent: dict[int, int] = {}  # message ID of a report → its number
        self._answered: list[tuple[int, int]] = []
        self._message_id = 0
        self.reports: ReportQueue = queue.SimpleQueue()
        self.stored = self.refused = 0

    @property
    def is_within(self) -> bool:
        """Tell whether a message has begun and is not whole."""
        return self._pending is not None or self._command_filled > 0

    @property
    def awaits_report(self) -> bool:
        """Tell whether the outcome of a storage commitment may have to be sent here."""
        return self._commitment_context is not None

    def buffer_for(self, length: int) -> memoryview:
        """Return where the next fragment is to be received. Raises `MalformedPdu`, `TooLarge`."""
        if self._pending is not None:
            return self._incoming.buffer_for(length)
        if self._command_filled + length > MAX_COMMAND_BYTES:
            raise MalformedPdu("a command set that does not end")
        return self._command[self._command_filled : self._command_filled + length]

    def fragment(self, context_id: int, context: Context, control: int, view: memoryview) -> None:
        """Take a received fragment; with the last one of a message, answer it."""
        if bool(control & IS_COMMAND) != (self._pending is None):
            raise MalformedPdu("a command inside a data set, or a data set without a command")
        is_last = bool(control & IS_LAST)
        if self._pending is None:
            self._command_filled += len(view)
            if is_last:
                self._take_command(context_id, context)
        else:
            if context_id != self._pending.context_id:
                raise MalformedPdu("a data set in another presentation context than its command")
            self._incoming.received(view)
            if is_last:
                pending, self._pending = self._pending, None
                self._take_data_set(pending)

    # --- requests ------------------------------------------------------------------------------------------------

    def _take_command(self, context_id: int, context: Context) -> None:
        encoded, self._command_filled = bytes(self._command[: self._command_filled]), 0
        try:
            command = read_command(encoded)
            field = command.number(Element.COMMAND_FIELD)
            pending = _Pending(command, field, context_id, context)
            if field not in (Field.N_EVENT_REPORT_RSP, Field.C_CANCEL_RQ):
                command.number(Element.MESSAGE_ID)
            has_data_set = command.has_data_set
        except ValueError as error:
            raise MalformedPdu(f"a command set that cannot be read: {error}") from error
        if field == Field.C_STORE_RQ:
            self._begin_store(pending, has_data_set=has_data_set)
        elif field in _OF_COMMITMENT and context.sop_class_uid == STORAGE_COMMITMENT and has_data_set:
            self._incoming.begin(b"", "", None)
            self._pending = pending
        elif has_data_set:
            raise MalformedPdu(f"command 0x{field:04X} with a data set", AbortReason.UNEXPECTED_PARAMETER)
        elif field == Field.C_ECHO_RQ and context.sop_class_uid == VERIFICATION:
            self._answer(pending, Field.C_ECHO_RSP, StoreStatus.SUCCESS)
        elif field == Field.N_EVENT_REPORT_RSP:
            self._take_report_answer(command)
        elif field != Field.C_CANCEL_RQ:
            raise MalformedPdu(
                f"command 0x{field:04X} in a context of another service", AbortReason.UNEXPECTED_PARAMETER
            )

    def _begin_store(self, pending: _Pending, *, has_data_set: bool) -> None:
        identity = _identity_of(pending)
        fault = self._fault(pending, identity)
        if not has_data_set:
            self._answer_fault(pending, fault or _NO_DATA_SET)
            return
        self._incoming.begin(b"" if fault else identity.head(), identity.transfer_syntax_uid, fault)
        self._pending = pending

    def _fault(self, pending: _Pending, identity: ObjectIdentity) -> RefusedObject | SpoolUnavailable | None:
        """Return what is wrong already before the data set has come."""
        if not (is_valid_uid(identity.sop_class_uid) and is_valid_uid(identity.sop_instance_uid)):
            return RefusedObject(StoreStatus.CANNOT_UNDERSTAND, "The command names no valid SOP Class or Instance UID.")
        if identity.sop_class_uid != pending.context.sop_class_uid:
            return RefusedObject(
                StoreStatus.SOP_CLASS_NOT_SUPPORTED, "The presentation context was agreed for another SOP class."
            )
        try:
            self._capacity.check()
        except SpoolUnavailable as error:
            return error
        return None

    def _take_data_set(self, pending: _Pending) -> None:
        try:
            self._keep(pending)
        except (RefusedObject, SpoolUnavailable) as error:
            self._answer_fault(pending, error)
        except OSError as error:
            self._answer_fault(pending, SpoolUnavailable(f"The spool cannot be used: {error.strerror}."))
        except Exception:  # noqa: BLE001 - the C-STORE door: the peer gets an answer and keeps its image
            _log.exception("storing failed", extra={"calling_ae_title": self._association.caller.calling_ae_title})
            self._count_refused(StoreStatus.PROCESSING_FAILURE)
            self._answer(pending, Field(pending.field | 0x8000), StoreStatus.PROCESSING_FAILURE)
        else:  # answered here, for a peer that has gone by now is no failure to store
            self._answer(pending, Field(pending.field | 0x8000), StoreStatus.SUCCESS)

    def _keep(self, pending: _Pending) -> None:
        # No table of own methods: they would hold this object, and the buffer of its association, in a circle.
        if pending.field == Field.C_STORE_RQ:
            self._keep_object(pending)
        elif pending.field == Field.N_ACTION_RQ:
            self._keep_request(pending)
        else:
            self._hear_report(pending)

    def _keep_object(self, pending: _Pending) -> None:
        self._storing.store(_identity_of(pending), self._incoming, self._association)
        self._storing.outages.worked()
        self.stored += 1

    def _keep_request(self, pending: _Pending) -> None:
        """Keep a request for storage commitment (PS3.4 J.3.2)."""
        action = pending.command.elements.get(Element.ACTION_TYPE_ID, b"")
        if int.from_bytes(action, "little") != _REQUEST_COMMITMENT:
            self._incoming.discard()
            raise RefusedObject(ActionStatus.NO_SUCH_ACTION, "only Request Storage Commitment")
        if not self._incoming.is_small:
            self._incoming.discard()
            raise RefusedObject(ActionStatus.RESOURCE_LIMITATION, "too many objects in one request; ask for fewer")
        identity = ObjectIdentity(
            sop_class_uid=STORAGE_COMMITMENT,
            sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
            transfer_syntax_uid=pending.context.transfer_syntax_uid,
        )
        with self._incoming.data_set() as data_set:
            self._storing.request_commitment(identity, data_set, self._incoming.crc32, self._association)
        self._commitment_context = pending.context_id

    def _hear_report(self, pending: _Pending) -> None:
        """Hand on what a PACS says of a storage commitment that this node asked for (PS3.4 J.3.3)."""
        event_type = int.from_bytes(pending.command.elements.get(Element.EVENT_TYPE_ID, b""), "little")
        if event_type not in COMMITMENT_EVENTS:
            self._incoming.discard()
            raise RefusedObject(EventStatus.NO_SUCH_EVENT_TYPE, "only reports on storage commitment")
        if not self._incoming.is_small:
            self._incoming.discard()
            raise RefusedObject(EventStatus.PROCESSING_FAILURE, "too many objects in one report")
        with self._incoming.data_set() as data_set:
            report = bytes(data_set)
        self._incoming.discard()
        status = self._storing.hear(self._association.caller, pending.context.transfer_syntax_uid, report)
        if status != EventStatus.SUCCESS:
            raise RefusedObject(status, "no such commitment is awaited, or it cannot be noted now")

    # --- answers -------------------------------------------------------------------------------------------------

    def _answer_fault(self, pending: _Pending, error: RefusedObject | SpoolUnavailable) -> None:
        self.refused += 1
        is_store = pending.field == Field.C_STORE_RQ
        away = StoreStatus.OUT_OF_RESOURCES if is_store else ActionStatus.RESOURCE_LIMITATION
        status = error.status if isinstance(error, RefusedObject) else int(away)
        self._count_refused(status)
        what = {
            "calling_ae_title": self._association.caller.calling_ae_title,
            "sop_instance": loggable_uid(pending.command.text(Element.AFFECTED_SOP_INSTANCE_UID)),
            "status": f"0x{status:04X}",
        }
        if isinstance(error, SpoolUnavailable):
            self._storing.outages.failed(str(error), what)
        else:
            _log.warning("object refused" if is_store else "request refused", extra=what | {"why": str(error)})
        comment = str(error).removeprefix("The object was refused: ")
        self._answer(pending, Field(pending.field | 0x8000), status, comment)

    def _count_refused(self, status: int) -> None:
        TALLY.count(OBJECTS_REFUSED, peer=self._association.caller.calling_ae_title, status=f"0x{status:04X}")

    def _answer(self, pending: _Pending, field: Field, status: int, comment: str = "") -> None:
        self._write(response_pdu(pending.context_id, pending.command, field, status, comment))

    # --- outcomes of storage commitment, sent from here ----------------------------------------------------------

    def send_reports(self, peer_max_pdu_bytes: int) -> Iterator[tuple[int, int]]:
        """Send what waits, when nothing is under way; yield (number, status) of each report answered meanwhile."""
        while self._commitment_context is not None and not self.is_within and not self.reports.empty():
            report = self.reports.get()
            self._message_id = self._message_id % 65535 + 1
            self._sent[self._message_id] = report.number
            command = event_report_command(
                STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, report.event_type, self._message_id
            )
            most = min(max(peer_max_pdu_bytes, 4096), 131072)
            context_id = self._commitment_context
            pdus = [command_pdu(context_id, command), *data_pdus(context_id, report.data_set, most)]
            self._write(b"".join(pdus))
        answered, self._answered = self._answered, []
        yield from answered

    def unanswered(self) -> list[int]:
        """Return the numbers of the reports that were not sent or not answered."""
        waiting = list(self._sent.values())
        while not self.reports.empty():
            waiting.append(self.reports.get().number)
        return waiting

    def _take_report_answer(self, command: Command) -> None:
        number = self._sent.pop(command.number(Element.MESSAGE_ID_RESPONDED_TO), None)
        if number is not None:
            self._answered.append((number, command.number(Element.STATUS)))


def _identity_of(pending: _Pending) -> ObjectIdentity:
    return ObjectIdentity(
        sop_class_uid=pending.command.text(Element.AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=pending.command.text(Element.AFFECTED_SOP_INSTANCE_UID),
        transfer_syntax_uid=pending.context.transfer_syntax_uid,
    )


def response_pdu(context_id: int, request: Command, field: Field, status: int, comment: str = "") -> bytes:
    """Build the P-DATA-TF PDU of a response without data set (PS3.7 9.3.1.2, 9.3.5.2, 10.3.5.2)."""
    of_n_service = field == Field.N_ACTION_RSP
    sop_class = Element.REQUESTED_SOP_CLASS_UID if of_n_service else Element.AFFECTED_SOP_CLASS_UID
    instance = Element.REQUESTED_SOP_INSTANCE_UID if of_n_service else Element.AFFECTED_SOP_INSTANCE_UID
    elements: dict[Element, int | str | bytes] = {
        Element.AFFECTED_SOP_CLASS_UID: request.elements.get(sop_class, b""),
        Element.COMMAND_FIELD: field,
        Element.MESSAGE_ID_RESPONDED_TO: request.elements[Element.MESSAGE_ID],
        Element.STATUS: status,
    }
    if comment:
        elements[Element.ERROR_COMMENT] = comment[:_MAX_COMMENT]
    if instance in request.elements:
        elements[Element.AFFECTED_SOP_INSTANCE_UID] = request.elements[instance]
    for kind in (Element.ACTION_TYPE_ID, Element.EVENT_TYPE_ID):
        if kind in request.elements:
            elements[kind] = request.elements[kind]
    return command_pdu(context_id, command_set(elements, has_data_set=False))

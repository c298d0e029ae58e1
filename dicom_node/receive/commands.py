"""What the acceptor says: responses, and the outcome of a storage commitment."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.dimse import Command, Element, Field, command_pdu, command_set, data_pdus

_MAX_COMMENT = 64


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
    if of_n_service and Element.ACTION_TYPE_ID in request.elements:
        elements[Element.ACTION_TYPE_ID] = request.elements[Element.ACTION_TYPE_ID]
    return command_pdu(context_id, command_set(elements, has_data_set=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an N-EVENT-REPORT-RQ says (PS3.7 10.3.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    data_set: bytes


def event_report_pdus(context_id: int, message_id: int, event: Event, max_pdu_bytes: int) -> bytes:
    """Build the PDUs of an N-EVENT-REPORT-RQ."""
    command = command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: event.sop_class_uid,
            Element.COMMAND_FIELD: Field.N_EVENT_REPORT_RQ,
            Element.MESSAGE_ID: message_id,
            Element.AFFECTED_SOP_INSTANCE_UID: event.sop_instance_uid,
            Element.EVENT_TYPE_ID: event.event_type,
        },
        has_data_set=True,
    )
    return command_pdu(context_id, command) + b"".join(data_pdus(context_id, event.data_set, max_pdu_bytes))

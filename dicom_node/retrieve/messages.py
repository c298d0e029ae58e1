"""What a Query/Retrieve user says (PS3.7 9.1.2 to 9.1.4, PS3.4 C.4)."""

from __future__ import annotations

from dicom_node.dimse import Command, Element, Field, command_set

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

"""What a C-STORE or C-ECHO user says (PS3.7 9.3.1.1, 9.3.5.1), and an open file as PDUs."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO, FileIO

from dicom_node.dimse import FRAGMENT_HEAD_BYTES, IS_LAST, P_DATA_HEAD_BYTES, Element, Field, command_set, p_data_head
from dicom_node.errors import DeliveryRefused

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

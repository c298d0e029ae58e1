"""DIMSE command sets (PS3.7 Annex E: Implicit VR Little Endian, group 0000) and the PDUs that carry them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

#: No command set of DIMSE is longer; what is, is not one.
MAX_COMMAND_BYTES = 16384

_ELEMENT = struct.Struct("<HHL")
_P_DATA = struct.Struct(">BxLLBB")  # PDU type and length; PDV length, context, control header
_NO_DATA_SET = 0x0101
_COMMAND_LAST, _DATA_LAST = 0x03, 0x02
_MAX_COMMENT = 64


class Field(IntEnum):
    """Values of Command Field (0000,0100)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Elements of group 0000 in use here."""

    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_RESPONDED_TO = 0x0120
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008


@dataclass(frozen=True, slots=True)
class Command:
    """A command set as received: element number to undecoded value."""

    elements: Mapping[int, bytes]

    def number(self, element: Element) -> int:
        """Return a US element. Raises `ValueError` when it is missing or has another length."""
        value = self.elements.get(element, b"")
        if len(value) != 2:
            raise ValueError(f"{element.name} is missing or malformed")
        return value[0] | value[1] << 8

    def text(self, element: Element) -> str:
        """Return a UI element without padding, "" when it is missing; what is not ASCII is replaced."""
        return self.elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")

    @property
    def has_data_set(self) -> bool:
        """Tell whether a data set follows."""
        return self.number(Element.DATA_SET_TYPE) != _NO_DATA_SET


def read_command(encoded: bytes | bytearray) -> Command:
    """Decode a command set. Raises `ValueError` when it is malformed."""
    elements: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    while position < end:
        if position + 8 > end:
            raise ValueError("the command set ends inside an element")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += 8
        if group != 0 or position + length > end:
            raise ValueError("the command set is malformed")
        elements[element] = bytes(encoded[position : position + length])
        position += length
    return Command(elements)


def response_pdu(context_id: int, request: Command, field: Field, status: int, comment: str = "") -> bytes:
    """Build the P-DATA-TF PDU of a response without data set (PS3.7 9.3.1.2, 9.3.5.2, 10.3.5.2)."""
    of_n_service = field == Field.N_ACTION_RSP
    sop_class = Element.REQUESTED_SOP_CLASS_UID if of_n_service else Element.AFFECTED_SOP_CLASS_UID
    instance = Element.REQUESTED_SOP_INSTANCE_UID if of_n_service else Element.AFFECTED_SOP_INSTANCE_UID
    elements: dict[int, bytes] = {
        Element.AFFECTED_SOP_CLASS_UID: _even(request.elements.get(sop_class, b"")),
        Element.COMMAND_FIELD: _us(field),
        Element.MESSAGE_ID_RESPONDED_TO: request.elements[Element.MESSAGE_ID],
        Element.DATA_SET_TYPE: _us(_NO_DATA_SET),
        Element.STATUS: _us(status),
    }
    if comment:
        elements[Element.ERROR_COMMENT] = _even(comment[:_MAX_COMMENT].encode("ascii", "replace"), b" ")
    if instance in request.elements:
        elements[Element.AFFECTED_SOP_INSTANCE_UID] = _even(request.elements[instance])
    if of_n_service and Element.ACTION_TYPE_ID in request.elements:
        elements[Element.ACTION_TYPE_ID] = request.elements[Element.ACTION_TYPE_ID]
    return _fragment(context_id, _COMMAND_LAST, _encoded(elements))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an N-EVENT-REPORT-RQ says (PS3.7 10.3.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    data_set: bytes


def event_report_pdus(context_id: int, message_id: int, event: Event, max_pdu_bytes: int) -> bytes:
    """Build the PDUs of an N-EVENT-REPORT-RQ."""
    elements: dict[int, bytes] = {
        Element.AFFECTED_SOP_CLASS_UID: _even(event.sop_class_uid.encode()),
        Element.COMMAND_FIELD: _us(Field.N_EVENT_REPORT_RQ),
        Element.MESSAGE_ID: _us(message_id),
        Element.DATA_SET_TYPE: _us(0x0001),
        Element.AFFECTED_SOP_INSTANCE_UID: _even(event.sop_instance_uid.encode()),
        Element.EVENT_TYPE_ID: _us(event.event_type),
    }
    pdus = [_fragment(context_id, _COMMAND_LAST, _encoded(elements))]
    step = max_pdu_bytes - 6
    for start in range(0, len(event.data_set), step):
        control = _DATA_LAST if start + step >= len(event.data_set) else 0
        pdus.append(_fragment(context_id, control, event.data_set[start : start + step]))
    return b"".join(pdus)


def _fragment(context_id: int, control: int, body: bytes) -> bytes:
    return _P_DATA.pack(4, len(body) + 6, len(body) + 2, context_id, control) + body


def _encoded(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in sorted(elements.items()))
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _even(value: bytes, padding: bytes = b"\0") -> bytes:
    return value + padding * (len(value) % 2)

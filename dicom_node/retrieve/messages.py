"""The command sets a Query/Retrieve user writes and reads (PS3.7 9.3 and Annex E)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

#: Query/Retrieve, Study Root (PS3.4 C.6.2).
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

_ELEMENT = struct.Struct("<HHL")
_MEDIUM = 0x0000
_WITH_DATA_SET = 0x0001
_NO_DATA_SET = 0x0101


class Field(IntEnum):
    """Values of Command Field (0000,0100) in use here."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Elements of group 0000 in use here."""

    AFFECTED_SOP_CLASS_UID = 0x0002
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REMAINING = 0x1020
    COMPLETED = 0x1021
    FAILED = 0x1022
    WARNING = 0x1023


@dataclass(frozen=True, slots=True)
class Command:
    """A command set as received: element number to undecoded value."""

    elements: Mapping[int, bytes]

    def number(self, element: Element) -> int:
        """Return a US element. Raises `ValueError` when it is missing or has another length."""
        value = self.elements.get(element, b"")
        if len(value) != 2:
            raise ValueError(f"{element.name} is missing or malformed")
        return int.from_bytes(value, "little")

    def count(self, element: Element) -> int:
        """Return a number of sub-operations, 0 where the peer leaves it out."""
        return self.number(element) if self.elements.get(element) else 0

    def text(self, element: Element) -> str:
        """Return a UI element without padding, "" when it is missing; what is not ASCII is replaced."""
        return self.elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.number(Element.DATA_SET_TYPE) != _NO_DATA_SET


def read_command(encoded: bytes | bytearray) -> Command:
    """Decode a command set. Raises `ValueError` when it is malformed."""
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + _ELEMENT.size > len(encoded):
            raise ValueError("the command set ends inside an element")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if position + length > len(encoded):
            raise ValueError("the command set is malformed")
        if group == 0:  # some put the list of failed instances here, which belongs into a data set
            elements[element] = bytes(encoded[position : position + length])
        position += length
    return Command(elements)


def request(field: Field, sop_class_uid: str, message_id: int, move_destination: str = "") -> bytes:
    """Encode a C-FIND-RQ, C-GET-RQ or C-MOVE-RQ; an identifier follows it."""
    elements = {
        Element.AFFECTED_SOP_CLASS_UID: _even(sop_class_uid.encode("ascii"), b"\0"),
        Element.COMMAND_FIELD: _us(field),
        Element.MESSAGE_ID: _us(message_id),
        Element.PRIORITY: _us(_MEDIUM),
        Element.DATA_SET_TYPE: _us(_WITH_DATA_SET),
    }
    if move_destination:
        elements[Element.MOVE_DESTINATION] = _even(move_destination.encode("ascii"), b" ")
    return _encoded(elements)


def cancel(message_id: int) -> bytes:
    """Encode a C-CANCEL-RQ for a request that still runs."""
    return _encoded(
        {
            Element.COMMAND_FIELD: _us(Field.C_CANCEL_RQ),
            Element.MESSAGE_ID_RESPONDED_TO: _us(message_id),
            Element.DATA_SET_TYPE: _us(_NO_DATA_SET),
        }
    )


def store_response(command: Command, status: int) -> bytes:
    """Encode the C-STORE-RSP to a C-STORE-RQ."""
    same = (Element.AFFECTED_SOP_CLASS_UID, Element.AFFECTED_SOP_INSTANCE_UID)
    return _encoded(
        {element: command.elements.get(element, b"") for element in same}
        | {
            Element.COMMAND_FIELD: _us(Field.C_STORE_RSP),
            Element.MESSAGE_ID_RESPONDED_TO: _us(command.number(Element.MESSAGE_ID)),
            Element.DATA_SET_TYPE: _us(_NO_DATA_SET),
            Element.STATUS: _us(status),
        }
    )


def _encoded(elements: Mapping[Element, bytes]) -> bytes:
    body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in sorted(elements.items()))
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding * (len(value) % 2)

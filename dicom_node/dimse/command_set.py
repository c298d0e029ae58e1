"""DIMSE command sets and the fragments that carry them, read and written (PS3.7 Annex E, PS3.8 9.3.5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

#: No command set of DIMSE is longer; what is, is not one.
MAX_COMMAND_BYTES = 16384
IS_COMMAND, IS_LAST = 0x01, 0x02
#: What a P-DATA-TF PDU of one fragment has before its bytes.
P_DATA_HEAD_BYTES, FRAGMENT_HEAD_BYTES = 12, 6

_P_DATA = 0x04
_PDU_HEAD, _FRAGMENT_HEAD = struct.Struct(">BxL"), struct.Struct(">LBB")
_ELEMENT = struct.Struct("<HHL")
_WITH_DATA_SET, _NO_DATA_SET = 0x0001, 0x0101


class Field(IntEnum):
    """Values of Command Field (0000,0100)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
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
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
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
        return value[0] | value[1] << 8

    def count(self, element: Element) -> int:
        """Return a number of sub-operations, 0 where the peer leaves it out."""
        return self.number(element) if self.elements.get(element) else 0

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
        if position + length > end:
            raise ValueError("the command set is malformed")
        if group == 0:  # some put the list of failed instances here, which belongs into a data set
            elements[element] = bytes(encoded[position : position + length])
        position += length
    return Command(elements)


def command_set(elements: Mapping[Element, int | str | bytes], *, has_data_set: bool) -> bytes:
    """Encode a command set: numbers as US, texts as UI (or AE, which are padded by a space), bytes as they are."""
    kind = _WITH_DATA_SET if has_data_set else _NO_DATA_SET
    values = {element: _encoded(element, value) for element, value in elements.items()}
    values[Element.DATA_SET_TYPE] = kind.to_bytes(2, "little")
    body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in sorted(values.items()))
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def _encoded(element: Element, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(2, "little")
    raw = value.encode("ascii", "replace") if isinstance(value, str) else value
    padding = b" " if element in {Element.MOVE_DESTINATION, Element.ERROR_COMMENT} else b"\0"
    return raw + padding * (len(raw) % 2)


def event_report_command(sop_class_uid: str, sop_instance_uid: str, event_type: int, message_id: int) -> bytes:
    """Encode the command set of an N-EVENT-REPORT-RQ (PS3.7 10.3.1.1), which a data set follows."""
    return command_set(
        {
            Element.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            Element.COMMAND_FIELD: Field.N_EVENT_REPORT_RQ,
            Element.MESSAGE_ID: message_id,
            Element.AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
            Element.EVENT_TYPE_ID: event_type,
        },
        has_data_set=True,
    )


# --- fragments ---------------------------------------------------------------------------------------------------


def p_data_head(context_id: int, control: int, fragment_bytes: int) -> bytes:
    """Encode what stands before the bytes of the one fragment of a P-DATA-TF PDU."""
    length = fragment_bytes + 2
    return _PDU_HEAD.pack(_P_DATA, length + 4) + _FRAGMENT_HEAD.pack(length, context_id, control)


def command_pdu(context_id: int, command: bytes) -> bytes:
    """Wrap a whole command in one P-DATA-TF PDU; commands fit any PDU length that peers may ask for."""
    return p_data_head(context_id, IS_COMMAND | IS_LAST, len(command)) + command


def data_pdus(context_id: int, data_set: bytes, max_pdu_bytes: int) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs that carry a data set which lies in memory."""
    step = max_pdu_bytes - FRAGMENT_HEAD_BYTES
    for start in range(0, len(data_set), step):
        piece = data_set[start : start + step]
        yield p_data_head(context_id, IS_LAST if start + step >= len(data_set) else 0, len(piece)) + piece


def fragments(p_data: bytes | bytearray) -> Iterator[tuple[int, int, memoryview]]:
    """Yield (context ID, control header, bytes) of each fragment in the body of a P-DATA-TF PDU.

    Raises `ValueError` when it is malformed.
    """
    view, position = memoryview(p_data), 0
    while position < len(view):
        if position + FRAGMENT_HEAD_BYTES > len(view):
            raise ValueError("P-DATA ends within a header")
        length, context_id, control = _FRAGMENT_HEAD.unpack_from(view, position)
        end = position + 4 + length
        if length < 2 or end > len(view):
            raise ValueError("P-DATA fragment has a wrong length")
        yield context_id, control, view[position + FRAGMENT_HEAD_BYTES : end]
        position = end

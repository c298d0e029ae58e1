"""The bytes a C-STORE or C-ECHO user writes and reads: commands (PS3.7 9.3, E) and P-DATA-TF (PS3.8 9.3.5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO, FileIO

from dicom_node.errors import DeliveryRefused

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
C_ECHO_RQ = 0x0030
C_ECHO_RSP = 0x8030

COMMAND_FIELD = 0x0100
MESSAGE_ID_RESPONDED_TO = 0x0120
STATUS = 0x0900

_AFFECTED_SOP_CLASS = 0x0002
_MESSAGE_ID = 0x0110
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_AFFECTED_SOP_INSTANCE = 0x1000
_WITH_DATA_SET = 0x0001
_NO_DATA_SET = 0x0101
_MEDIUM = 0x0000

_IS_COMMAND = 0x01
_IS_LAST = 0x02
_P_DATA = 0x04
_PDU_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")
_ELEMENT_HEADER = struct.Struct("<HHL")
_HEADERS_BYTES = _PDU_HEADER.size + _PDV_HEADER.size


def store_command(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    """Encode a C-STORE-RQ command set (PS3.7 9.3.1.1)."""
    return _command_set(
        {
            _AFFECTED_SOP_CLASS: _uid(sop_class_uid),
            COMMAND_FIELD: _us(C_STORE_RQ),
            _MESSAGE_ID: _us(message_id),
            _PRIORITY: _us(_MEDIUM),
            _DATA_SET_TYPE: _us(_WITH_DATA_SET),
            _AFFECTED_SOP_INSTANCE: _uid(sop_instance_uid),
        }
    )


def echo_command(sop_class_uid: str, message_id: int) -> bytes:
    """Encode a C-ECHO-RQ command set (PS3.7 9.3.5.1)."""
    return _command_set(
        {
            _AFFECTED_SOP_CLASS: _uid(sop_class_uid),
            COMMAND_FIELD: _us(C_ECHO_RQ),
            _MESSAGE_ID: _us(message_id),
            _DATA_SET_TYPE: _us(_NO_DATA_SET),
        }
    )


def read_command(encoded: bytes) -> Mapping[int, int]:
    """Return the 16-bit elements of a command set by element number. Raises `ValueError` if it is malformed."""
    elements: dict[int, int] = {}
    position = 0
    while position < len(encoded):
        if position + _ELEMENT_HEADER.size > len(encoded):
            raise ValueError("command set ends within an element")
        _group, element, length = _ELEMENT_HEADER.unpack_from(encoded, position)
        position += _ELEMENT_HEADER.size
        value = encoded[position : position + length]
        position += length
        if length == 2 and len(value) == 2:
            elements[element] = int.from_bytes(value, "little")
    return elements


def command_pdu(context_id: int, command: bytes) -> bytes:
    """Wrap a whole command in one P-DATA-TF PDU; commands of C-STORE and C-ECHO fit any legal PDU length."""
    return _headers(context_id, len(command), _IS_COMMAND | _IS_LAST) + command


def data_pdus(context_id: int, data_set: BytesIO | FileIO, size_bytes: int, max_pdu_bytes: int) -> Iterator[memoryview]:
    """Yield P-DATA-TF PDUs that carry `size_bytes` of an open file; one buffer is reused for all of them.

    Raises `DeliveryRefused` when the file is shorter than it should be.
    """
    fragment_bytes = max_pdu_bytes - _PDV_HEADER.size
    buffer = bytearray(_HEADERS_BYTES + min(fragment_bytes, size_bytes))
    view = memoryview(buffer)
    left = size_bytes
    while left:
        wanted = min(fragment_bytes, left)
        if data_set.readinto(view[_HEADERS_BYTES : _HEADERS_BYTES + wanted]) != wanted:
            raise DeliveryRefused("The file became shorter while it was sent; check the object store.")
        left -= wanted
        buffer[:_HEADERS_BYTES] = _headers(context_id, wanted, 0 if left else _IS_LAST)
        yield view[: _HEADERS_BYTES + wanted]


def read_fragments(p_data: bytes) -> Iterator[tuple[bool, bool, bytes]]:
    """Yield (is command, is last, bytes) of each fragment in the body of a P-DATA-TF PDU; `ValueError` if malformed."""
    position = 0
    while position < len(p_data):
        if position + _PDV_HEADER.size > len(p_data):
            raise ValueError("P-DATA ends within a header")
        length, _context_id, control = _PDV_HEADER.unpack_from(p_data, position)
        end = position + 4 + length
        if length < 2 or end > len(p_data):
            raise ValueError("P-DATA fragment has a wrong length")
        yield bool(control & _IS_COMMAND), bool(control & _IS_LAST), p_data[position + _PDV_HEADER.size : end]
        position = end


def _headers(context_id: int, fragment_bytes: int, control: int) -> bytes:
    pdv_length = fragment_bytes + 2
    return _PDU_HEADER.pack(_P_DATA, pdv_length + 4) + _PDV_HEADER.pack(pdv_length, context_id, control)


def _command_set(elements: Mapping[int, bytes]) -> bytes:
    body = b"".join(_ELEMENT_HEADER.pack(0, element, len(value)) + value for element, value in sorted(elements.items()))
    return _ELEMENT_HEADER.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def _uid(uid: str) -> bytes:
    encoded = uid.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)


def _us(number: int) -> bytes:
    return struct.pack("<H", number)

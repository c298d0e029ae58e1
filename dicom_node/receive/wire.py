"""PDUs on one connection: headers read ahead of their bodies, lengths checked before anything is received."""

from __future__ import annotations

import struct

from dicom_node.receive.transport import PeerSilent, PeerTooSlow, Transport
from dicom_node.receive.vocabulary import AbortReason, PduType

#: The shortest PDU has ten bytes; of P-DATA-TF they hold the length of the first fragment.
_HEAD = struct.Struct(">BxLL")
_LENGTH = struct.Struct(">L")
_CONTROL_BYTES = 2
RELEASE_RP = struct.pack(">BxLL", PduType.RELEASE_RP, 4, 0)


class Malformed(Exception):
    """The peer broke the protocol; `reason` goes into the A-ABORT."""

    def __init__(self, why: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(why)
        self.reason = reason


def abort_pdu(reason: AbortReason) -> bytes:
    """Build the A-ABORT of a service provider (PS3.8 9.3.8)."""
    return struct.pack(">BxLxxBB", PduType.ABORT, 4, 2, reason)


class PduReader:
    """Reads PDU after PDU; the fragments of P-DATA-TF go where the caller says."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = memoryview(bytearray(_HEAD.size))
        self._control = memoryview(bytearray(_CONTROL_BYTES))
        self._length = memoryview(bytearray(_LENGTH.size))

    def head(self) -> tuple[int, int, int]:
        """Return type and length of the next PDU, and the first four bytes of its body as a number.

        Raises `PeerSilent` when none began, `PeerTooSlow`, `PeerGone`.
        """
        self._transport.read(self._head)
        kind, length, first = _HEAD.unpack(self._head)
        if length < 4:
            raise Malformed(f"a PDU of type 0x{kind:02X} and length {length}")
        return kind, length, first

    def body(self, length: int, most: int) -> bytes:
        """Return the body of the PDU whose head was just read. Raises `Malformed` above `most` bytes."""
        if length > most:
            raise Malformed(f"a PDU of {length} bytes")
        rest = bytearray(length - 4)
        self._read(memoryview(rest))
        return bytes(self._head[6:]) + rest

    def control(self, view: memoryview) -> tuple[int, int]:
        """Receive one fragment into `view`; return its presentation context ID and message control header."""
        self._quick(self._control, view)
        return self._control[0], self._control[1]

    def next_length(self) -> int:
        """Return the length of the next fragment of the same PDU."""
        self._read(self._length)
        return int(_LENGTH.unpack(self._length)[0])

    def _read(self, view: memoryview) -> None:
        try:
            self._transport.read(view)
        except PeerSilent as error:
            raise PeerTooSlow from error  # the PDU has begun

    def _quick(self, first: memoryview, second: memoryview) -> None:
        try:
            self._transport.read_two(first, second)
        except PeerSilent as error:
            raise PeerTooSlow from error

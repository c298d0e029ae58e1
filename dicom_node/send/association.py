"""One association as its requestor: negotiate, C-STORE, C-ECHO, release. Synchronous, with a deadline on every step.

The PDU and negotiation types are pynetdicom's; the socket is driven here. A threaded requestor reads a whole file
into its queue before the first byte leaves, and a peer that stops reading holds its thread for ever; here a file is
streamed through one buffer, and every wait ends.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO, FileIO
from types import TracebackType
from typing import Self

from pydicom.uid import UID
from pynetdicom.pdu import A_ABORT_RQ, A_RELEASE_RQ

from dicom_node.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.send.dicom_file import DicomFile, opened, transcoded
from dicom_node.send.negotiation import (
    MAX_CONTEXTS,
    VERIFICATION,
    Proposal,
    Remote,
    read_acceptance,
    rejected,
    request_pdu,
)
from dicom_node.send.wire import (
    C_ECHO_RSP,
    C_STORE_RSP,
    COMMAND_FIELD,
    MESSAGE_ID_RESPONDED_TO,
    STATUS,
    command_pdu,
    data_pdus,
    echo_command,
    read_command,
    read_fragments,
    store_command,
)

#: The largest PDU sent, also to a peer that takes longer ones.
_MAX_PDU_BYTES = 262144
_LONGEST_ANSWER_BYTES = 1 << 20
_MOST_ANSWER_PDUS = 16
_AC, _RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07


class Association:
    """An open association; a context manager that releases it, or aborts when left by an error."""

    def __init__(self, remote: Remote, proposed: Iterable[Proposal]) -> None:
        """Connect and negotiate. Raises `DeliveryDeferred` when there is no one, or they say no."""
        self._remote = remote
        self._message_id = 0
        self._contexts: Mapping[tuple[str, str], int] = {}
        self._max_pdu_bytes = _MAX_PDU_BYTES
        self._socket = _connect(remote)
        try:
            self._negotiate(sorted(set(proposed))[:MAX_CONTEXTS])
        except DeliveryDeferred:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A caller that has heard enough closes the generator it iterates; the peer has done nothing wrong.
        if error is None or isinstance(error, GeneratorExit):
            self._release()
        else:
            self._abort()

    def store(self, file: DicomFile) -> int:
        """Send one file and return the status of the response.

        Raises `DeliveryRefused` when the peer accepted no context for it, `DeliveryDeferred` when the peer is lost;
        the association is then of no more use.
        """
        transfer_syntax_uid, context_id = self._context_for(file)
        if transfer_syntax_uid == file.transfer_syntax_uid:
            with opened(file) as stored:
                return self._store(file, context_id, stored, file.offset)
        return self._store(file, context_id, transcoded(file, transfer_syntax_uid), 0)

    def echo(self) -> int:
        """Send a C-ECHO and return the status of the response. Raises as `store` does."""
        context_id = next((id_ for (sop_class, _), id_ in self._contexts.items() if sop_class == VERIFICATION), None)
        if context_id is None:
            raise DeliveryRefused(f"{self._remote} does not accept Verification (C-ECHO); it may still take objects.")
        self._message_id += 1
        with self._told("answering C-ECHO"):
            self._socket.sendall(command_pdu(context_id, echo_command(VERIFICATION, self._message_id)))
        return self._response(C_ECHO_RSP)

    # --- one message -------------------------------------------------------------------------------------------

    def _context_for(self, file: DicomFile) -> tuple[str, int]:
        for syntax in (file.transfer_syntax_uid, *file.fallback_syntaxes()):
            context_id = self._contexts.get((file.sop_class_uid, syntax))
            if context_id is not None:
                return syntax, context_id
        raise DeliveryRefused(
            f"{self._remote} does not accept {UID(file.sop_class_uid).name} "
            f"as {UID(file.transfer_syntax_uid).name} (no presentation context)."
        )

    def _store(self, file: DicomFile, context_id: int, stored: BytesIO | FileIO, offset: int) -> int:
        size_bytes = stored.seek(0, 2) - offset
        stored.seek(offset)
        self._message_id = self._message_id % 65535 + 1
        command = store_command(file.sop_class_uid, file.sop_instance_uid, self._message_id)
        with self._told("taking an object"):
            self._socket.sendall(command_pdu(context_id, command))
            for pdu in data_pdus(context_id, stored, size_bytes, self._max_pdu_bytes):
                self._socket.sendall(pdu)
        return self._response(C_STORE_RSP)

    def _response(self, command_field: int) -> int:
        """Read until the response to the last message is whole; return its status."""
        with self._told("waiting for a response"):
            answer = read_command(self._command())
        if answer.get(COMMAND_FIELD) != command_field or answer.get(MESSAGE_ID_RESPONDED_TO) != self._message_id:
            raise DeliveryDeferred(f"{self._remote} answered another message than the one sent; tried again later.")
        if STATUS not in answer:
            raise DeliveryDeferred(f"{self._remote} answered without a status; tried again later.")
        return answer[STATUS]

    def _command(self) -> bytes:
        """Read fragments until a command is whole; a response has no data set."""
        command = b""
        for _ in range(_MOST_ANSWER_PDUS):
            for is_command, is_last, fragment in read_fragments(self._pdu(_P_DATA)):
                command += fragment if is_command else b""
                if is_command and is_last:
                    return command
        raise ValueError("the command never ends")

    # --- the association ---------------------------------------------------------------------------------------

    def _negotiate(self, proposed: Sequence[Proposal]) -> None:
        with self._told("answering the association request"):
            self._socket.sendall(request_pdu(self._remote, proposed))
            accepted = read_acceptance(_whole(_AC, self._pdu(_AC)), proposed)
        self._contexts = accepted.context_ids
        self._max_pdu_bytes = min(accepted.max_pdu_bytes or _MAX_PDU_BYTES, _MAX_PDU_BYTES)

    def _pdu(self, wanted: int) -> bytes:
        """Read one PDU within the time limit and return its body. Raises `DeliveryDeferred` unless it is `wanted`."""
        deadline = time.monotonic() + self._remote.timeout_s
        kind, length = struct.unpack(">BxL", self._read(6, deadline))
        if length > _LONGEST_ANSWER_BYTES:
            raise DeliveryDeferred(f"{self._remote} announced an answer of {length} bytes; is it a DICOM peer?")
        body = self._read(length, deadline)
        if kind == wanted:
            return body
        if kind == _RJ:
            raise rejected(self._remote, _whole(kind, body))
        if kind == _ABORT:
            raise DeliveryDeferred(f"{self._remote} aborted the association; tried again later.")
        raise DeliveryDeferred(f"{self._remote} sent PDU type 0x{kind:02X} out of turn; tried again later.")

    def _read(self, length: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < length:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            part = self._socket.recv(length - len(received))
            if not part:
                raise ConnectionResetError
            received += part
        self._socket.settimeout(self._remote.timeout_s)
        return bytes(received)

    def _release(self) -> None:
        """Ask for release and wait for the answer; a peer that has gone by now has lost nothing."""
        with suppress(OSError, DeliveryDeferred):
            self._socket.sendall(A_RELEASE_RQ().encode())
            self._pdu(_RELEASE_RP)
        self._socket.close()

    def _abort(self) -> None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0, 0
        with suppress(OSError):
            self._socket.settimeout(1.0)
            self._socket.sendall(abort.encode())
        self._socket.close()

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn what a socket or a malformed answer raises into one sentence."""
        try:
            yield
        except TimeoutError as error:
            text = f"{self._remote} did not get on for {self._remote.timeout_s:g} s while {doing}; tried again later."
            raise DeliveryDeferred(text) from error
        except OSError as error:
            text = f"{self._remote} closed the connection while {doing}; tried again later."
            raise DeliveryDeferred(text) from error
        except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
            raise DeliveryDeferred(f"{self._remote} sent malformed bytes while {doing}; tried again later.") from error


def _connect(remote: Remote) -> socket.socket:
    try:
        connection = socket.create_connection((remote.host, remote.port), timeout=remote.timeout_s)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise DeliveryDeferred(f"{remote} cannot be reached: {why}. Tried again later; check host and port.") from error
    # Without this a small PDU waits for the peer's delayed acknowledgement, 40 ms per object.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _whole(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body

"""How long a sender waits for each C-STORE response: a sender of its own, since storescu does not tell."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

from dicom_node.dimse.command_set import command_pdu
from dicom_node.dimse.dicom_file import read_dicom_file
from dicom_node.dimse.negotiation import Remote, read_acceptance, request_pdu
from dicom_node.dimse.storage_scu import file_pdus, store_command

_SYNTAX = "1.2.840.10008.1.2.1"
_MAX_PDU_BYTES = 131072


def response_times_s(port: int, ae_title: str, folders: list[Path]) -> list[float]:
    """Send each folder over an association of its own, all at once; return the seconds from the last byte of each
    request to the first of its response, in no order."""
    times: list[float] = []
    threads = [threading.Thread(target=_send, args=(port, ae_title, folder, times)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def _send(port: int, ae_title: str, folder: Path, times: list[float]) -> None:
    files = [read_dicom_file(path) for path in sorted(folder.iterdir())]
    proposal = (files[0].sop_class_uid, (_SYNTAX,))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request_pdu(Remote("127.0.0.1", port, ae_title, "BENCH", 60), [proposal], _MAX_PDU_BYTES))
        head = _exactly(connection, 6)
        accepted = read_acceptance(head + _exactly(connection, struct.unpack(">L", head[2:])[0]), [proposal])
        longest = min(accepted.max_pdu_bytes or _MAX_PDU_BYTES, _MAX_PDU_BYTES)
        context_id = next(iter(accepted.context_ids.values()))
        for number, file in enumerate(files, start=1):
            with file.path.open("rb", buffering=0) as content:
                content.seek(file.offset)
                size = file.path.stat().st_size - file.offset
                pdus = [bytes(pdu) for pdu in file_pdus(context_id, content, size, longest)]
            command = store_command(file.sop_class_uid, file.sop_instance_uid, number)
            connection.sendall(command_pdu(context_id, command))
            for pdu in pdus:
                connection.sendall(pdu)
            sent_at = time.perf_counter()
            head = _exactly(connection, 6)
            times.append(time.perf_counter() - sent_at)
            _exactly(connection, struct.unpack(">L", head[2:])[0])
        connection.sendall(struct.pack(">BxLxxxx", 5, 4))


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            raise ConnectionError("the receiver closed the connection")
        received += part
    return received

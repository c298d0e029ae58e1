"""What the disk and the loopback can do at best, so that the distance of `benchmarks.intake` to the limit is known.

    python -m benchmarks.intake_limit [--count 300] [--folder FOLDER] [--quick] [--json FILE]

1. storescu into a receiver that reads every PDU and answers success without looking at it: the sender's own limit.
2. Writing 512 KiB durably in the ways a receiver may choose.
3. Copying 512 KiB through a loopback connection.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pynetdicom.pdu import A_ASSOCIATE_RQ

from benchmarks.command_line import keep, parser_of
from benchmarks.loads import LOADS, write_load
from dicom_node.dimse.command_set import Field, read_command
from dicom_node.receive.acceptor.messages import response_pdu
from dicom_node.receive.acceptor.negotiation import accept, read_request
from dicom_node.receive.options import AeOption

_SIZE = 512 * 1024
_MAX_PDU_BYTES = 131072


def sender_limit(folder: Path, count: int, associations: int) -> float:
    """Return how many objects a second storescu sends to a receiver that does nothing."""
    folders = [folder / str(number) for number in range(associations)]
    for series, one in enumerate(folders, start=1):
        write_load(one, LOADS["ct"], count, series)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=_sink, args=(listener,), daemon=True).start()
        command = ["storescu", "-R", "-aec", "SINK", "127.0.0.1", str(listener.getsockname()[1]), "+sd"]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        began = time.perf_counter()
        senders = [subprocess.Popen([*command, str(one)], env=environment) for one in folders]
        statuses = [sender.wait() for sender in senders]
        took = time.perf_counter() - began
    if any(statuses):
        raise RuntimeError(f"storescu ended with {statuses}")
    return count * associations / took


def _sink(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_swallow, args=(connection,), daemon=True).start()


def _swallow(connection: socket.socket) -> None:
    """Answer an association, and every data set's last fragment, with success."""
    buffer = memoryview(bytearray(1 << 20))
    command = b""
    while True:
        if connection.recv_into(buffer[:6], 0, socket.MSG_WAITALL) < 6:
            return
        kind, length = struct.unpack(">BxL", buffer[:6])
        connection.recv_into(buffer[:length], 0, socket.MSG_WAITALL)
        if kind == A_ASSOCIATE_RQ().pdu_type:
            request = read_request(bytes(buffer[:length]))
            connection.sendall(accept(request, AeOption(ae_title="SINK"), _MAX_PDU_BYTES)[0])
        elif kind == 4 and buffer[5] & 1:  # a command set
            command = bytes(buffer[6:length])
        elif kind == 4 and buffer[5] & 2:  # the last fragment of a data set
            connection.sendall(response_pdu(buffer[4], read_command(command), Field.C_STORE_RSP, 0))
        elif kind != 4:
            connection.sendall(struct.pack(">BxLL", 6, 4, 0))
            return


def disk_figures(folder: Path, count: int) -> dict[str, float]:
    """Return the median milliseconds of writing 512 KiB in several ways."""
    block = memoryview(os.urandom(_SIZE))
    slots = []
    for number in range(count):
        slots.append(os.open(folder / f"slot-{number}", os.O_RDWR | os.O_CREAT))
        os.pwrite(slots[-1], bytes(_SIZE), 0)
        os.fsync(slots[-1])
    directory = os.open(folder, os.O_RDONLY)

    def new_file(number: int, *, synchronised: bool, renamed: bool) -> None:
        path = folder / f"file-{synchronised}-{renamed}-{number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, block)
        if synchronised:
            os.fdatasync(descriptor)
        os.close(descriptor)
        if renamed:
            path.rename(path.with_suffix(".dcm"))
            os.fsync(directory)

    def overwritten(number: int, *, synchronised: bool) -> None:
        os.pwrite(slots[number], block, 0)
        if synchronised:
            os.fdatasync(slots[number])

    ways: dict[str, Callable[[int], None]] = {
        "slot overwritten, not synchronised": lambda n: overwritten(n, synchronised=False),
        "slot overwritten + fdatasync (the journal)": lambda n: overwritten(n, synchronised=True),
        "new file, not synchronised (storescp)": lambda n: new_file(n, synchronised=False, renamed=False),
        "new file + fdatasync": lambda n: new_file(n, synchronised=True, renamed=False),
        "new file + fdatasync + rename + fsync of folder": lambda n: new_file(n, synchronised=True, renamed=True),
    }
    return {name: _median_ms(way, count) for name, way in ways.items()}


def _median_ms(way: Callable[[int], None], count: int) -> float:
    times = []
    for number in range(count):
        began = time.perf_counter()
        way(number)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def loopback_ms(count: int) -> float:
    """Return the median milliseconds of 512 KiB through a loopback connection, one answer byte each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            buffer = bytearray(_SIZE)
            while connection.recv_into(buffer, 0, socket.MSG_WAITALL) == _SIZE:
                connection.sendall(b"k")

        threading.Thread(target=serve, daemon=True).start()
        with socket.create_connection(listener.getsockname()) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            block = bytes(_SIZE)
            return _median_ms(lambda _: (connection.sendall(block), connection.recv(1))[0], count)


def measure(folder: Path, count: int) -> tuple[dict[int, float], dict[str, float]]:
    """Return objects a second by the number of associations, and milliseconds by the way of 512 KiB."""
    rates = {number: sender_limit(folder / f"load-{number}", min(count, 200), number) for number in (1, 4, 16)}
    (folder / "disk").mkdir()
    return rates, disk_figures(folder / "disk", count) | {"loopback, there and one byte back": loopback_ms(count)}


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"count": 5})
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        rates, times = measure(Path(name), options.count)
    for associations, rate in rates.items():
        print(f"storescu into nothing, {associations:>2} association(s)      {rate:8.0f} objects/s")
    for what, took_ms in times.items():
        print(f"{what:<50} {took_ms:6.3f} ms for 512 KiB")
    keep({"objects_per_s": rates, "ms_for_512_kib": times}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

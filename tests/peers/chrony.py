"""chronyd as a time server of another make, which leaves the clock of this machine alone."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.process import Process, free_udp_port
from tests.support.needs import absent

_CONFIGURATION = """
port {port}
bindaddress 127.0.0.1
allow 127.0.0.1
cmdport 0
bindcmdaddress /
pidfile {folder}/chronyd.pid
{local}
"""


@contextmanager
def running_chronyd(folder: Path, local: str = "local stratum 8") -> Iterator[int]:
    """Yield the UDP port of one that knows the time by itself; without `local` it is unsynchronised for ever."""
    program = shutil.which("chronyd") or "/usr/sbin/chronyd"
    if not Path(program).exists():
        absent("chronyd is missing; install the Debian package chrony")
    folder.mkdir(parents=True)
    port, configuration = free_udp_port(), folder / "chrony.conf"
    configuration.write_text(_CONFIGURATION.format(port=port, folder=folder, local=local), encoding="ascii")
    # -x: sets no clock; -U: may be started by any user.
    process = Process([program, "-d", "-x", "-U", "-u", "root", "-f", str(configuration)], folder / "chronyd.log")
    try:
        process.wait_until_ready(lambda: _answers(port), 30)
        yield port
    finally:
        process.stop()


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(0.2)
        try:
            line.connect(("127.0.0.1", port))
            line.send(b"\x23" + bytes(47))
            return bool(line.recv(512))
        except OSError:
            return False

"""Start a program, wait until it is ready, end it: the part all peers share."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

#: Below those that Linux gives to whoever asks for any (32768 and up): a port of these stays free while a program that
#: had it is away, and nobody who calls it there is connected to himself.
_PORTS = range(20_000, 32_768)
#: What keeps a port for this process: nobody else can bind its UDP twin.
_kept: list[socket.socket] = []


def free_port() -> int:
    """Return a TCP port of the loopback address that is free, and given to nobody else while this process runs."""
    for port in random.sample(_PORTS, 1000):
        twin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError), socket.socket() as listener:
            twin.bind(("127.0.0.1", port))
            listener.bind(("127.0.0.1", port))
            _kept.append(twin)
            return port
        twin.close()
    raise RuntimeError(f"no port of {_PORTS} is free")


def free_udp_port() -> int:
    """Return a UDP port of the loopback address that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, step_s: float = 0.05) -> None:
    """Poll until `condition` holds; raises `TimeoutError` naming `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(step_s)


def is_running(process_id: int) -> bool:
    """Tell whether there is a process that has not ended."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


class Process:
    """A running program; what it prints is kept in `log`."""

    def __init__(
        self, argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, user: str | None = None
    ) -> None:
        """Start it in the folder of `log`, optionally as another `user`."""
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=log.parent,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """The exit status, or `None` while it runs."""
        return self._popen.poll()

    def wait_until_ready(self, ready: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Poll until `ready`; raises `RuntimeError` with the end of the log if the program ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.exit_status is not None:
                raise RuntimeError(f"ended with status {self.exit_status} before it was ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready after {timeout_s:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, timeout_s: float = 60.0, by: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, insist after `timeout_s`, and return the exit status."""
        if self.exit_status is None:
            self._popen.send_signal(by)
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill9()

    def kill9(self) -> int:
        """Kill it and all its children at once, as a power cut would; return when none of them holds anything."""
        if self.exit_status is not None:
            return self.exit_status
        group = self._popen.pid
        os.killpg(group, signal.SIGKILL)
        status = self._popen.wait(60)
        # A child may still sit in a disk write, and hold the port that the next start wants.
        wait_until(lambda: not any(_still_runs(pid) for pid in _members(group)), 60, f"the end of {self.log.stem}")
        return status

    def tail(self, lines: int = 40) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _members(group: int) -> Iterator[int]:
    """Yield the processes of a process group, those included that have ended and wait for their parent."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # PID (NAME) STATE PARENT GROUP …; a name may hold anything.
            if folder.name.isdigit() and int(_status(folder)[2]) == group:
                yield int(folder.name)


def _still_runs(pid: int) -> bool:
    """Tell whether any thread of a process runs: its first one may have ended before the others."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if _status(thread)[0] not in "ZX":
                    return True
    return False


def _status(folder: Path) -> list[str]:
    """Return state, parent, group and so on of a process or thread (proc(5))."""
    return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()

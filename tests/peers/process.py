"""Start a program, wait until it is ready, end it: the part all peers share."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def free_port() -> int:
    """Return a TCP port of the loopback address that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, step_s: float = 0.05) -> None:
    """Poll until `condition` holds; raises `TimeoutError` naming `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(step_s)


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

    def wait_until_ready(self, ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Poll until `ready`; raises `RuntimeError` with the end of the log if the program ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.exit_status is not None:
                raise RuntimeError(f"ended with status {self.exit_status} before it was ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready after {timeout_s:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self, timeout_s: float = 20.0, by: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, insist after `timeout_s`, and return the exit status."""
        if self.exit_status is None:
            self._popen.send_signal(by)
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill9()

    def kill9(self) -> int:
        """Kill it and all its children at once, as a power cut would."""
        if self.exit_status is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        return self._popen.wait(10)

    def tail(self, lines: int = 40) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

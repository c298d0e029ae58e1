"""What the acceptor of a running node uses: its process, memory, threads, descriptors and temporary files."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from dicom_node.receive.start import acceptor_options
from dicom_node.roles.settings import load_settings
from tests.peers.node import Node
from tests.peers.process import wait_until


@dataclass(frozen=True)
class Use:
    """Counts of one moment."""

    threads: int
    descriptors: int
    rss_mb: float
    parts: int


def acceptor_pid(node: Node) -> int:
    """Return the process id of the acceptor, a child of the node."""
    assert node.process is not None
    for child in children(node.process.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"dicom_node.receive.acceptor.acceptor" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    raise LookupError("the node has no acceptor")


def children(pid: int) -> list[int]:
    """Return the ids of a process's children.

    Not read from ``/proc/PID/task/TID/children``: that list may lack some while any of them ends (proc(5)).
    """
    return [child.pid for child in psutil.Process(pid).children()]


def use_of(node: Node) -> Use:
    """Return what the acceptor uses now."""
    return use_of_process(acceptor_pid(node), len(parts(node)))


def use_of_process(pid: int, parts: int = 0) -> Use:
    """Return what a process uses now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return Use(
        threads=int(_value(status, "Threads")),
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        rss_mb=int(_value(status, "VmRSS")) / 1024,
        parts=parts,
    )


def peak_mb(node: Node) -> float:
    """Return the most memory the acceptor ever had, in megabytes."""
    return peak_of_mb(acceptor_pid(node))


def peak_of_mb(pid: int) -> float:
    """Return the most memory a process ever had, in megabytes."""
    return int(_value(Path(f"/proc/{pid}/status").read_text(), "VmHWM")) / 1024


def parts(node: Node) -> list[Path]:
    """Return the files of objects that are not whole."""
    return list((node.data_dir / "spool" / "incoming").iterdir())


def back_at(node: Node, before: Use, within_s: float = 60.0, rss_mb: float = 30.0) -> Use:
    """Wait until threads, descriptors and temporary files are at what they were; return what they are."""

    def is_back() -> bool:
        now = use_of(node)
        return (
            now.threads <= before.threads
            and now.descriptors <= before.descriptors
            and now.parts <= before.parts
            and now.rss_mb <= before.rss_mb + rss_mb
        )

    try:
        wait_until(is_back, within_s, "the return", 0.1)
    except TimeoutError as error:
        raise AssertionError(f"the acceptor had {before} and now has {use_of(node)}") from error
    return use_of(node)


def quiet(node: Node, within_s: float = 10.0) -> Use:
    """Wait until the acceptor has grown its journal and serves nobody; return what it uses then."""
    wait_until_journal_is_whole(node)
    before = use_of(node)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = use_of(node)
        if (now.threads, now.descriptors) == (before.threads, before.descriptors):
            return now
        before = now
    return before


def wait_until_journal_is_whole(node: Node) -> None:
    """Wait until the acceptor has opened all its slots: it makes them beside its work, as fast as the disk allows."""
    wanted = acceptor_options(load_settings(node.config)).journal_slots
    pid = acceptor_pid(node)
    wait_until(lambda: sum(name.endswith(".slot") for name in open_by(pid)) >= wanted, 60, "the whole journal")


def open_by(pid: int) -> Iterator[str]:
    """Yield what the descriptors of a process stand for: files by their path, sockets and pipes by their number."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield str(link.readlink())


def log_lines(node: Node) -> list[str]:
    """Return the lines of the log."""
    return node.log_lines()


def logged_errors(node: Node, since: int = 0) -> list[str]:
    """Return the lines of the log, from that number on, that no peer may cause: tracebacks, and unstructured ones."""
    lines = log_lines(node)[since:]
    found = [line for line in lines if not line.startswith("{") or "Traceback" in line]
    return [line[:1000] for line in found]


def _value(status: str, name: str) -> str:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None, f"{name} is not in /proc/PID/status"
    return found[1]

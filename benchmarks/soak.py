"""Does the node stay as it is? Many small objects; memory, threads and descriptors of each of its processes.

    python -m benchmarks.soak [--objects 100000] [--associations 4] [--quick] [--json FILE]

Every association sends its own new instances, 1,000 to a connection. Samples are taken after each 5 % of the objects.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.command_line import keep, parser_of
from benchmarks.loads import Load, write_load
from benchmarks.receivers import Receiver
from dicom_node.storage.journal import slots_in

_SMALL = Load("tiny", "1.2.840.10008.5.1.4.1.1.4", 32)
#: The journal is whole when no slot has come for so long.
_JOURNAL_STILL_S = 5.0
_PER_ASSOCIATION = 1000
_MOST_TIMES = 5
#: glibc lays the heap that it gives a thread at a multiple of this, the unused rest of it inaccessible.
_THREAD_HEAP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One process of the node after so many objects."""

    objects: int
    process: str
    rss_mb: float
    threads: int
    descriptors: int
    #: Heaps of the C library beside the one that all threads share.
    thread_heaps: int


def samples(receiver: Receiver, objects: int) -> Iterator[Sample]:
    """Look at every process of the node."""
    if receiver.process is None:
        return
    for one in [receiver.process, *receiver.process.children(recursive=True)]:
        command = " ".join(one.cmdline())
        names = {"receive.acceptor": "acceptor", "headers.reader": "headers", "worker_process": "inference"}
        name = next((name for part, name in names.items() if part in command), "node")
        rss_mb = one.memory_info().rss / 1e6
        yield Sample(objects, name, rss_mb, one.num_threads(), one.num_fds(), thread_heaps(one.pid))


def thread_heaps(pid: int) -> int:
    """Count the heaps that glibc has given to single threads of a process (proc(5), maps); 0 for other C libraries."""
    areas = [line.split()[:2] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return sum(
        (used, rest) == ("rw-p", "---p") and not int(first.partition("-")[0], 16) % _THREAD_HEAP_BYTES
        and not int(second.partition("-")[2], 16) % _THREAD_HEAP_BYTES
        for (first, used), (second, rest) in itertools.pairwise(areas)
    )  # fmt: skip


def _await_whole_journal(journal: Path) -> None:
    """A journal grows behind the first objects, and holds a descriptor for each slot: that is no leak."""
    known, still_since = -1, time.monotonic()
    while time.monotonic() - still_since < _JOURNAL_STILL_S:
        time.sleep(0.2)
        if (found := len(list(slots_in(journal)))) != known:
            known, still_since = found, time.monotonic()


def _send(receiver: Receiver, folders: Sequence[Path]) -> None:
    """Send each folder on an association of its own. On a busy machine the journal fills up faster than it is emptied;
    what is refused then is sent again, as modalities do."""
    command = ["storescu", "-R", "-aec", "AINODE", "127.0.0.1", str(receiver.port), "+sd"]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    for _ in range(_MOST_TIMES):
        senders = [subprocess.Popen([*command, str(one)], env=environment) for one in folders]
        statuses = [sender.wait() for sender in senders]
        folders = [one for one, status in zip(folders, statuses, strict=True) if status]
        if not folders:
            return
        receiver.drain()
    raise RuntimeError(f"storescu failed {_MOST_TIMES} times; see {receiver.folder / 'log'}")


def soak(folder: Path, objects: int, associations: int) -> list[Sample]:
    """Send, and sample on the way."""
    found: list[Sample] = []
    every = max(objects // 20, associations * _PER_ASSOCIATION)
    with Receiver("node", folder / "receiver") as receiver:
        _await_whole_journal(receiver.folder / "node" / "journal")
        sent = series = 0
        due = every
        while sent < objects:
            folders = [folder / "load" / str(number) for number in range(associations)]
            for one in folders:
                series += 1
                write_load(one, _SMALL, _PER_ASSOCIATION, series)
            _send(receiver, folders)
            sent += associations * _PER_ASSOCIATION
            if sent >= due:
                due += every
                receiver.drain()
                found += samples(receiver, sent)
                print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    return found


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"objects": 2000, "associations": 2})
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--associations", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = soak(Path(name), options.objects, options.associations)
    for process in dict.fromkeys(sample.process for sample in found):
        for sample in (one for one in found if one.process == process):
            print(
                f"{process:<10} {sample.objects:>8} objects {sample.rss_mb:8.1f} MB {sample.threads:>4} threads"
                f" {sample.descriptors:>5} descriptors {sample.thread_heaps:>3} heaps of threads"
            )
    keep([asdict(sample) for sample in found], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""DCMTK's programs as modality and as second PACS. `TCP_NODELAY=1` avoids a stall of 40 ms per message on loopback."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pydicom

from tests.peers.process import Process, free_port, listens, wait_until
from tests.support.needs import tool

ENVIRONMENT = {"TCP_NODELAY": "1", "PATH": "/usr/bin:/bin"}


def run(program: str, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's programs to its end; output and errors are together in `stdout`."""
    return subprocess.run(
        [tool(program, "dcmtk"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        env=ENVIRONMENT,
    )


def echoscu(port: int, called: str = "AINODE", calling: str = "MOD1") -> subprocess.CompletedProcess[str]:
    """C-ECHO; status 0 means it was answered."""
    return run("echoscu", "-v", "-aet", calling, "-aec", called, "127.0.0.1", str(port))


def storescu(
    port: int, *paths: Path, called: str = "AINODE", calling: str = "MOD1", options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Send files and folders, proposing exactly the contexts the files need; status 0 means all were stored."""
    files = [str(path) for path in paths]
    arguments = ["-v", "-R", "-aet", calling, "-aec", called, *options, "+sd", "+r", "127.0.0.1", str(port), *files]
    return run("storescu", *arguments)


def dcmsend(
    port: int, *paths: Path, called: str = "AINODE", calling: str = "MOD1", options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Send files and folders, recoding where the receiver wants it; prints a summary of the answers."""
    files = [str(path) for path in paths]
    return run("dcmsend", "-v", "-aet", calling, "-aec", called, *options, "+sd", "+r", "127.0.0.1", str(port), *files)


class Receiver:
    """A storage SCP that keeps what it gets as files in `folder`."""

    def __init__(self, aet: str, port: int, folder: Path, process: Process) -> None:
        self.aet, self.host, self.port, self.folder, self.process = aet, "127.0.0.1", port, folder, process

    def files(self) -> list[Path]:
        """Return the files of objects, less those that it still writes."""
        there = [p for p in self.folder.rglob("*") if p.is_file() and p.name not in {"index.dat", "lockfile"}]
        unfinished = self._open_files()  # asked for afterwards: what was there and is not open now is whole
        return sorted(path for path in there if str(path) not in unfinished)

    def datasets(self) -> list[pydicom.FileDataset]:
        return [pydicom.dcmread(path) for path in self.files()]

    def wait_for(self, count: int, timeout_s: float = 60.0) -> list[pydicom.FileDataset]:
        """Wait until at least `count` objects have come whole, and return them."""
        wait_until(lambda: len(self.files()) >= count, timeout_s, f"{count} objects at {self.aet}", 0.2)
        return self.datasets()

    def _open_files(self) -> set[str]:
        """Return the files that it has open, or one of its children: `dcmqrscp` has one for each association."""
        found: set[str] = set()
        with contextlib.suppress(psutil.Error):
            receiver = psutil.Process(self.process.pid)
            for process in (receiver, *receiver.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    found |= {file.path for file in process.open_files()}
        return found


@contextmanager
def running_storescp(folder: Path, *options: str, port: int = 0, aet: str = "STORESCP") -> Iterator[Receiver]:
    """Run `storescp`; `options` such as ``--refuse`` or ``--abort-during`` make it misbehave.

    It takes everything unless `options` name a profile (``-xf file profile``).

    Files are named by DCMTK's default: an object sent twice is one file, so count `log` lines for repetitions.
    """
    port = port or free_port()
    received = folder / "received"
    received.mkdir(parents=True, exist_ok=True)
    accept = [] if "-xf" in options else ["+xa"]
    argv = [tool("storescp", "dcmtk"), "-v", *accept, "-aet", aet, "-od", str(received), *options, str(port)]
    process = Process(argv, folder / "storescp.log", ENVIRONMENT)
    with _ended(process):
        process.wait_until_ready(lambda: listens(port))
        yield Receiver(aet, port, received, process)


def profile_taking(folder: Path, sop_class_uids: Iterable[str], transfer_syntax: str = "LittleEndianExplicit") -> Path:
    """Write a configuration whose profile `Default` takes these storage classes (and C-ECHO) in one transfer syntax.

    Use it as ``running_storescp(folder, "-xf", str(profile), "Default")``.
    """
    classes = ["VerificationSOPClass", *sop_class_uids]
    contexts = "".join(f"PresentationContext{n} = {uid}\\Any\n" for n, uid in enumerate(classes, start=1))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profile.cfg"
    path.write_text(
        f"[[TransferSyntaxes]]\n[Any]\nTransferSyntax1 = {transfer_syntax}\n"
        f"[[PresentationContexts]]\n[Some]\n{contexts}[[Profiles]]\n[Default]\nPresentationContexts = Some\n"
    )
    return path


@contextmanager
def running_dcmqrscp(
    folder: Path, aet: str = "DCMTKPACS", hosts: Mapping[str, int] | None = None
) -> Iterator[Receiver]:
    """Run `dcmqrscp`, a second PACS of another make: it stores, and answers C-FIND, C-MOVE and C-GET.

    `hosts` are whom it can move to: AE titles and their ports on this machine.
    """
    port = free_port()
    database = folder / "database"
    database.mkdir(parents=True, exist_ok=True)
    configuration = folder / "dcmqrscp.cfg"
    known = "".join(f"{title} = ({title}, 127.0.0.1, {of})\n" for title, of in (hosts or {}).items())
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{known}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{aet} {database} RW (500, 1024mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    argv = [tool("dcmqrscp", "dcmtk"), "-v", "-c", str(configuration)]
    process = Process(argv, folder / "dcmqrscp.log", ENVIRONMENT)
    with _ended(process):
        process.wait_until_ready(lambda: listens(port))
        yield Receiver(aet, port, database, process)


@contextmanager
def _ended(process: Process) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill9()

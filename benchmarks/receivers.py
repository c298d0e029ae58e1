"""The receivers that are compared, each as a process in a folder of its own on the same disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from benchmarks.peers import listens, node_command, orthanc_command
from dicom_node.storage.journal import read_record, slots_in
from tests.peers.process import free_port

_READY_S, _DRAIN_S = 60.0, 300.0
NAMES = ("node", "orthanc", "storescp", "pynetdicom")
AE_TITLES = {"node": "AINODE", "orthanc": "BENCHPACS", "storescp": "STORESCP", "pynetdicom": "PYNETDICOM"}


@dataclass
class Receiver:
    """One running receiver; a context manager that ends it."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: psutil.Popen | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            # DCMTK's receivers stall 40 ms an object without this, and one would measure that.
            environment = {**os.environ, "TCP_NODELAY": "1"}
            self.process = psutil.Popen(self._command(), stdout=log, stderr=subprocess.STDOUT, env=environment)
        deadline = time.monotonic() + _READY_S
        while not listens(self.port) or not self._is_ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.__exit__()
                raise RuntimeError(f"{self.name} did not start; see {self.folder / 'log'}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            for one in [*self.process.children(recursive=True), self.process]:
                one.kill()
            self.process.wait()

    @property
    def ae_title(self) -> str:
        """The called AE title."""
        return AE_TITLES[self.name]

    def drain(self) -> None:
        """Wait until nothing of what was acknowledged is still to be filed; only the node answers before that."""
        if self.name != "node":
            return
        journal, deadline = self.folder / "node" / "journal", time.monotonic() + _DRAIN_S
        while any(read_record(journal, slot) for slot in slots_in(journal)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the node did not file its journal in {_DRAIN_S:g} s; see {self.folder / 'log'}")
            time.sleep(0.02)

    def rss_bytes(self) -> int:
        """The resident memory of all its processes."""
        total = 0
        for one in [self.process, *self.process.children(recursive=True)] if self.process else ():
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def _is_ready(self) -> bool:
        # The port is open before the node serves it; its journal is there before the first object.
        return self.name != "node" or (self.folder / "node" / "ports.json").exists()

    def _command(self) -> list[str]:
        match self.name:
            case "node":
                return node_command(self.folder, self.port)
            case "orthanc":
                return orthanc_command(self.folder, self.port)
            case "storescp":
                objects = self.folder / "objects"
                objects.mkdir()
                return ["storescp", "--fork", "--accept-all", "-od", str(objects), str(self.port)]
        return [sys.executable, "-m", "benchmarks.pynetdicom_scp", str(self.port), str(self.folder / "objects")]


class PeakMemory:
    """Samples a receiver's memory while the block runs."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._receiver.rss_bytes())
            if self._stop.wait(0.25):
                return

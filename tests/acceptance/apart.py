"""One node as eight processes on one folder and one PostgreSQL: two that receive, two that infer, two that deliver."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dicom_node.storage.journal import read_record, slots_in
from tests.acceptance.sent_phantoms import SentPhantom
from tests.acceptance.site import PATIENT_SYSTEM, Site
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import Postgres
from tests.peers.process import free_port, wait_until
from tests.support.campaign import amount
from tests.support.needs import tool

#: What runs: the role of each process, by its name.
PARTS: Mapping[str, str] = {
    "receive-1": "receive", "receive-2": "receive", "index": "index", "infer-1": "infer", "infer-2": "infer",
    "deliver-1": "deliver", "deliver-2": "deliver", "api": "api",
}  # fmt: skip
RECEIVERS = ("receive-1", "receive-2")
INFERRERS, DELIVERERS = ("infer-1", "infer-2"), ("deliver-1", "deliver-2")
#: The disk of the node: a study and its results take some seventeen megabytes of it.
DISK_MB = amount(384, campaign=2048)
RESERVE_MB = 1


@dataclass
class Apart:
    """The processes of one node, its disk, its database, and the hospital around it."""

    parts: Mapping[str, Node]
    postgres: Postgres
    database_url: str
    site: Site
    #: Every study it was ever sent.
    expected: list[SentPhantom] = field(default_factory=list)

    def expect(self, phantom: SentPhantom) -> SentPhantom:
        """Make a study's patient known to the EHR, which must be there, and return it."""
        self.site.ehr.add_patient(PATIENT_SYSTEM, phantom.patient_id)
        self.expected.append(phantom)
        return phantom

    @property
    def data_dir(self) -> Path:
        """The folder that all parts share, as this process sees it."""
        return self.site.node.data_dir

    def start(self, *names: str) -> None:
        """Start processes beside each other and wait until each is ready."""
        starting = [(self.parts[name], _times_ready(self.parts[name])) for name in names]
        for name in names:
            self.parts[name].launch(None, "--role", PARTS[name])
        for part, before in starting:
            assert part.process is not None
            part.process.wait_until_ready(functools.partial(_is_ready_again, part, before), 120)

    def kill9(self, *names: str) -> None:
        """End processes at once."""
        for name in names:
            self.parts[name].kill9()

    @contextmanager
    def suspended(self, *names: str) -> Iterator[None]:
        """Let processes do nothing meanwhile."""
        for name in names:
            self._signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, sent: signal.Signals) -> None:
        process = self.parts[name].process
        assert process is not None
        os.killpg(process.pid, sent)

    def journal(self, name: str) -> Path:
        """The journal of a receiver, as this process sees it."""
        return self.data_dir / _journal(name)

    def full_slots(self, name: str) -> list[int]:
        """The slots of a receiver's journal that hold what is not filed yet."""
        folder = self.journal(name)
        return [slot for slot in slots_in(folder) if read_record(folder, slot) is not None]

    def wait_until_settled(self) -> None:
        """Wait until everything acknowledged so far is filed and indexed."""
        for name in RECEIVERS:
            wait_until(functools.partial(self._is_empty, name), 300, f"the journal of {name} to be empty", 0.2)

    def _is_empty(self, name: str) -> bool:
        return not self.full_slots(name)

    def is_ready(self) -> bool:
        """Tell whether the node says that it takes studies."""
        answer = httpx.get(f"http://127.0.0.1:{self.site.node.api_port}/readyz", timeout=60, trust_env=False)
        return answer.status_code == httpx.codes.OK

    def wait_until_told(self, what: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until the node says that it takes no studies, because of `what`; do `meanwhile` before each question."""

        def told() -> bool:
            meanwhile()
            return not self.is_ready()

        wait_until(told, 60, f"a node that says it is not ready: {what}")

    def damaged(self) -> dict[str, int]:
        """How many damaged objects of each kind the node tells."""
        with self.site.node.api() as api:
            return dict(api.get("/api/status").raise_for_status().json()["damaged"])


def _times_ready(part: Node) -> int:
    return sum(event["event"] == "node ready" for event in part.events()) if part.log.exists() else 0


def _is_ready_again(part: Node, before: int) -> bool:
    return _times_ready(part) > before


def _journal(name: str) -> str:
    return f"journal-{name}"


@contextmanager
def running_apart(folder: Path, postgres: Postgres, pacs: Orthanc, ehr: FhirServer) -> Iterator[Apart]:
    """Run all parts, on a disk of their own below `folder`."""
    url = postgres.create_database()
    with ExitStack() as stack:
        stack.callback(postgres.drop_database, url)
        holder = stack.enter_context(_small_disk(folder / "shared"))
        parts = {name: _part(folder, name, url, pacs, ehr) for name in PARTS}
        for part in parts.values():
            part.data_dir = Path(f"/proc/{holder}/root{folder}/shared")
            part.launcher = (tool("nsenter", "util-linux"), f"--target={holder}", "-U", "-m", "--preserve-credentials")
            stack.callback(part.kill9)
        one = Apart(parts, postgres, url, Site(parts["api"], pacs, ehr))
        one.start("index")  # makes the tables
        one.start(*(name for name in PARTS if name != "index"))
        yield one


@contextmanager
def _small_disk(folder: Path) -> Iterator[int]:
    """Mount a file system of `DISK_MB` on `folder`; yield the process whose name spaces see it."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_MB}m tmpfs "$0" && echo mounted && exec sleep infinity'
    argv = [tool("unshare", "util-linux"), "-rm", "sh", "-c", mount, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "mounted\n"
            yield holder.pid
        finally:
            holder.kill()


def _part(folder: Path, name: str, database_url: str, pacs: Orthanc, ehr: FhirServer) -> Node:
    ports = {"dicom": free_port(), "api": free_port()}
    settings: dict[str, Any] = {
        "node": {"data_dir": str(folder / "shared"), "min_free_mb": RESERVE_MB},
        "database": {"url": database_url},
        "dicom": {"port": ports["dicom"], "journal": _journal(name)},
        "api": {"port": ports["api"]},
        "fhir": {"patient_system": PATIENT_SYSTEM, "accession_system": "urn:oid:2.25.78"},
        # A study that happens to be in work at several kills must not be given up: it is innocent of them.
        "inference": {"max_attempts": 10},
        "destination": [
            {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port},
            {"name": "ehr", "kind": "fhir", "url": ehr.url},
        ],
        "route": [{"name": "chest-ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}],
    }
    part = Node(folder / name, settings)
    part.dicom_port, part.api_port = ports["dicom"], ports["api"]
    return part

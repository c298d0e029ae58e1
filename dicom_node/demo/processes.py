"""The processes of the demonstration: a node and a PACS, each its own program, started and stopped together."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dicom_node.core.errors import NodeError, SettingsError
from dicom_node.demo.pacs import AE_TITLE as PACS_AE_TITLE

_MARKER = ".dicom-node-demo"
_START_LIMIT_S = 60.0
_DICOM_PORT, _API_PORT = 11112, 8042

_CONFIGURATION = """\
# Made by `dicom-node demo`. Everything not named here has its default.
[node]
data_dir = "{node}"
min_free_mb = 100

[dicom]
port = {dicom_port}

[api]
port = {api_port}

[delivery]
first_retry_s = 1

[fhir]
patient_system = "urn:oid:2.25.1"
accession_system = "urn:oid:2.25.2"

[[destination]]
name = "pacs"
kind = "dicom"
ae_title = "{pacs_title}"
host = "127.0.0.1"
port = {pacs_port}

[[destination]]
name = "files"
kind = "folder"
path = "{files}"

[[route]]
name = "chest-ct"
model = "ct-lung-density"
when = {{ modality = "CT" }}
quiet_period_s = 2

[[route]]
name = "chest-radiograph"
model = "cxr-pneumonia"
when = {{ modality = ["CR", "DX"] }}
quiet_period_s = 2
"""


@dataclass
class DemoProcesses:
    """One demonstration in one folder; the folder is emptied at the start, if it is a demonstration's."""

    folder: Path
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    @property
    def pacs_folder(self) -> Path:
        """Where the demonstration's PACS keeps what it is sent."""
        return self.folder / "pacs"

    @property
    def files_folder(self) -> Path:
        """Where the `files` destination writes: every object and the FHIR Bundle."""
        return self.folder / "files"

    @property
    def configuration(self) -> Path:
        """The node's configuration."""
        return self.folder / "node.toml"

    @property
    def token(self) -> str:
        """The API token the node generated."""
        return (self.folder / "node" / "api-token").read_text().strip()

    def open(self) -> None:
        """Start PACS and node; return when both listen. Raises `NodeError` when one does not."""
        self._empty()
        self._start("pacs.log", "-m", "dicom_node.demo.pacs", str(self.pacs_folder))
        pacs_port = int(self._wait_for(self.pacs_folder / "port"))
        self.configuration.write_text(
            _CONFIGURATION.format(
                node=self.folder / "node", files=self.files_folder, pacs_title=PACS_AE_TITLE, pacs_port=pacs_port,
                dicom_port=_free_or_any(_DICOM_PORT), api_port=_free_or_any(_API_PORT),
            )
        )  # fmt: skip
        self._start("node.log", "-m", "dicom_node", "serve", "--config", str(self.configuration))
        self.ports = json.loads(self._wait_for(self.folder / "node" / "ports.json"))

    def close(self) -> None:
        """Stop everything that was started, the node first."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def send(self, paths: list[Path]) -> int:
        """Send files from a process of their own, as a modality would; return its exit status."""
        peer = f"AINODE@127.0.0.1:{self.ports['dicom']}"
        command = [sys.executable, "-m", "dicom_node", "send", "--from", "MODALITY1", "--to", peer, *map(str, paths)]
        return subprocess.run(command, check=False).returncode

    def ask(self, path: str) -> Any:
        """Ask the node's API."""
        headers = {"Authorization": f"Bearer {self.token}"}
        response = httpx.get(f"{self.page}{path}", headers=headers, timeout=30)
        response.raise_for_status()
        return response.json()

    @property
    def page(self) -> str:
        """Address of the status page."""
        return f"http://127.0.0.1:{self.ports['api']}"

    def is_alive(self) -> bool:
        """Tell whether all processes still run."""
        return all(process.poll() is None for process in self._processes)

    def _empty(self) -> None:
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / _MARKER).exists():
            raise SettingsError(
                f"{self.folder} is not empty and not a demonstration's folder. Name another by --folder."
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        (self.folder / _MARKER).touch()

    def _start(self, log_name: str, *arguments: str) -> None:
        with (self.folder / log_name).open("wb") as log:
            environment = os.environ | {"PYTHONUNBUFFERED": "1"}
            self._processes.append(
                subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env=environment)
            )

    def _wait_for(self, path: Path) -> str:
        deadline = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < deadline and self.is_alive():
            if path.exists() and (text := path.read_text()):
                return text
            time.sleep(0.05)
        raise NodeError(f"The demonstration did not start. The logs are in {self.folder}.")


def _free_or_any(port: int) -> int:
    """Return the usual port, or 0 (any) where something else already listens."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port

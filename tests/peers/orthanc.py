"""Orthanc as the hospital's PACS, with the configuration and the routing script of `orthanc/`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pydicom

from tests.peers.process import Process, free_port, wait_until
from tests.support.needs import REPOSITORY, absent, tool

PLUGINS = Path("/usr/share/orthanc/plugins")
AE_TITLE = "TESTPACS"
#: The name of the node in Orthanc's list of modalities; the routing script sends there.
NODE_MODALITY = "ainode"


class Orthanc:
    """A PACS on loopback: C-STORE at `dicom_port`, REST at `http_url`, DICOMweb at `dicomweb_url`."""

    def __init__(self, folder: Path, overrides: Mapping[str, Any]) -> None:
        self.aet = AE_TITLE
        self.host = "127.0.0.1"
        self.dicom_port, self.http_port = free_port(), free_port()
        self.http_url = f"http://127.0.0.1:{self.http_port}"
        self.dicomweb_url = f"{self.http_url}/dicom-web"
        # A connection for each request: Orthanc closes one that idles for a second, perhaps just when it is used again.
        each_its_own = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=self.http_url, timeout=60, trust_env=False, limits=each_its_own)
        self._folder = folder
        self._configuration = folder / "orthanc.json"
        self._configuration.write_text(json.dumps(self._settings(overrides)), encoding="utf-8")
        self._process: Process | None = None

    # --- running it

    def start(self) -> None:
        """Start it, or start it again on the same data, and wait until it answers."""
        argv = [tool("Orthanc", "orthanc"), str(self._configuration)]
        log = self._folder / "orthanc.log"
        begins = log.stat().st_size if log.exists() else 0
        self._process = Process(argv, log)
        # It answers before it has told its plugins, and with them the routing script, that it has started.
        self._process.wait_until_ready(lambda: self._answers() and b"Orthanc has started" in log.read_bytes()[begins:])

    def stop(self) -> None:
        """End it in order, which takes Orthanc some seconds."""
        if self._process is not None:
            self._process.stop()

    def kill9(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill9()

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self._folder / "orthanc.log").read_text(encoding="utf-8", errors="replace")

    # --- its REST API

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return self.http.post(path, json=body).raise_for_status().json()

    def upload(self, path: Path) -> list[str]:
        """Store one file, or every file below a folder, over HTTP; returns Orthanc's ids of the instances."""
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return [self.upload_bytes(file.read_bytes()) for file in files]

    def upload_bytes(self, content: bytes) -> str:
        """Store one DICOM file given as bytes; returns Orthanc's id of the instance."""
        return str(self.http.post("/instances", content=content).raise_for_status().json()["ID"])

    def upload_dataset(self, dataset: pydicom.Dataset) -> str:
        """Store a dataset that has file meta information; returns Orthanc's id of the instance."""
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return self.upload_bytes(buffer.getvalue())

    def instances(self) -> list[str]:
        """Orthanc's ids of all stored instances."""
        return list(self.get("/instances"))

    def dataset(self, instance: str) -> pydicom.FileDataset:
        """Read one stored instance back."""
        content = self.http.get(f"/instances/{instance}/file").raise_for_status().content
        return pydicom.dcmread(io.BytesIO(content))

    def datasets(self, modality: str | None = None) -> list[pydicom.FileDataset]:
        """Read all stored instances back, or those of one modality."""
        query = {"Level": "Instance", "Query": {"Modality": modality} if modality else {}}
        return [self.dataset(instance) for instance in self.post("/tools/find", query)]

    def wait_for(self, count: int, modality: str | None = None, timeout_s: float = 60.0) -> list[pydicom.FileDataset]:
        """Wait until at least `count` instances (of one modality) are stored, and return them."""
        query = {"Level": "Instance", "Query": {"Modality": modality} if modality else {}}
        what = f"{count} objects{' of modality ' + modality if modality else ''} in the PACS"
        wait_until(lambda: len(self.post("/tools/find", query)) >= count, timeout_s, what, 0.2)
        return self.datasets(modality)

    def know(self, aet: str, port: int, name: str = NODE_MODALITY) -> None:
        """Make a DICOM peer on loopback known; under the default name the routing script sends series to it."""
        body = {"AET": aet, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
        self.http.put(f"/modalities/{name}", json=body).raise_for_status()

    # --- inside

    def _settings(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        template = json.loads((REPOSITORY / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
        return {
            **template,
            "DicomAet": self.aet,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "storage"),
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so"), str(PLUGINS / "libOrthancPython.so")],
            "PythonScript": str(REPOSITORY / "orthanc" / "route_to_node.py"),
            "StableAge": 1,
            # Nobody is there until a test says `know`.
            "DicomModalities": {},
            **overrides,
        }

    def _answers(self) -> bool:
        try:
            return self.http.get("/system").is_success
        except httpx.TransportError:
            return False


@contextmanager
def running_orthanc(folder: Path, **overrides: Any) -> Iterator[Orthanc]:
    """Run a PACS that keeps its data in `folder`; `overrides` replace settings of `orthanc/orthanc.json`."""
    tool("Orthanc", "orthanc")
    for plugin, package in (("libOrthancDicomWeb.so", "orthanc-dicomweb"), ("libOrthancPython.so", "orthanc-python")):
        if not (PLUGINS / plugin).exists():
            absent(f"{PLUGINS / plugin} is missing; install the Debian package {package}")
    pacs = Orthanc(folder, overrides)
    pacs.start()
    try:
        yield pacs
    finally:
        # Orthanc takes five seconds to end in order, and nobody reads this data again.
        pacs.kill9()
        pacs.http.close()

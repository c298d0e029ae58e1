"""The node of the version in the current folder as a process, and the peers that make its data what they are.

Nothing of the node is imported: what runs is whatever lies in the current folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from pynetdicom import AE, AllStoragePresentationContexts, evt

#: The machine's name stands in rows that only the same receiver takes up again.
HOST = "kept-node"
_PATIENCE_S = 300.0
_REFUSED = 0xA900


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until it holds; raises `TimeoutError`."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen")
        time.sleep(0.1)


def free_ports(*names: str) -> dict[str, int]:
    """Return a free port for each name."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}


class KeptNode:
    """A node with this configuration and data folder; `models` holds the modules of its models."""

    def __init__(self, config: Path, data_dir: Path, models: Path) -> None:
        self._config, self._data_dir = config, data_dir
        paths = {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(models)]), "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment = {**os.environ, **paths, "LOGNAME": "operator", "KEPT_MODEL_WAITS": "1"}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Start it and return the port of its DICOM listener; its log goes to standard error."""
        named = ["unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', HOST]
        serve = [sys.executable, "-m", "dicom_node", "serve", "--config", str(self._config)]
        self._process = subprocess.Popen(
            [*named, *serve], env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        wait_until((self._data_dir / "ports.json").exists, "the start of the node")
        return self._ports()["dicom"]

    def pause(self) -> None:
        """Stop the process that files what was received; another one goes on to answer senders."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """End it and all its processes at once."""
        assert self._process is not None
        group = self._process.pid
        os.killpg(group, signal.SIGKILL)
        self._process.wait()

        def is_gone() -> bool:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, 0)
                return False
            return True

        wait_until(is_gone, "the end of the node")

    def command(self, *words: str) -> None:
        """Run a command of this version. Its exit status also says whether a model may run now, so it is not looked at:
        what the folder is like in the end tells whether all went well."""
        command = [sys.executable, "-m", "dicom_node", *words, "--config", str(self._config)]
        subprocess.run(command, check=False, env=self._environment, stdout=sys.stderr)

    def study(self, study_uid: str) -> dict[str, Any]:
        """Return what the API says of a study; nothing as long as it is not known."""
        answer = self._ask("GET", f"/api/studies/{study_uid}")
        return dict(answer.json()) if answer.is_success else {"study": {"state": ""}, "jobs": [], "deliveries": []}

    def state(self, study_uid: str) -> str:
        return str(self.study(study_uid)["study"]["state"])

    def commitments(self) -> list[dict[str, Any]]:
        return list(self._ask("GET", "/api/commitments").raise_for_status().json())

    def retrieve(self, study_uid: str, source: str) -> str:
        """Ask it to fetch a study, and return the number under which it does."""
        asked = self._ask("POST", f"/api/studies/{study_uid}/retrieve", {"source": source})
        return str(asked.raise_for_status().json()["id"])

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        token = (self._data_dir / "api-token").read_text(encoding="utf-8").strip()
        url = f"http://127.0.0.1:{self._ports()['api']}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, url, json=body, headers=headers, timeout=60, trust_env=False)

    def _ports(self) -> Mapping[str, int]:
        return dict(json.loads((self._data_dir / "ports.json").read_text(encoding="utf-8")))


@contextlib.contextmanager
def picky_pacs(port: int) -> Iterator[None]:
    """Agree to everything, and say of each object that comes that it does not match its class."""
    entity = AE("PICKY")
    entity.supported_contexts = AllStoragePresentationContexts
    server: Any = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: _REFUSED)]
    )
    try:
        yield
    finally:
        server.shutdown()


class _NoPatient(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        body = json.dumps({"resourceType": "Bundle", "type": "searchset", "total": 0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def ehr_without_patients(port: int) -> Iterator[None]:
    """A FHIR server that finds nobody."""
    with ThreadingHTTPServer(("127.0.0.1", port), _NoPatient) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


@contextlib.contextmanager
def silent_pacs(port: int) -> Iterator[None]:
    """Let callers connect, and never say a word."""
    with socket.create_server(("127.0.0.1", port)):
        yield

"""The present node on the data folder of an earlier version, and the peers that folder speaks of.

Nothing of the node is imported: an old folder must outlive every move of modules.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # made at import time

from tests.peers.dcmtk import Receiver
from tests.peers.node import Node

REPOSITORY = Path(__file__).resolve().parents[2]
#: The name of the machine that the folders come from; the same receiver takes its own work up again.
HOST = "kept-node"
OVER = {"REPORTED", "NOT_ANALYSED", "FAILED"}


class WebPeer:
    """Answers every request with one JSON text; `bodies` are those of the requests, oldest first."""

    def __init__(self, answer: str) -> None:
        self.bodies: list[bytes] = []
        peer, text = self, answer.encode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                peer.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._handler = Handler

    @contextmanager
    def listening(self, port: int) -> Iterator[WebPeer]:
        with ThreadingHTTPServer(("127.0.0.1", port), self._handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self
            server.shutdown()

    def stored_uids(self) -> list[str]:
        """Return the SOP Instance UIDs of what came by STOW-RS, one in each request; questions have no body."""
        parts = [body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")] for body in self.bodies if body]
        return [str(pydicom.dcmread(io.BytesIO(part)).SOPInstanceUID) for part in parts]


@contextmanager
def modality(port: int) -> Iterator[dict[str, int]]:
    """Hear the outcomes of storage commitment: event types by transaction, 1 for all committed."""
    heard: dict[str, int] = {}

    def on_report(event: Any) -> tuple[int, None]:
        heard[str(event.event_information.TransactionUID)] = event.event_type
        return 0x0000, None

    entity = AE(ae_title="MOD1")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server: Any = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    yield heard
    server.shutdown()


def uids_at(receiver: Receiver) -> list[str]:
    """Return the SOP Instance UID of every object that came, as often as it came."""
    return [str(dataset.SOPInstanceUID) for dataset in receiver.datasets()]


# --- the node ---


class KeptNode(Node):
    """The present node with settings and data folder of an earlier one."""

    def __init__(self, folder: Path, settings: str) -> None:
        self._settings = settings
        super().__init__(folder, {"node": {"ae_title": "KEPTNODE"}})
        self.launcher = ("unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', HOST)
        paths = os.pathsep.join([str(REPOSITORY), str(folder / "models")])
        self.environment = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}

    def configure(self, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - as `Node.configure`
        """Write the settings as they were kept."""
        self.config.write_text(self._settings, encoding="utf-8")

    def command(self, *words: str, environment: Mapping[str, str] | None = None) -> Any:
        """Run a command of the present version and return the JSON that it prints."""
        command = [sys.executable, "-m", "dicom_node", *words, "--config", str(self.config), "--json"]
        around = {**os.environ, **self.environment, **(environment or {})}
        told = subprocess.run(command, env=around, capture_output=True, text=True, timeout=300, check=False)
        assert told.stdout, told.stderr
        return json.loads(told.stdout)

    def study(self, uid: str) -> dict[str, Any]:
        """Return what the API says of a study; without a state as long as it knows nothing of it."""
        with self.api() as api:
            answer = api.get(f"/api/studies/{uid}")
        return dict(answer.json()) if answer.is_success else {"study": {"state": ""}, "deliveries": []}


@dataclass(frozen=True)
class Upgrade:
    """A node that has taken over a folder, and its peers.

    `facts` is what was in the folder, `outcomes` what the modality has heard of storage commitment.
    """

    node: KeptNode
    facts: dict[str, Any]
    pacs: Receiver
    picky: Receiver
    archive: WebPeer
    ehr: WebPeer
    outcomes: dict[str, int]

    @property
    def names(self) -> dict[str, str]:
        """The studies that were received, by name."""
        return {name: uid for name, uid in self.facts["names"].items() if uid in self.facts["acknowledged"]}

    def study(self, name: str) -> dict[str, Any]:
        return self.node.study(self.names[name])

    def kept(self, *, state: str, destination: str = "") -> list[dict[str, Any]]:
        """Return the deliveries that stood there when the folder was kept."""
        found = [one for one in self.facts["deliveries"] if one["state"] == state]
        return [one for one in found if destination in {"", one["destination"]}]

    def now(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Return what has become of a delivery."""
        key = ("artifact_uid", "destination")
        deliveries = self.node.study(kept["study_instance_uid"])["deliveries"]
        (found,) = (one for one in deliveries if all(one[part] == kept[part] for part in key))
        return dict(found)

    def has_settled(self) -> bool:
        """Tell whether nothing is being received, analysed or owed any more."""
        views = [self.study(name) for name in self.names]
        return all(
            view["study"]["state"] in OVER and not any(one["state"] == "PENDING" for one in view["deliveries"])
            for view in views
        )

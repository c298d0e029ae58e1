"""A node that signs in to its EHR by SMART Backend Services: refused, killed, let in; the report comes once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.site import PATIENT_SYSTEM
from tests.peers.dcmtk import dcmsend
from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.oauth_server import OAuthServer, running_oauth_server
from tests.peers.process import free_port, wait_until
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dicom_node", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False, cwd=REPOSITORY)


def destination_of(node: Node) -> dict[str, Any]:
    with node.api() as api:
        (found,) = api.get("/api/destinations").raise_for_status().json()
    return dict(found)


def deliveries_of(node: Node, study: str) -> list[tuple[str, int]]:
    """The state and the attempts of each delivery."""
    with node.api() as api:
        answer = api.get(f"/api/studies/{study}")
    found = answer.json().get("deliveries", []) if answer.status_code == 200 else []
    return [(one["state"], one["attempts"]) for one in found]


def everything_said(node: Node, study: str) -> str:
    """What the node has logged, and what people and programs can read of it."""
    doctor = command("doctor", "--config", str(node.config))
    said = [doctor.stdout, doctor.stderr, *node.log_lines()]
    with node.api() as api:
        paths = ("/", "/api/status", "/api/destinations", f"/api/studies/{study}", f"/api/studies/{study}/timeline")
        said += [api.get(path).text for path in paths]
    return "\n".join(said)


def send(node: Node, folder: Path) -> str:
    images = small_chest_ct("smart")[0]
    folder.mkdir()
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    assert dcmsend(node.dicom_port, folder).returncode == 0
    return str(images[0].StudyInstanceUID)


def configured(node: Callable[..., Node], gate: OAuthServer, key: Path, api_port: int) -> Node:
    ehr = {
        "name": "ehr", "kind": "fhir", "url": f"{gate.url}/fhir/R4", "client_id": "ainode", "private_key": str(key),
    }  # fmt: skip
    return node(
        destination=[ehr], route=[ROUTE], fhir={"patient_system": PATIENT_SYSTEM}, api={"port": api_port},
        dicom={"port": free_port()},
    )  # fmt: skip


def test_a_refused_sign_in_parks_nothing_and_the_report_comes_once_when_the_server_knows_the_nodes_keys(
    node: Callable[..., Node], fhir_server: FhirServer, tmp_path: Path
) -> None:
    key, port = tmp_path / "node.key", free_port()
    made = command("smart-key", "new", str(key), "--type", "ec")
    assert made.returncode == 0, made.stderr
    fhir_server.add_patient(PATIENT_SYSTEM, str(small_chest_ct("smart")[0][0].PatientID))
    with running_oauth_server() as gate:
        gate.set(target=fhir_server.url.removesuffix("/fhir/R4"))  # it answers, and knows no key
        one = configured(node, gate, key, port)
        study = send(one, tmp_path / "images")

        wait_until(lambda: destination_of(one)["state"] == "SUSPENDED", 120, "the EHR to be suspended")
        assert "invalid_client" in destination_of(one)["reason"]
        assert deliveries_of(one, study) == [("PENDING", 0)]
        assert "Destination ehr does not let the node in" in command("status", "--config", str(one.config)).stdout
        assert fhir_server.all("DiagnosticReport") == []

        shown = httpx.get(f"http://127.0.0.1:{port}/.well-known/jwks.json", timeout=60, trust_env=False)
        assert shown.json() == json.loads(made.stdout)
        one.kill9()
        gate.set(jwks=shown.json())
        one.start()
        wait_until(lambda: deliveries_of(one, study) == [("SENT", 1)], 120, "the report to arrive")

        assert destination_of(one)["state"] == "ACTIVE"
        assert len(fhir_server.all("DiagnosticReport")) == 1
        said = everything_said(one, study)
        secrets = gate.secrets()
        assert "signed in: client ainode" in said
        assert len(secrets) >= 5  # assertions and tokens: of the node twice, and of the doctor
        assert not [secret for secret in secrets if secret in said]
        private = key.read_text(encoding="ascii").splitlines()[1:-1]
        assert not [line for line in private if line in said + shown.text + made.stdout]

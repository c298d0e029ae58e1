"""A PACS that speaks TLS only, with certificates on both sides: fetched from, delivered to, told what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.certificates import Certificates, make_certificates
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.process import free_port, wait_until
from tests.support.needs import REPOSITORY
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

STUDY = str(small_chest_ct()[0][0].StudyInstanceUID)
ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Orthanc]:
    own = certificates.server
    tls = {
        "DicomTlsEnabled": True, "DicomTlsCertificate": str(own.certificate),
        "DicomTlsPrivateKey": str(own.private_key), "DicomTlsTrustedCertificates": str(certificates.ca),
        "DicomTlsRemoteCertificateRequired": True,
    }  # fmt: skip
    with running_orthanc(tmp_path_factory.mktemp("pacs"), **tls) as started:
        yield started


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc, certificates: Certificates) -> Iterator[Node]:
    own = certificates.modality
    there = {"kind": "dimse", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port, "tls": True}
    one = Node(
        tmp_path_factory.mktemp("node"),
        {
            "dicom": {"plain": False},
            "dicom_tls": {
                "port": free_port(), "certificate": str(own.certificate), "private_key": str(own.private_key),
                "ca": str(certificates.ca),
            },
            "peer": [{"ae_title": pacs.aet, "tls": True, "port": pacs.dicom_port, "port_tls": True}],
            "source": [{"name": "pacs", **there}, {"name": "moves", "retrieve": "move", **there}],
            "destination": [{**there, "name": "pacs", "kind": "dicom"}],
            "route": [{**ROUTE, "destinations": ["pacs"]}],
        },
    )  # fmt: skip
    one.start()
    known = {"AET": one.aet, "Host": "127.0.0.1", "Port": one.tls_port, "UseDicomTls": True}
    pacs.http.put("/modalities/over-tls", json={**known, "AllowStorageCommitment": True}).raise_for_status()
    yield one
    one.kill9()


@pytest.mark.parametrize("source", ["pacs", "moves"])
def test_a_study_is_fetched_over_tls_by_get_and_by_move(node: Node, pacs: Orthanc, source: str) -> None:
    for image in small_chest_ct()[0]:
        pacs.upload_dataset(image)
    with node.api() as api:
        asked = api.post(f"/api/studies/{STUDY}/retrieve", json={"source": source}).raise_for_status()
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(api.get(asked.headers["Location"]).raise_for_status().json())
            return found["state"] in {"DONE", "PARTIAL", "NOT_FOUND", "FAILED"}

        wait_until(has_ended, 120, "the end of the retrieval")
    assert (found["state"], found["received"]) == ("DONE", len(small_chest_ct()[0])), found


def test_its_results_come_back_over_tls(pacs: Orthanc) -> None:
    assert pacs.wait_for(1, "SR", timeout_s=120)
    assert pacs.wait_for(1, "SEG")


def test_the_outcome_of_a_storage_commitment_comes_over_tls(node: Node, pacs: Orthanc) -> None:
    instance = pacs.upload_dataset(small_chest_ct()[0][0])
    body = {"Resources": [instance], "StorageCommitment": True}
    transaction = pacs.post("/modalities/over-tls/store", body)["StorageCommitmentTransactionUID"]
    found: dict[str, Any] = {}

    def is_told() -> bool:
        found.update(pacs.get(f"/storage-commitment/{transaction}"))
        return bool(found["Status"] != "Pending")

    wait_until(is_told, 120, "the outcome")
    assert found["Status"] == "Success"


def test_echo_and_doctor_speak_tls_as_the_node_does(node: Node, pacs: Orthanc) -> None:
    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "dicom_node", *arguments, "--config", str(node.config)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False, cwd=REPOSITORY)

    peer = f"{pacs.aet}@127.0.0.1:{pacs.dicom_port}"
    assert said("echo", peer, "--tls").returncode == 0
    assert said("echo", peer).returncode == 1
    refused = said("echo", peer, "--tls", "--tls-name", "pacs.hospital")
    assert refused.returncode == 1
    assert "certificate that does not hold" in refused.stdout + refused.stderr
    checks = {check["name"]: check for check in json.loads(said("doctor", "--json").stdout)}
    assert checks["destination pacs"]["ok"], checks["destination pacs"]
    assert checks["source pacs"]["ok"], checks["source pacs"]

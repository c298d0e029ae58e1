"""A small hospital: a node between a modality (DCMTK), a PACS (Orthanc) and an EHR (a FHIR R4 server)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.peers.fhir_server import FhirServer
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until

PATIENT_SYSTEM = "urn:oid:2.25.77"
FINISHED = {"REPORTED", "NOT_ANALYSED", "FAILED"}


@dataclass
class Site:
    """The node under test and the peers it speaks with."""

    node: Node
    pacs: Orthanc
    ehr: FhirServer

    def study(self, uid: str) -> dict[str, Any]:
        """What the node says of a study."""
        with self.node.api() as api:
            return dict(api.get(f"/api/studies/{uid}").raise_for_status().json())

    def timeline(self, uid: str) -> str:
        """The sentences of a study's timeline, one a line."""
        with self.node.api() as api:
            entries = api.get(f"/api/studies/{uid}/timeline").raise_for_status().json()
        return "\n".join(entry["text"] for entry in entries)

    def finished(self, uid: str, timeout_s: float = 120) -> dict[str, Any]:
        """Wait until a study has come to an end and nothing is owed any more; return it."""

        def done() -> bool:
            with self.node.api() as api:
                answer = api.get(f"/api/studies/{uid}")
            if answer.status_code != 200:
                return False
            study = answer.json()
            return study["study"]["state"] in FINISHED and not study["study"]["deliveries"]["pending"]

        wait_until(done, timeout_s, f"study {uid} to be finished and delivered", 0.25)
        return self.study(uid)


def open_site(node: Callable[..., Node], pacs: Orthanc, ehr: FhirServer, **settings: Any) -> Site:
    """Start a node that delivers to this PACS and this EHR; the PACS knows the node."""
    destinations = [
        {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": "127.0.0.1", "port": pacs.dicom_port},
        {"name": "ehr", "kind": "fhir", "url": ehr.url},
    ]
    defaults: dict[str, Any] = {
        "fhir": {"patient_system": PATIENT_SYSTEM, "accession_system": "urn:oid:2.25.78"},
        "destination": destinations,
        "route": [
            {"name": "chest-ct", "model": "ct-lung-density", "quiet_period_s": 2.0,
             "when": {"modality": "CT", "study_description": {"regex": "chest|thorax"}}},
            {"name": "chest-radiograph", "model": "cxr-pneumonia", "quiet_period_s": 1.0,
             "when": {"modality": ["CR", "DX"]}},
        ],
    }  # fmt: skip
    started = node(**{**defaults, **settings})
    return Site(started, pacs, ehr)

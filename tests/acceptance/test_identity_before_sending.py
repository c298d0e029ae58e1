"""A patient is merged in the PACS while a result waits: nothing is filed under the old number, whatever is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydicom import Dataset

from dicom_node.demo.phantoms import chest_radiograph_phantom
from tests.peers.dcmtk import storescu
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until

pytestmark = pytest.mark.timeout(600)

ROUTE = {"name": "film", "model": "cxr-pneumonia", "quiet_period_s": 0.5, "when": {"modality": ["CR", "DX"]}}


def test_a_result_of_a_merged_patient_is_held_across_a_kill_and_made_anew_from_corrected_images(
    node: Callable[..., Node], orthanc: Orthanc, tmp_path: Path
) -> None:
    image = chest_radiograph_phantom("merged", rows=128)
    study, old = str(image.StudyInstanceUID), str(image.PatientID)
    pacs = {"name": "pacs", "kind": "dicom", "ae_title": orthanc.aet, "host": "127.0.0.1", "port": orthanc.dicom_port}
    one = node(route=[ROUTE], destination=[pacs])
    one.wait_for_event(lambda event: event.get("event") == "destination asked")
    image.save_as(tmp_path / "old.dcm", enforce_file_format=True)
    image.PatientID = "MERGED-INTO"
    image.save_as(tmp_path / "new.dcm", enforce_file_format=True)
    orthanc.upload(tmp_path / "new.dcm")

    with frozen(orthanc):
        send(one, tmp_path / "old.dcm")
        wait_until(lambda: is_asking(one, orthanc), 120, "the node to ask the PACS")
        one.kill9()
    one.start()
    wait_until(lambda: states(one, study) == {"PARKED"}, 120, "the result to be held")
    with one.api() as api:
        (line,) = (line for line in api.get(f"/api/studies/{study}/timeline").json() if line["kind"] == "held")
    assert "IDENTITY_CHANGED" in line["text"]
    assert "what differs: PatientID." in line["text"]
    assert not reports(orthanc)

    send(one, tmp_path / "new.dcm")
    wait_until(lambda: states(one, study) == {"SENT"}, 120, "the corrected result to be sent")
    assert {str(report.PatientID) for report in reports(orthanc)} == {"MERGED-INTO"}
    assert old not in one.log.read_text(encoding="utf-8")


def send(node: Node, path: Path) -> None:
    sent = storescu(node.dicom_port, path)
    assert sent.returncode == 0, sent.stdout[-400:]


@contextlib.contextmanager
def frozen(pacs: Orthanc) -> Iterator[None]:
    """Connections are made meanwhile, and nobody says anything on them."""
    os.kill(pacs.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pacs.pid, signal.SIGCONT)


def is_asking(node: Node, pacs: Orthanc) -> bool:
    assert node.process is not None
    with contextlib.suppress(psutil.Error):
        connections = psutil.Process(node.process.pid).net_connections("tcp")
        return any(one.raddr and one.raddr.port == pacs.dicom_port for one in connections)
    return False


def states(node: Node, study: str) -> set[str]:
    with node.api() as api:
        return {one["state"] for one in api.get(f"/api/studies/{study}").raise_for_status().json()["deliveries"]}


def reports(pacs: Orthanc) -> list[Dataset]:
    return [one for one in pacs.datasets() if "AI" in str(one.get("SeriesDescription", ""))]

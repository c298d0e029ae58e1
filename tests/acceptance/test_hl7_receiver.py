"""A study in by C-STORE, its result out by HL7 v2: receivers that fail, a node that is killed, a result taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hl7
import pytest
from pydicom.dataset import Dataset

from dicom_node.fhir.hl7.grammar import value
from tests.peers.dcmtk import dcmsend
from tests.peers.mllp import Hl7Receiver, running_receiver
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.studies.data_factories import small_chest_ct

pytestmark = pytest.mark.timeout(600)

WHY = {"reason": "The images are of another patient."}
PATIENCE_S = 180


def _node(node: Callable[..., Node], receiver: Hl7Receiver) -> Node:
    ris = {
        "name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": receiver.port, "receiving_application": "RIS",
        "accession": "OBR-18", "replacement": "C", "withdrawal": "W",
    }  # fmt: skip
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    return node(fhir={"patient_system": "urn:oid:2.25.77"}, destination=[ris], route=[route])


def _send(one: Node, images: Sequence[Dataset], folder: Path) -> None:
    folder.mkdir()
    for image in images:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    sent = dcmsend(one.dicom_port, folder)
    assert sent.returncode == 0, sent.stdout[-400:]


def _is_settled(one: Node, study: str) -> bool:
    with one.api() as api:
        told: dict[str, Any] = api.get(f"/api/studies/{study}").raise_for_status().json()
    return not told["study"]["deliveries"]["pending"]


def _arrived(receiver: Hl7Receiver, count: int, what: str) -> list[hl7.Message]:
    wait_until(lambda: len(receiver.messages()) >= count, PATIENCE_S, what)
    return receiver.messages()


def test_one_live_result_is_left_whatever_fails_on_the_way(node: Callable[..., Node], tmp_path: Path) -> None:
    """Killed while the receiver holds its answer back: the message comes again, and is the same one."""
    images = small_chest_ct("told by HL7")[0]
    study = str(images[0].StudyInstanceUID)
    with running_receiver("silence", "drop", "AE") as receiver:
        one = _node(node, receiver)
        _send(one, images[:-1], tmp_path / "images")
        _arrived(receiver, 1, "the first message")
        one.kill9()
        receiver.stopped.set()
        one.start()
        wait_until(lambda: len(receiver.received) >= 4, PATIENCE_S, "the message to come again until it is accepted")
        wait_until(lambda: _is_settled(one, study), PATIENCE_S, "the delivery to be noted")
        assert len(receiver.messages()) == 1

        _send(one, images[-1:], tmp_path / "late")
        first, second = _arrived(receiver, 2, "the result with the late image")
        wait_until(lambda: _is_settled(one, study), PATIENCE_S, "the replacement to be noted")
        with one.api() as api:
            api.post(f"/api/studies/{study}/withdraw", json=WHY).raise_for_status()
        third = _arrived(receiver, 3, "the withdrawal")[2]

    numbers = {str(value(message.segment("OBR"), 3)) for message in (first, second, third)}
    assert len(numbers) == 1
    assert [str(value(message.segment("OBR"), 25)) for message in (first, second, third)] == ["P", "C", "C"]
    assert WHY["reason"] in str(third)
    assert receiver.live() == []
    assert {value(message.segment("PID"), 3).split("^")[0] for message in receiver.messages()} == {images[0].PatientID}

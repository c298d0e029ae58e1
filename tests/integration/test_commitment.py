"""Storage commitment with real requesters: Orthanc over its own listener, pynetdicom on the open association."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from tests.peers import raw
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import running_postgres
from tests.peers.process import free_port, wait_until
from tests.peers.raw import Raw
from tests.support.acceptor_state import logged_errors
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import IMPLICIT_LITTLE

REQUEST = 1
#: How long anything may take on a busy machine.
PATIENCE_S = 60


def references(*pairs: tuple[str, str]) -> Dataset:
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for sop_class, instance in pairs:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class), UID(instance)
        request.ReferencedSOPSequence.append(item)
    return request


def reports_into(
    heard: queue.Queue[tuple[int, Dataset]],
    before_answering: Callable[[], object] = lambda: None,
    answered: threading.Event | None = None,
) -> list[Any]:
    """Handlers that keep what is reported; `answered` is set when the answer has gone out, too."""
    answered = answered or threading.Event()

    def on_report(event: Any) -> tuple[int, None]:
        answered.clear()
        before_answering()
        heard.put((event.event_type, event.event_information))
        return 0x0000, None

    def on_sent(event: Any) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            answered.set()

    return [(evt.EVT_N_EVENT_REPORT, on_report), (evt.EVT_PDU_SENT, on_sent)]


@contextmanager
def requester(
    node: Node,
    heard: queue.Queue[tuple[int, Dataset]],
    title: str = "MOD1",
    before_answering: Callable[[], object] = lambda: None,
) -> Iterator[Any]:
    """An association that stores, asks for commitment and hears the outcome."""
    answered = threading.Event()
    answered.set()
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 2 * PATIENCE_S
    ae.add_requested_context(CTImageStorage)
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scu_role=True)
    association = ae.associate(
        "127.0.0.1",
        node.dicom_port,
        ae_title=node.aet,
        ext_neg=[role],
        evt_handlers=reports_into(heard, before_answering, answered),
    )
    assert association.is_established
    yield association
    assert answered.wait(PATIENCE_S)  # who asks for the release and then still answers breaks the rules of the line
    if association.is_established:
        association.release()


def ask(association: Any, request: Dataset) -> int:
    status, _ = association.send_n_action(
        request, REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status)


def latest(api: httpx.Client) -> dict[str, Any]:
    """What the operator sees of the latest request."""
    lines = api.get("/api/commitments").json()
    return dict(lines[0]) if lines else {"state": "", "note": ""}


def uids(sequence: Any) -> set[str]:
    return {str(item.ReferencedSOPInstanceUID) for item in sequence or []}


@pytest.fixture
def images() -> list[Dataset]:
    return small_chest_ct()[0][:3]


def test_the_outcome_comes_on_the_association_that_asked(node: Callable[..., Node], images: list[Dataset]) -> None:
    one = node(route=[])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    with requester(one, heard) as association:
        for image in images:
            assert association.send_c_store(image).Status == 0
        request = references(*((str(CTImageStorage), str(image.SOPInstanceUID)) for image in images))
        assert ask(association, request) == 0x0000
        event_type, told = heard.get(timeout=PATIENCE_S)
    assert event_type == 1
    assert told.TransactionUID == request.TransactionUID
    assert uids(told.ReferencedSOPSequence) == {str(image.SOPInstanceUID) for image in images}
    assert "FailedSOPSequence" not in told
    with one.api() as api:
        wait_until(lambda: latest(api)["state"] == "REPORTED", PATIENCE_S, "the answer noted")
        line = latest(api)
        timeline = api.get(f"/api/studies/{images[0].StudyInstanceUID}/timeline").json()
    assert (line["committed"], line["failed"], line["calling_ae_title"]) == (3, 0, "MOD1")
    assert "3 object(s) committed" in next(entry["text"] for entry in timeline if entry["kind"] == "commitment")


def test_what_is_not_there_as_asked_is_named_with_the_reason(node: Callable[..., Node], images: list[Dataset]) -> None:
    one = node(route=[])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    kept, other_class, damaged = (str(image.SOPInstanceUID) for image in images)
    with requester(one, heard) as association:
        for image in images:
            assert association.send_c_store(image).Status == 0
        one.wait_until_settled()
        for path in (one.data_dir / "spool" / "objects").rglob("*.dcm"):
            if damaged.encode() in path.read_bytes():
                path.write_bytes(b"shorter")
        request = references(
            (str(CTImageStorage), kept), ("1.2.840.10008.5.1.4.1.1.4", other_class), (str(CTImageStorage), damaged),
            (str(CTImageStorage), "1.2.3.4.5.6"),
        )  # fmt: skip
        assert ask(association, request) == 0x0000
        event_type, told = heard.get(timeout=PATIENCE_S)
    assert event_type == 2
    assert uids(told.ReferencedSOPSequence) == {kept}
    reasons = {str(item.ReferencedSOPInstanceUID): item.FailureReason for item in told.FailedSOPSequence}
    assert reasons == {other_class: 0x0119, damaged: 0x0110, "1.2.3.4.5.6": 0x0112}


def test_the_outcome_goes_to_the_listener_of_a_peer_that_has_one(
    node: Callable[..., Node], images: list[Dataset]
) -> None:
    """It is away at first, and asks twice; it hears every time."""
    port = free_port()
    one = node(route=[], peer=[{"ae_title": "MOD1", "host": "127.0.0.0/8", "port": port}])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    with requester(one, heard) as association:
        assert association.send_c_store(images[0]).Status == 0
        request = references((str(CTImageStorage), str(images[0].SOPInstanceUID)))
        assert ask(association, request) == 0x0000
    with one.api() as api:
        wait_until(lambda: "cannot be reached" in latest(api)["note"], PATIENCE_S, "a failed attempt")
    listener = AE(ae_title="MOD1")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = listener.start_server(("127.0.0.1", port), block=False, evt_handlers=reports_into(heard))
    assert server is not None
    try:
        assert heard.get(timeout=PATIENCE_S)[0] == 1
        with requester(one, heard) as association:
            assert ask(association, request) == 0x0000
        assert heard.get(timeout=PATIENCE_S)[1].TransactionUID == request.TransactionUID
    finally:
        server.shutdown()


def test_an_association_that_left_and_no_listener_is_said_to_the_operator(
    node: Callable[..., Node], images: list[Dataset]
) -> None:
    one = node(route=[])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    left = threading.Event()
    # The outcome may be there before the association has left: it is not answered then.
    with requester(one, heard, before_answering=lambda: left.wait(PATIENCE_S)) as association:
        assert association.send_c_store(images[0]).Status == 0
        assert ask(association, references((str(CTImageStorage), str(images[0].SOPInstanceUID)))) == 0x0000
        association.abort()
        left.set()
    with one.api() as api:
        wait_until(lambda: latest(api)["state"] == "GIVEN_UP", PATIENCE_S, "the end noted")
        assert "set `port`" in latest(api)["note"]


def test_a_request_survives_kill_9(node: Callable[..., Node], images: list[Dataset]) -> None:
    port = free_port()
    one = node(route=[], peer=[{"ae_title": "MOD1", "host": "127.0.0.0/8", "port": port}])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    with requester(one, heard) as association:
        assert association.send_c_store(images[0]).Status == 0
        assert ask(association, references((str(CTImageStorage), str(images[0].SOPInstanceUID)))) == 0x0000
        one.kill9()
    listener = AE(ae_title="MOD1")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = listener.start_server(("127.0.0.1", port), block=False, evt_handlers=reports_into(heard))
    assert server is not None
    try:
        one.start()
        assert heard.get(timeout=PATIENCE_S)[0] == 1
    finally:
        server.shutdown()


def test_a_request_that_cannot_be_read_does_no_harm(node: Callable[..., Node]) -> None:
    one = node(route=[])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    with requester(one, heard) as association:
        empty = Dataset()
        empty.PatientID = "X"
        assert ask(association, empty) == 0x0000
        nothing = references()
        assert ask(association, nothing) == 0x0000
        event_type, told = heard.get(timeout=PATIENCE_S)
    assert (event_type, told.TransactionUID) == (2, nothing.TransactionUID)
    assert "Traceback" not in one.log.read_text(encoding="utf-8")


def test_the_outcome_for_thousands_of_images_comes_on_the_association_that_asked(node: Callable[..., Node]) -> None:
    one = node(route=[])
    heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()
    wanted = [f"1.2.826.0.1.3680043.8.498.{number}" for number in range(10**37, 10**37 + 4000)]
    with requester(one, heard) as association:
        assert ask(association, references(*((str(CTImageStorage), name) for name in wanted))) == 0x0000
        event_type, told = heard.get(timeout=PATIENCE_S)
        assert association.is_established
    assert event_type == 2
    assert [str(item.ReferencedSOPInstanceUID) for item in told.FailedSOPSequence] == wanted
    assert logged_errors(one) == []


def test_a_request_for_more_images_than_one_can_hold_is_refused_and_the_association_goes_on(
    node: Callable[..., Node],
) -> None:
    one = node(route=[])
    wanted = ((str(CTImageStorage), f"1.2.826.0.1.3680043.8.498.{number}") for number in range(10**37, 10**37 + 9000))
    with requester(one, queue.Queue()) as association:
        assert ask(association, references(*wanted)) == 0x0213
        assert ask(association, references()) == 0x0000
    wait_until(lambda: not list((one.data_dir / "spool").rglob("*.part")), PATIENCE_S, "the request to be forgotten")


def test_an_outcome_answered_while_the_database_is_down_is_noted_and_stops_nothing(
    node: Callable[..., Node], images: list[Dataset]
) -> None:
    with running_postgres() as server:
        one = node(route=[], database={"url": server.create_database()})
        heard: queue.Queue[tuple[int, Dataset]] = queue.Queue()

        def stop_the_database() -> None:
            server.stop()

        with requester(one, heard, before_answering=stop_the_database) as association:
            assert association.send_c_store(images[0]).Status == 0
            assert ask(association, references((str(CTImageStorage), str(images[0].SOPInstanceUID)))) == 0x0000
            assert heard.get(timeout=2 * PATIENCE_S)[0] == 1
        time.sleep(2)
        server.start()
        with one.api() as api:
            wait_until(lambda: latest(api)["state"] == "REPORTED", PATIENCE_S, "the answer noted")
        with requester(one, heard) as association:
            wait_until(lambda: association.send_c_store(images[1]).Status == 0, PATIENCE_S, "success")
        one.wait_until_settled()
        assert logged_errors(one) == []


def test_another_action_is_refused_and_the_association_goes_on(node: Callable[..., Node]) -> None:
    one = node(route=[])
    with requester(one, queue.Queue()) as association:
        status, _ = association.send_n_action(
            references(), 2, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assert status.Status == 0x0123
        assert ask(association, references()) == 0x0000


def test_a_requester_that_leaves_before_it_is_answered_leaves_no_traceback(node: Callable[..., Node]) -> None:
    one = node(route=[])
    contexts = {1: (StorageCommitmentPushModel, (IMPLICIT_LITTLE,))}
    command = raw.command_set(
        {3: raw.ui(StorageCommitmentPushModel), 0x100: raw.us(0x130), 0x110: raw.us(1), 0x800: raw.us(1),
         0x1001: raw.ui(StorageCommitmentPushModelInstance), 0x1008: raw.us(REQUEST)}
    )  # fmt: skip
    for _ in range(20):
        with Raw(one.dicom_port) as peer:
            assert peer.associate(contexts).kind == raw.ASSOCIATE_AC
            peer.send(raw.p_data(1, raw.COMMAND | raw.LAST, command) + raw.p_data(1, raw.LAST, b""))
            peer.reset()
    one.wait_until_settled()
    assert logged_errors(one) == []


def test_orthanc_may_delete_what_it_sent(node: Callable[..., Node], orthanc: Orthanc, tmp_path: Path) -> None:
    one = node(route=[], peer=[{"ae_title": orthanc.aet, "host": "127.0.0.0/8", "port": orthanc.dicom_port}])
    orthanc.know(one.aet, one.dicom_port)
    image = small_chest_ct()[0][0]
    path = tmp_path / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    stored = orthanc.http.post("/instances", content=path.read_bytes()).json()
    name = modality_name(orthanc)
    sent = orthanc.http.post(f"/modalities/{name}/store", json=stored["ID"])
    assert sent.status_code == 200, sent.text
    asked = orthanc.http.post(
        f"/modalities/{name}/storage-commitment",
        json={"DicomInstances": [[str(CTImageStorage), str(image.SOPInstanceUID)], [str(CTImageStorage), "1.2.3.4"]]},
    )
    assert asked.status_code == 200, asked.text
    transaction = asked.json()["ID"]
    outcome: dict[str, Any] = {}

    def is_told() -> bool:
        outcome.update(orthanc.http.get(f"/storage-commitment/{transaction}").json())
        return bool(outcome.get("Status") != "Pending")

    wait_until(is_told, 60, "Orthanc to hear the outcome", 0.5)
    assert outcome["Status"] == "Failure"
    assert [entry["SOPInstanceUID"] for entry in outcome["Success"]] == [str(image.SOPInstanceUID)]
    assert [entry["SOPInstanceUID"] for entry in outcome["Failures"]] == ["1.2.3.4"]


def modality_name(orthanc: Orthanc) -> str:
    names: list[str] = orthanc.http.get("/modalities").json()
    return names[0]

"""Delivery by C-STORE to real receivers, well-behaved and not."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import CredentialsRefused, DeliveryDeferred, DeliveryRefused
from dicom_node.deliver.senders.dicom import DicomSender
from dicom_node.dimse.dicom_file import DicomFile, read_dicom_file
from dicom_node.dimse.negotiation import MAX_CONTEXTS, Remote, in_groups, proposals
from dicom_node.dimse.probe import echo
from dicom_node.dimse.storage_scu import StoreAssociation, send_files
from tests.integration.sent_objects import SOP_CLASSES, dicom_file, outgoing
from tests.peers.dcmtk import running_storescp
from tests.peers.process import free_port, wait_until

#: Longer than a busy machine stands still; what never answers is given up long before.
PATIENCE_S = 60.0


def sender(port, called="STORESCP", timeout_s=PATIENCE_S):
    return DicomSender(Remote("127.0.0.1", port, called, "AINODE", timeout_s))


@pytest.fixture
def results(tmp_path):
    return [outgoing(tmp_path, kind.lower(), kind) for kind in SOP_CLASSES]


@contextmanager
def answering(statuses, ae_title="PICKY"):
    """A receiver of another make that answers these statuses in turn; yields its port and the association count."""
    scp = AE(ae_title)
    scp.require_called_aet = True
    for sop_class in SOP_CLASSES.values():
        scp.add_supported_context(sop_class)
    left, associations = list(statuses), []
    handlers = [(evt.EVT_C_STORE, lambda _event: left.pop(0)), (evt.EVT_ACCEPTED, associations.append)]
    server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1], associations
    finally:
        server.shutdown()


@contextmanager
def silent_listener():
    """A peer that takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_all_kinds_of_result_arrive_unchanged_at_a_receiver_of_another_make(storescp, results):
    sent = list(sender(storescp.port).send(results))
    assert [(one.artifact_uid, one.error, one.note) for one in sent] == [
        (item.artifact.uid, None, "stored") for item in results
    ]
    received = {dataset.SOPInstanceUID: dataset for dataset in storescp.wait_for(3)}
    for item in results:
        assert received[item.artifact.uid] == dcmread(item.path)


def test_results_are_sent_in_one_association(results):
    with answering([0, 0, 0]) as (port, associations):
        assert all(sent.error is None for sent in sender(port, "PICKY").send(results))
    assert len(associations) == 1


def test_a_caller_that_stops_listening_ends_the_association_in_order(results):
    ends = []
    scp = AE("PICKY")
    for sop_class in SOP_CLASSES.values():
        scp.add_supported_context(sop_class)
    handlers = [
        (evt.EVT_C_STORE, lambda _event: 0xA700),
        (evt.EVT_RELEASED, lambda _event: ends.append("released")),
        (evt.EVT_ABORTED, lambda _event: ends.append("aborted")),
    ]
    server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        sending = sender(server.server_address[1], "PICKY").send(results)
        assert isinstance(next(sending).error, DeliveryDeferred)
        sending.close()
        wait_until(lambda: bool(ends), PATIENCE_S, "the end of the association")
    finally:
        server.shutdown()
    assert ends == ["released"]


def test_a_second_pacs_takes_the_same_objects_twice(dcmqrscp, results):
    for _ in range(2):
        assert [sent.error for sent in sender(dcmqrscp.port, dcmqrscp.aet).send(results)] == [None] * 3
    assert len(dcmqrscp.wait_for(3)) == 3


def test_a_receiver_of_implicit_vr_only_gets_the_object_recoded(tmp_path):
    item = outgoing(tmp_path, "explicit")
    with running_storescp(tmp_path / "scp", "+xi") as receiver:
        (sent,) = sender(receiver.port).send([item])
        (received,) = receiver.wait_for(1)
    assert sent.error is None
    assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert received.PixelData == dcmread(item.path).PixelData


@pytest.mark.parametrize(
    ("status", "note"),
    [
        (0x0000, "stored"),
        (0x0111, "already there (0x0111)"),
        (0xB000, "stored with a warning: coerced some elements (0xB000)"),
        (0xB006, "stored with a warning: discarded some elements (0xB006)"),
    ],
)
def test_success_warnings_and_duplicates_count_as_delivered(tmp_path, status, note):
    with answering([status]) as (port, _):
        (sent,) = sender(port, "PICKY").send([outgoing(tmp_path, "one")])
    assert (sent.error, sent.note) == (None, note)


@pytest.mark.parametrize("status", [0xA700, 0x0110, 0x0213])
def test_a_receiver_in_trouble_is_tried_again(tmp_path, status):
    with answering([status]) as (port, _):
        (sent,) = sender(port, "PICKY").send([outgoing(tmp_path, "one")])
    assert isinstance(sent.error, DeliveryDeferred)
    assert f"0x{status:04X}" in str(sent.error)


def test_what_the_node_is_not_authorised_for_is_no_fault_of_the_object(results):
    with answering([0x0124] * len(results)) as (port, _):
        sent = list(sender(port, "PICKY").send(results))
    assert all(isinstance(one.error, CredentialsRefused) for one in sent)
    assert "0x0124 (not authorised)" in str(sent[0].error)


@pytest.mark.parametrize("status", [0x0122, 0xA900, 0xC000, 0xCFFF])
def test_a_final_refusal_is_parked(tmp_path, status):
    with answering([status]) as (port, _):
        (sent,) = sender(port, "PICKY").send([outgoing(tmp_path, "one")])
    assert isinstance(sent.error, DeliveryRefused)
    assert f"PICKY@127.0.0.1:{port} answered 0x{status:04X}" in str(sent.error)


def test_one_refused_object_does_not_hold_back_the_others(results):
    with answering([0xC000, 0, 0xA700]) as (port, _):
        errors = [sent.error for sent in sender(port, "PICKY").send(results)]
    assert [type(error) for error in errors] == [DeliveryRefused, type(None), DeliveryDeferred]


def test_a_report_class_nobody_takes_comes_with_advice(tmp_path):
    scp = AE("IMAGES")
    scp.add_supported_context(SecondaryCaptureImageStorage)
    server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _event: 0)])
    report = outgoing(tmp_path, "report", ArtifactKind.STRUCTURED_REPORT)
    picture = outgoing(tmp_path, "picture")
    try:
        refused, stored = sender(server.server_address[1], "IMAGES").send([report, picture])
    finally:
        server.shutdown()
    assert isinstance(refused.error, DeliveryRefused)
    assert "does not accept Comprehensive SR Storage as Explicit VR Little Endian" in str(refused.error)
    assert "results.sr_sop_class" in str(refused.error)
    assert stored.error is None


def test_a_wrong_called_ae_title_is_tried_again_and_says_what_to_correct(results):
    with answering([]) as (port, _):
        sent = list(sender(port, "WRONG").send(results))
    assert [one.artifact_uid for one in sent] == [item.artifact.uid for item in results]
    for one in sent:
        assert isinstance(one.error, DeliveryDeferred)
        assert "does not answer to called AE title WRONG: correct ae_title" in str(one.error)


def test_a_pacs_that_does_not_know_us_is_tried_again_and_says_where_to_register(dcmqrscp, tmp_path):
    (sent,) = sender(dcmqrscp.port, "NOBODY").send([outgoing(tmp_path, "one")])
    assert isinstance(sent.error, DeliveryDeferred)
    assert "rejected the association" in str(sent.error)


def test_a_receiver_that_refuses_every_association_defers_all(tmp_path, results):
    with running_storescp(tmp_path / "scp", "--refuse") as receiver:
        sent = list(sender(receiver.port).send(results))
    assert all(isinstance(one.error, DeliveryDeferred) for one in sent)
    assert [one.artifact_uid for one in sent] == [item.artifact.uid for item in results]


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_a_receiver_that_aborts_defers_without_looping(tmp_path, results, option):
    with running_storescp(tmp_path / "scp", option) as receiver:
        sent = list(sender(receiver.port).send(results))
    assert [one.artifact_uid for one in sent] == [item.artifact.uid for item in results]
    assert isinstance(sent[-1].error, DeliveryDeferred)


def test_an_object_the_peer_chokes_on_does_not_hold_back_the_rest(results):
    def choke(event):
        if event.request.AffectedSOPInstanceUID == results[0].artifact.uid:
            event.assoc.abort()
        return 0

    scp = AE("FRAGILE")
    for sop_class in SOP_CLASSES.values():
        scp.add_supported_context(sop_class)
    server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, choke)])
    try:
        sent = list(sender(server.server_address[1], "FRAGILE").send(results))
    finally:
        server.shutdown()
    assert isinstance(sent[0].error, DeliveryDeferred)
    assert [one.error for one in sent[1:]] == [None, None]


def test_a_dead_port_defers_all(results):
    sent = list(sender(free_port()).send(results))
    assert len(sent) == 3
    for one in sent:
        assert isinstance(one.error, DeliveryDeferred)
        assert "cannot be reached: Connection refused" in str(one.error)


def test_a_peer_that_never_answers_is_given_up_within_the_time_limit(results):
    with silent_listener() as port:
        started = time.monotonic()
        sent = list(sender(port, timeout_s=0.5).send(results))
    assert time.monotonic() - started < PATIENCE_S
    assert all("did not get on for 0.5 s" in str(one.error) for one in sent)


def test_a_peer_that_stalls_within_an_object_is_given_up_within_the_time_limit(tmp_path, results):
    with running_storescp(tmp_path / "scp", "--sleep-during", "200") as receiver:
        started = time.monotonic()
        sent = list(sender(receiver.port, timeout_s=0.7).send(results))
    assert time.monotonic() - started < PATIENCE_S
    assert all(isinstance(one.error, DeliveryDeferred) for one in sent)


def test_a_peer_that_stops_reading_is_given_up_within_the_time_limit(storescp, tmp_path):
    file = read_dicom_file(dicom_file(tmp_path, "large"))
    with file.path.open("ab") as stored:
        stored.truncate(64 << 20)
    association = StoreAssociation(Remote("127.0.0.1", storescp.port, storescp.aet, "AINODE", 5), proposals(file))
    os.kill(storescp.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(DeliveryDeferred, match=r"did not get on for 5 s while taking an object"), association:
        association.store(file)
    assert time.monotonic() - started < PATIENCE_S


def test_a_peer_that_speaks_another_protocol_is_told_apart(results):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        sending = sender(port).send(results[:1])

        def speak():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        (sent,) = sending
        thread.join()
    assert "is it a DICOM peer?" in str(sent.error)


def test_an_unreadable_file_is_refused_alone(tmp_path):
    broken, sound = outgoing(tmp_path, "broken"), outgoing(tmp_path, "sound")
    broken.path.write_bytes(b"this is no DICOM file")
    with answering([0]) as (port, _):
        sent = {one.artifact_uid: one.error for one in sender(port, "PICKY").send([broken, sound])}
    assert isinstance(sent[broken.artifact.uid], DeliveryRefused)
    assert sent[sound.artifact.uid] is None


def test_echo_says_how_long_it_took(storescp):
    assert 0 < echo(Remote("127.0.0.1", storescp.port, storescp.aet, "AINODE", PATIENCE_S)) < PATIENCE_S


def test_echo_to_a_dead_port_says_so():
    with pytest.raises(DeliveryDeferred, match="cannot be reached"):
        echo(Remote("127.0.0.1", free_port(), "ANY", "AINODE", 1))


def test_a_folder_is_sent_as_a_modality_would(storescp, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    for number in range(5):
        dicom_file(folder, f"image{number}")
    dicom_file(folder, "implicit", syntax=ImplicitVRLittleEndian)
    (folder / "README.txt").write_text("not an image")
    remote = Remote("127.0.0.1", storescp.port, storescp.aet, "CT1", PATIENCE_S)
    sent = {one.path.name: one for one in send_files([folder], remote)}
    assert len(sent) == 7
    assert not sent["README.txt"].stored
    assert "not a DICOM file" in sent["README.txt"].note
    assert sum(one.stored and one.status == 0 for one in sent.values()) == 6
    assert len(storescp.wait_for(6)) == 6


def test_files_that_could_not_be_sent_are_all_named(tmp_path):
    paths = [dicom_file(tmp_path, f"image{number}") for number in range(3)]
    sent = list(send_files(paths, Remote("127.0.0.1", free_port(), "ANY", "CT1", 1)))
    assert [(one.path, one.status, one.stored) for one in sent] == [(path, None, False) for path in paths]


def test_more_contexts_than_an_association_holds_are_split(tmp_path):
    files = [DicomFile(tmp_path, f"1.2.{number}", f"1.3.{number}", RLELossless, 0) for number in range(300)]
    groups = list(in_groups(files, lambda file: file))
    assert [len(group) for group in groups] == [128, 128, 44]
    assert all(len({one for file in group for one in proposals(file)}) <= MAX_CONTEXTS for group in groups)

"""The DICOM listener as senders meet it: real files of every odd kind, hostile ones, broken associations."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import select

from dicom_node.core.entities import SendingPeer
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.storage_scu import FileSent, send_files
from dicom_node.index.tables import instances
from dicom_node.ingest.intake import Intake, IntakeLimits, Received
from dicom_node.receive.journal_items import parts_owner
from dicom_node.receive.start import acceptor_options, receiver_id
from dicom_node.roles.settings import load_settings
from dicom_node.storage.spool import Spool
from tests.peers.dcmtk import dcmsend, echoscu, storescu
from tests.peers.node import Node
from tests.peers.process import free_port, listens, wait_until
from tests.peers.raw import ABORT, ASSOCIATE_RJ, Raw, associate_rq
from tests.support import needs
from tests.support.needs import REPOSITORY
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import small_chest_ct

FOLDERS = (
    "mr_9_transfer_syntaxes", "cxr", "us_multiframe_and_colour", "odd_geometry", "odd_encoding", "charset",
    "derived_objects_ref", "mammo_ct_sc_wg04",
)  # fmt: skip

#: What is not stored: the status of the answer (`None`: the sender itself makes no C-STORE of it), and why.
NOT_STORED: dict[str, tuple[int | None, str]] = {
    "3gb-bulk-data-truncated": (0xC000, "3 GiB of pixel data announced, 98 KB there"),
    "bad_sequence.dcm": (0xC000, "its SOP Instance UID is not a UID"),
    "chrSQEncoding.dcm": (0xC000, "it has no SOP Class UID"),
    "NM-MONO2-16-13x-heart": (None, "no file meta information"),
    "54-implicit-file-meta-info.dcm": (None, "its file meta information is not Explicit VR Little Endian"),
    **{
        f"gantrytilting__001__IM-0001-000{n}.dcm": (0xA900, "file meta and data set name different instances")
        for n in (1, 2, 3, 4)
    },
    **{
        f"sliceincrement__001__IM-0001-{n}-0001.dcm": (0xA900, "file meta and data set name different instances")
        for n in ("0007", "0008", "0009", "0010")
    },
}
#: Stored, but the sender had to inflate it, because the node does not offer a deflated transfer syntax.
INFLATED = "report_dfl"


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all tests that leave it as it was; it has no routes."""
    node = Node(tmp_path_factory.mktemp("receive"), {"route": []})
    node.start()
    yield node
    node.kill9()


@pytest.fixture
def image() -> Dataset:
    return small_chest_ct()[0][0]


def remote(node: Node) -> Remote:
    return Remote("127.0.0.1", node.dicom_port, node.aet, "MOD1", 60.0)


def stored_keys(node: Node) -> dict[str, list[str]]:
    """SOP Instance UID → keys of the objects kept under it."""
    node.wait_until_settled()
    found: dict[str, list[str]] = {}
    with opened_database(f"sqlite:///{node.data_dir / 'node.sqlite'}") as database, database.read() as connection:
        for row in connection.execute(select(instances)):
            found.setdefault(row.sop_instance_uid, []).append(row.object_key)
    return found


def data_set_of(path: Path) -> bytes:
    """Return the encoded data set of a file, byte for byte."""
    meta = pydicom.filereader.read_file_meta_info(path)
    return path.read_bytes()[132 + 12 + int(meta.FileMetaInformationGroupLength) :]


def wait_until_no_part_is_left(node: Node) -> None:
    """Nothing half written stays; who ended in the middle may still be seen to."""
    incoming = node.data_dir / "spool" / "incoming"
    wait_until(lambda: not list(incoming.iterdir()), 60, "the end of what is not whole")


# --- real files ---


def test_every_real_file_is_kept_byte_for_byte_or_refused_for_a_known_reason(listener: Node) -> None:
    sent: list[FileSent] = []
    for folder in FOLDERS:
        sent += send_files([needs.real_data(folder)], remote(listener))
        assert echoscu(listener.dicom_port).returncode == 0, f"no answer to C-ECHO after {folder}"
    assert len(sent) == 55
    refused = {one.path.name: one.status for one in sent if not one.stored}
    assert refused == {name: status for name, (status, _) in NOT_STORED.items()}

    spool = Spool(listener.data_dir / "spool")
    keys = stored_keys(listener)
    for one in sent:
        if one.stored and one.path.name != INFLATED:
            kept = [data_set_of(spool.path(key)) for key in keys[one.sop_instance_uid]]
            assert data_set_of(one.path) in kept, f"{one.path.name} was changed on its way"
    wait_until_no_part_is_left(listener)


def test_files_come_back_in_the_transfer_syntax_they_came_in(listener: Node) -> None:
    folder = needs.real_data("mr_9_transfer_syntaxes")
    list(send_files([folder], remote(listener)))
    spool = Spool(listener.data_dir / "spool")
    keys = {key for found in stored_keys(listener).values() for key in found}
    syntaxes = {str(pydicom.filereader.read_file_meta_info(spool.path(key)).TransferSyntaxUID) for key in keys}
    assert {str(pydicom.filereader.read_file_meta_info(p).TransferSyntaxUID) for p in folder.iterdir()} <= syntaxes


def test_dcmtk_senders_are_served(listener: Node) -> None:
    folder = needs.real_data("derived_objects_ref")
    assert storescu(listener.dicom_port, folder).returncode == 0
    told = dcmsend(listener.dicom_port, needs.real_data("odd_geometry"))
    assert told.returncode == 0
    assert "with status SUCCESS" in told.stdout or "Status Success" in told.stdout.title(), told.stdout[-400:]


def test_what_a_peer_cannot_send_here_leaves_a_line_and_a_count(listener: Node) -> None:
    """A private SOP class: without this the association would end with nothing stored and nothing refused."""
    caller = AE("SPECT1")
    caller.add_requested_context("1.3.12.2.1107.5.9.1", ExplicitVRLittleEndian)
    association = caller.associate("127.0.0.1", listener.dicom_port, ae_title="AINODE")
    association.release()
    told = listener.wait_for_event(lambda e: e["event"] == "objects cannot be sent here")
    assert (told["calling_ae_title"], told["sop_class"]) == ("SPECT1", "1.3.12.2.1107.5.9.1")
    assert told["why"] == "the node takes no objects of this SOP class"
    ended = listener.wait_for_event(lambda e: e.get("calling_ae_title") == "SPECT1" and "not_taken" in e)
    assert (ended["stored"], ended["refused"], ended["not_taken"]) == (0, 0, 1)


def test_a_cut_off_file_is_refused_with_the_reason_in_the_log(listener: Node) -> None:
    path = needs.real_data("us_multiframe_and_colour") / "3gb-bulk-data-truncated"
    list(send_files([path], remote(listener)))
    event = listener.wait_for_event(lambda e: e["event"] == "object refused" and "cut off" in e["why"])
    assert event["status"] == "0xC000"


def test_the_same_file_twice_is_one_object(listener: Node, tmp_path: Path, image: Dataset) -> None:
    path = tmp_path / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    for _ in range(2):
        assert storescu(listener.dicom_port, path).returncode == 0
    assert len(stored_keys(listener)[str(image.SOPInstanceUID)]) == 1


# --- hostile objects ---


def encoded(image: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, image)
    return bytes(buffer.getvalue())


def associated(node: Node, calling: str = "MOD1", called: str = "AINODE") -> Any:
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", node.dicom_port, ae_title=called)


def c_store(data_set: bytes | None, sop_instance_uid: str, sop_class_uid: str = CTImageStorage) -> C_STORE:
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class_uid
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.Priority = 2
    if data_set is not None:
        request.DataSet = io.BytesIO(data_set)
    return request


def pause(association: Any) -> None:
    """Keep pynetdicom from taking messages by itself: it may be about to, and is waited for."""
    association._reactor_checkpoint.clear()
    wait_until(lambda: bool(association._is_paused), 60, "the association to pause", 0.001)


def status_of(node: Node, request: C_STORE) -> int:
    """Send a C-STORE whose command and data set are told apart; return the status of the answer."""
    association = associated(node)
    assert association.is_established
    pause(association)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return int(answer.Status)


def test_an_object_whose_command_names_another_uid_is_refused(listener: Node, image: Dataset) -> None:
    image.SOPInstanceUID = "1.2.3.4.5"
    assert status_of(listener, c_store(encoded(image), "1.2.3.4.6")) == 0xA900
    assert "1.2.3.4.5" not in stored_keys(listener)


@pytest.mark.parametrize("uid", ["../../x", "1.2/../../etc", "1..2", "a.b"])
def test_a_uid_that_is_a_path_is_refused_and_nothing_is_written_outside(
    listener: Node, image: Dataset, uid: str
) -> None:
    before = sorted(listener.folder.rglob("*x"))
    image.StudyInstanceUID = "7" * len(uid)
    data_set = encoded(image).replace(b"7" * len(uid), uid.encode())
    assert status_of(listener, c_store(data_set, str(image.SOPInstanceUID))) == 0xC000
    assert sorted(listener.folder.rglob("*x")) == before


@pytest.mark.parametrize("what", ["garbage", "empty", "cut header"])
def test_what_cannot_be_parsed_is_refused(listener: Node, image: Dataset, what: str) -> None:
    data_set = {"garbage": b"\xff\x00\xfe" * 999, "empty": b"", "cut header": encoded(image)[:700]}[what]
    assert status_of(listener, c_store(data_set or b"\0", "1.2.3")) == 0xC000


def test_a_store_without_a_data_set_is_refused(listener: Node) -> None:
    assert status_of(listener, c_store(None, "1.2.3")) == 0xC000


def test_hostile_titles_are_logged_on_one_line(listener: Node, image: Dataset, tmp_path: Path) -> None:
    image.PatientName = "Doe\r\n{}^Jane"
    image.SOPInstanceUID = "1.2.3.9"
    path = tmp_path / "image.dcm"
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    image.save_as(path, enforce_file_format=True)
    assert storescu(listener.dicom_port, path, calling="`;$(x)`").returncode == 0
    assert "Doe" not in listener.log.read_text()


# --- broken associations ---


def send_half(association: Any, request: C_STORE) -> None:
    """Send the command and the first half of the data set, then nothing."""
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context_id = association.accepted_contexts[0].context_id
    pause(association)
    fragments = list(message.encode_msg(context_id, 16384))
    for fragment in fragments[: len(fragments) // 2 + 1]:
        association.dul.send_pdu(fragment)
    time.sleep(0.5)


@pytest.mark.parametrize("how", ["abort", "connection lost"])
def test_an_association_that_ends_inside_an_object_leaves_what_came_before(
    listener: Node, tmp_path: Path, how: str
) -> None:
    first, second = small_chest_ct(seed=how)[0][:2]
    association = associated(listener)
    assert association.send_c_store(first).Status == 0
    second.PixelData = second.PixelData * 20
    second.NumberOfFrames = 20
    send_half(association, c_store(encoded(second), str(second.SOPInstanceUID)))
    if how == "abort":
        association.abort()
    else:
        association.dul.socket.close()
        association.kill()
    assert echoscu(listener.dicom_port).returncode == 0
    keys = stored_keys(listener)
    assert str(first.SOPInstanceUID) in keys
    assert str(second.SOPInstanceUID) not in keys
    wait_until_no_part_is_left(listener)


# --- who may come in ---


def test_an_association_meant_for_another_node_is_rejected(listener: Node) -> None:
    told = echoscu(listener.dicom_port, called="OTHER")
    assert told.returncode != 0
    assert "Called AE Title Not Recognized" in told.stdout


def test_only_listed_peers_come_in_from_where_they_may(node: Callable[..., Node]) -> None:
    one = node(
        route=[],
        peer=[{"ae_title": "CT1", "host": "127.0.0.0/8"}, {"ae_title": "CT2", "host": "10.1.2.0/24"}],
    )
    assert echoscu(one.dicom_port, calling="CT1").returncode == 0
    for calling in ("CT2", "NOBODY", "ct1"):
        told = echoscu(one.dicom_port, calling=calling)
        assert told.returncode != 0
        assert "Calling AE Title Not Recognized" in told.stdout

    def rejected() -> list[str]:
        return [event["calling_ae_title"] for event in one.events() if event["event"] == "association rejected"]

    wait_until(lambda: len(rejected()) >= 3, 60, "what was rejected in the log")
    assert rejected() == ["CT2", "NOBODY", "ct1"]


#: Head, protocol version, titles and reserved bytes of an A-ASSOCIATE-RQ (PS3.8 Table 9-11).
FIXED = 74


def beginning(calling: str, length: int = 677_000) -> bytes:
    """Return the fixed beginning of a request that says it is very long, and not a byte of the rest."""
    return struct.pack(">BxL", 1, length) + associate_rq(calling=calling)[6:FIXED]


def test_a_stranger_is_answered_before_the_rest_of_its_request_is_waited_for(node: Callable[..., Node]) -> None:
    one = node(route=[], peer=[{"ae_title": "CT1", "host": "127.0.0.0/8"}])
    with Raw(one.dicom_port) as stranger:
        stranger.send(beginning("NOBODY"))
        answer = stranger.receive()
    assert answer is not None
    assert (answer.kind, answer.body[-1]) == (ASSOCIATE_RJ, 3)
    with Raw(one.dicom_port) as listed:  # and a listed peer's request is bounded, too
        listed.send(beginning("CT1"))
        answer = listed.receive()
    assert answer is not None
    assert answer.kind == ABORT


def test_a_stranger_that_goes_on_is_not_heard_and_does_not_fill_the_log(node: Callable[..., Node]) -> None:
    one = node(route=[], peer=[{"ae_title": "CT1", "host": "127.0.0.1"}])

    def called_from_elsewhere() -> bytes:
        address = ("127.0.0.1", one.dicom_port)
        with (
            contextlib.suppress(ConnectionError),  # closed before it was said
            socket.create_connection(address, 60, ("127.0.0.2", 0)) as stranger,
        ):
            stranger.sendall(associate_rq(calling="CT1"))
            return stranger.recv(1)
        return b""

    answers = [called_from_elsewhere() for _ in range(60)]
    assert answers[0] == bytes([ASSOCIATE_RJ])
    assert answers[-1] == b""
    assert echoscu(one.dicom_port, calling="CT1").returncode == 0
    told = [event for event in one.events() if event["event"] == "association rejected"]
    assert len(told) <= 2 * 5  # the minute of the address may have ended in between


def test_below_the_disk_reserve_associations_are_turned_away_for_now(node: Callable[..., Node], image: Dataset) -> None:
    one = node(route=[], node={"min_free_mb": 1 << 40})
    told = echoscu(one.dicom_port)
    assert told.returncode != 0
    assert "Temporary Congestion" in told.stdout


# --- start ---


def test_a_start_adopts_what_was_durable_and_removes_what_was_not(
    node: Callable[..., Node], tmp_path: Path, image: Dataset
) -> None:
    """A kill between the file's fsync and the row's commit, and one in the middle of a file."""
    one = node(start=False, route=[])
    spool = Spool(one.data_dir / "spool")
    settings = load_settings(one.config)
    owner = acceptor_options(settings).parts_owner
    abandoned = one.data_dir / "spool" / "incoming" / "upload-1.part"
    for name in (f"{owner}-1.part", f"{parts_owner(receiver_id(settings))}-1.part", abandoned.name):
        abandoned.with_name(name).write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    with opened_database(f"sqlite:///{tmp_path / 'lost.sqlite'}") as lost:
        intake = Intake(lost, spool, IntakeLimits(min_free_bytes=0, max_object_bytes=1 << 30), "r")
        assert intake.store(
            Received(
                sop_class_uid=str(image.SOPClassUID),
                sop_instance_uid=str(image.SOPInstanceUID),
                transfer_syntax_uid=str(ExplicitVRLittleEndian),
                data_set=encoded(image),
                sender=SendingPeer("CT1", "AINODE", "127.0.0.1"),
                association_id="a",
            )
        ) == 0x0000  # fmt: skip
    time.sleep(0.1)
    one.start()
    assert one.wait_for_event(lambda event: event["event"] == "orphans adopted")["objects"] == 1
    assert list(stored_keys(one)) == [str(image.SOPInstanceUID)]
    wait_until_no_part_is_left(one)
    one.restart()
    assert [event["event"] for event in one.events()].count("orphans adopted") == 1


def test_the_node_listens_before_it_loads_what_only_later_work_needs(tmp_path: Path) -> None:
    """On a quiet machine about a second; the bound is wide for busy ones, the list of modules is not."""
    port = free_port()
    one = Node(tmp_path / "node", {"route": [], "dicom": {"port": port}})
    argv = [sys.executable, "-X", "importtime", "-m", "dicom_node", "serve", "--config", str(one.config)]
    with subprocess.Popen(
        argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=REPOSITORY
    ) as process:
        assert process.stderr is not None
        loaded = []
        for line in process.stderr:
            if '"event": "listening"' in line:
                break
            loaded.append(line.rpartition("|")[2].strip())
        assert listens(port)
        process.kill()
        process.stderr.read()
    late = {"torch", "monai", "highdicom", "fastapi", "uvicorn", "scipy", "httpx", "apscheduler", "fhir"}
    assert {name.split(".")[0] for name in loaded} & late == set()


def test_the_node_listens_soon_and_never_loads_torch(node: Callable[..., Node]) -> None:
    one = node(start=False, route=[])
    one.start()  # makes the database
    one.stop()
    port = free_port()
    one.configure({"route": [], "dicom": {"port": port}})
    began = time.monotonic()
    one.start()
    assert listens(port)
    assert time.monotonic() - began < 60
    assert one.process is not None
    maps = Path(f"/proc/{one.process.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert one.stop() == 0

"""Senders that do what the standard allows and few do: they are served like all others."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.peers import raw
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import COMMAND, ECHO_CONTEXT, LAST, STORE_CONTEXT, Raw
from tests.peers.sender import sending
from tests.support.acceptor_state import logged_errors
from tests.support.results.stored_objects import assert_kept, kept_by
from tests.support.studies.small_images import CT_IMAGE, EXPLICIT_LITTLE, IMPLICIT_LITTLE, Image, element, small_image

pytestmark = pytest.mark.timeout(600)

PDU_TIMEOUT_S = 8.0
COMMITMENT, COMMITMENT_INSTANCE, COMMITMENT_CONTEXT = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1", 5
N_EVENT_REPORT_RQ, N_ACTION_RQ, N_ACTION_RSP = b"\x00\x01", b"\x30\x01", b"\x30\x81"


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    # Slots for all that one sender says without waiting: a busy disk may free none meanwhile.
    dicom = {"pdu_timeout_s": PDU_TIMEOUT_S, "journal_mb": 48}
    node = Node(tmp_path_factory.mktemp("odd"), {"route": [], "dicom": dicom})
    node.start()
    yield node
    assert logged_errors(node) == []
    node.kill9()


def fragments_of(image: Image, sizes: Iterator[int]) -> Iterator[tuple[int, bytes]]:
    """Cut command and data set of a C-STORE into fragments (control header, body) of these sizes."""
    command = raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid)
    for whole, kind in ((command, COMMAND), (image.data_set, 0)):
        position = 0
        while position < len(whole):
            piece = whole[position : position + next(sizes)]
            position += len(piece)
            yield kind | (LAST if position >= len(whole) else 0), piece


FRAGMENTINGS: dict[str, Callable[[], Iterator[int]]] = {
    "a byte at a time": lambda: itertools.repeat(1),
    "odd lengths": lambda: itertools.cycle([1, 3, 7, 101, 997]),
    "now and then nothing": lambda: itertools.cycle([0, 500, 0, 0, 3]),
}


@pytest.mark.parametrize("how", FRAGMENTINGS)
@pytest.mark.parametrize("together", [1, 20], ids=["a PDU each", "twenty in a PDU"])
def test_objects_may_come_in_fragments_of_any_size(listener: Node, how: str, together: int) -> None:
    image = small_image(f"{how}-{together}", rows=24)
    fragments = [raw.fragment(STORE_CONTEXT, c, piece) for c, piece in fragments_of(image, FRAGMENTINGS[how]())]
    pdus = [raw.pdu(raw.P_DATA, b"".join(fragments[n : n + together])) for n in range(0, len(fragments), together)]
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(b"".join(pdus))
        answer = peer.receive()
        assert answer is not None
        assert (answer.kind, answer.status) == (raw.P_DATA, 0)
        peer.release()
    assert_kept(listener, [image])


def test_a_last_fragment_may_be_empty(listener: Node) -> None:
    image = small_image("empty-last", rows=24)
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(
            raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
        )
        peer.send(raw.p_data(STORE_CONTEXT, 0, image.data_set) + raw.p_data(STORE_CONTEXT, LAST, b""))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == 0
        peer.release()
    assert_kept(listener, [image])


def test_a_sender_that_does_not_wait_for_answers_gets_all_of_them_in_order(listener: Node) -> None:
    images = [small_image(f"pipelined-{number}", "pipelined", rows=24) for number in range(50)]
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(b"".join(raw.store_pdus(image, number + 1) for number, image in enumerate(images)))
        answers = [peer.receive() for _ in images]
        found = [(a.element(0x120)[0], a.status) for a in answers if a is not None]
        assert found == [(number + 1, 0) for number in range(50)]
        peer.release()
    assert_kept(listener, images)


def test_a_sender_that_says_all_at_once_and_closes_its_half_is_answered_to_the_end(listener: Node) -> None:
    image = small_image("half-closed", rows=24)
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.associate_rq() + raw.store_pdus(image) + raw.pdu(raw.RELEASE_RQ, bytes(4)))
        peer.socket.shutdown(socket.SHUT_WR)
        kinds = [pdu.kind for pdu in iter(peer.receive, None) if pdu is not None]
    assert kinds == [raw.ASSOCIATE_AC, raw.P_DATA, raw.RELEASE_RP]
    assert_kept(listener, [image])


def test_a_pause_between_and_inside_pdus_is_waited_for(listener: Node) -> None:
    image = small_image("pausing", rows=128)
    pdus = raw.store_pdus(image)
    with Raw(listener.dicom_port).opened() as peer:
        for start in range(0, len(pdus), len(pdus) // 4):
            peer.send(pdus[start : start + len(pdus) // 4])
            time.sleep(PDU_TIMEOUT_S / 4)
        answer = peer.receive()
        assert answer is not None
        assert answer.status == 0
    assert_kept(listener, [image])


def commitment_request(*uids: str) -> bytes:
    """The PDUs of an N-ACTION that asks for the commitment of CT images."""
    command = raw.command_set(
        {3: raw.ui(COMMITMENT), 0x100: N_ACTION_RQ, 0x110: raw.us(99), 0x800: raw.us(1),
         0x1001: raw.ui(COMMITMENT_INSTANCE), 0x1008: raw.us(1)}
    )  # fmt: skip
    sop_class = element(0x00081150, b"UI", CT_IMAGE.encode())
    ones = [sop_class + element(0x00081155, b"UI", uid.encode()) for uid in uids]
    items = b"".join(bytes.fromhex("feff00e0") + len(one).to_bytes(4, "little") + one for one in ones)
    data_set = element(0x00081195, b"UI", b"1.2.3.4") + element(0x00081199, b"SQ", items)
    pdus = raw.data_pdus(data_set, context_id=COMMITMENT_CONTEXT)
    return raw.p_data(COMMITMENT_CONTEXT, COMMAND | LAST, command) + b"".join(pdus)


def test_a_slow_sender_that_asked_for_commitment_is_waited_for_as_before(listener: Node) -> None:
    image, after = small_image("committed", rows=24), small_image("after-commitment", rows=128)
    contexts = dict(raw.USUAL_CONTEXTS) | {COMMITMENT_CONTEXT: (COMMITMENT, (EXPLICIT_LITTLE,))}
    with Raw(listener.dicom_port) as peer:
        assert peer.associate(contexts).kind == raw.ASSOCIATE_AC
        assert peer.store(image) == 0
        peer.send(commitment_request(image.sop_instance_uid))
        answer = peer.receive()
        assert answer is not None
        assert (answer.element(0x100), answer.status) == (N_ACTION_RSP, 0)
        pdus = raw.store_pdus(after)
        for piece in (pdus[:5], pdus[5:400], pdus[400:9000], pdus[9000:]):
            peer.send(piece)
            time.sleep(0.7)
        found: list[int] = []
        while not found:
            answer = peer.receive()
            assert answer is not None
            assert answer.kind == raw.P_DATA
            if answer.body[5] & COMMAND and answer.element(0x100) != N_EVENT_REPORT_RQ:
                found.append(answer.status)
        assert found == [0]
    assert_kept(listener, [image, after])


def test_the_outcome_for_thousands_of_objects_comes_whole_on_the_association_that_asked(listener: Node) -> None:
    """A study of today has as many images; the answer is larger than any packet inside the node."""
    image = small_image("one-of-thousands", rows=24)
    missing = [f"1.2.3.{number:040d}" for number in range(1, 6000)]
    contexts = dict(raw.USUAL_CONTEXTS) | {COMMITMENT_CONTEXT: (COMMITMENT, (EXPLICIT_LITTLE,))}
    with Raw(listener.dicom_port, timeout_s=300) as peer:
        assert peer.associate(contexts).kind == raw.ASSOCIATE_AC
        assert peer.store(image) == 0
        peer.send(commitment_request(image.sop_instance_uid, *missing))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == 0
        told, report = 0, b""
        while not told & LAST or told & COMMAND:
            found = peer.receive()
            assert found is not None
            told = found.body[5]
            report += b"" if told & COMMAND else found.body[6:]
        assert report.count(b"1.2.3.0000") == len(missing)
        assert report.count(image.sop_instance_uid.encode()) == 1
    with Raw(listener.dicom_port).opened() as peer:
        assert peer.echo() == 0


def test_an_association_of_which_nothing_is_accepted_is_accepted_and_released(listener: Node) -> None:
    """PS3.8 7.1.1.14: that no presentation context is accepted is not a rejection of the association."""
    query = "1.2.840.10008.5.1.4.1.2.2.1"
    with Raw(listener.dicom_port) as peer:
        answer = peer.associate({1: (query, (IMPLICIT_LITTLE,)), 3: (CT_IMAGE, ("1.2.840.10008.1.2.1.99",))})
        assert answer.kind == raw.ASSOCIATE_AC
        results = [answer.body[place + 6] for place in _places(answer.body, b"\x21\x00")]
        assert results == [3, 4]
        peer.release()


def _places(body: bytes, what: bytes) -> Iterator[int]:
    """Where items of this type begin in the variable part of an A-ASSOCIATE-AC."""
    position = 68
    while position < len(body):
        if body[position : position + 2] == what:
            yield position
        position += 4 + int.from_bytes(body[position + 2 : position + 4])


def test_128_contexts_of_one_class_each_with_one_syntax_are_answered_one_by_one(listener: Node) -> None:
    contexts = {2 * n + 1: (CT_IMAGE, (EXPLICIT_LITTLE if n % 2 else IMPLICIT_LITTLE,)) for n in range(128)}
    image = small_image("last-context", rows=24)
    with Raw(listener.dicom_port) as peer:
        answer = peer.associate(contexts)
        assert [answer.body[p + 6] for p in _places(answer.body, b"\x21\x00")] == [0] * 128
        peer.send(raw.store_pdus(image, context_id=255))
        stored = peer.receive()
        assert stored is not None
        assert stored.status == 0
        peer.release()
    assert_kept(listener, [image])


def test_a_cancel_and_an_echo_between_images_change_nothing(listener: Node) -> None:
    image = small_image("after-cancel", rows=24)
    cancel = raw.command_set({0x100: b"\xff\x0f", 0x120: raw.us(1), 0x800: raw.us(0x101)})
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(raw.p_data(ECHO_CONTEXT, COMMAND | LAST, cancel))
        assert peer.echo() == 0
        assert peer.store(image) == 0
        peer.release()
    assert_kept(listener, [image])


def test_a_stop_in_the_middle_of_everything_loses_nothing_acknowledged(node: Callable[..., Node]) -> None:
    """SIGTERM with three senders at work: the node ends soon and in order, and has it all after the next start."""
    one = node(route=[])
    queues = [(small_image(f"{name}-{n}", name, rows=200) for n in itertools.count()) for name in ("x", "y", "z")]
    stopped = threading.Event()

    def port() -> int:
        if stopped.is_set():
            raise ConnectionRefusedError
        return one.dicom_port

    with sending(port, *queues) as senders:
        wait_until(lambda: all(len(sender.acknowledged) > 10 for sender in senders), 60, "all to be at work")
        assert one.process is not None
        status = one.process.stop(120, signal.SIGTERM)  # after that it is killed, and has another status
        stopped.set()
        assert status == 0
    acknowledged = [image for sender in senders for image in sender.acknowledged]
    one.start()
    assert_kept(one, acknowledged)
    assert {status for sender in senders for status, _ in sender.refused} <= {0xA700}
    rows = [kept.sop_instance_uid for kept in kept_by(one)]
    assert len(rows) == len(set(rows))

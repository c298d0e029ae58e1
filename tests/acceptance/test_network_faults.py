"""Peers that stall, drip, lie about lengths, flood and send malformed PDUs are cut off, and nobody else notices."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.malformed_input import FIRST_WORDS, MALFORMED
from tests.peers import raw
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import COMMAND, ECHO_CONTEXT, LAST, STORE_CONTEXT, Raw
from tests.support.acceptor_state import acceptor_pid, back_at, log_lines, logged_errors, parts, peak_mb, quiet, use_of
from tests.support.results.stored_objects import assert_kept, kept_by
from tests.support.studies.small_images import CT_IMAGE, small_image, uid

pytestmark = pytest.mark.timeout(600)

#: Deadlines of the node that is impatient; the other one waits for 30 and 60 s, as it comes.
PDU_TIMEOUT_S, NETWORK_TIMEOUT_S = 2.0, 3.0
#: What a busy machine may add to a deadline. Less than the patience of the other node: what ends within it has not
#: ended because somebody got tired.
LEEWAY_S = 25.0
MAX_OBJECT_MB = 4
EMPTY = "an empty P-DATA"


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all tests that leave it as it was. It is patient: what it ends, it ends for what was said."""
    # Slots for all that one test stores: a busy disk may free none meanwhile.
    limits = {"max_object_mb": MAX_OBJECT_MB, "journal_mb": 48}
    node = Node(tmp_path_factory.mktemp("faults"), {"route": [], "dicom": limits})
    node.start()
    yield node
    node.kill9()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with short deadlines, for peers that are silent or drip."""
    limits = {"pdu_timeout_s": PDU_TIMEOUT_S, "network_timeout_s": NETWORK_TIMEOUT_S}
    node = Node(tmp_path_factory.mktemp("impatient"), {"route": [], "dicom": limits})
    node.start()
    yield node
    node.kill9()


@pytest.fixture(autouse=True)
def nobody_else_notices(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on a shared node: it answers, has no half objects, and its log has no traceback."""
    (shared,) = {"listener", "impatient"} & set(request.fixturenames)
    node: Node = request.getfixturevalue(shared)
    lines = len(log_lines(node))
    yield
    with Raw(node.dicom_port) as peer:
        assert peer.opened().echo() == 0
        peer.release()
    wait_until(lambda: parts(node) == [], LEEWAY_S, "the removal of half-received objects")
    assert logged_errors(node, lines) == []


# --- silence and dripping ---


@pytest.mark.parametrize("said", [b"", b"\x01\x00\x00"], ids=["nothing", "three bytes of a header"])
def test_a_connection_that_says_too_little_is_closed_in_time(impatient: Node, said: bytes) -> None:
    began = time.monotonic()
    with Raw(impatient.dicom_port) as peer:
        peer.send(said)
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) in {"closed", "abort"}
        assert time.monotonic() - began > PDU_TIMEOUT_S / 2


def test_a_request_that_stops_half_way_is_cut_off(impatient: Node) -> None:
    with Raw(impatient.dicom_port) as peer:
        peer.send(raw.associate_rq()[:-20])
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) in {"closed", "abort"}


def test_an_association_without_a_word_is_aborted_after_the_network_timeout(impatient: Node) -> None:
    began = time.monotonic()
    with Raw(impatient.dicom_port).opened() as peer:
        assert peer.end(NETWORK_TIMEOUT_S + PDU_TIMEOUT_S + LEEWAY_S) == "abort"
        assert time.monotonic() - began >= NETWORK_TIMEOUT_S - 0.1


@pytest.mark.parametrize("part_of", ["P-DATA header", "fragment header", "fragment", "object"])
def test_a_pdu_that_stops_half_way_is_aborted_by_its_deadline(impatient: Node, part_of: str) -> None:
    image = small_image("half", rows=256)
    command = raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
    first, *_ = raw.data_pdus(image.data_set)
    cut = {"P-DATA header": first[:3], "fragment header": first[:11], "fragment": first[:9000], "object": first}
    with Raw(impatient.dicom_port).opened() as peer:
        peer.send(command + cut[part_of])
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) == "abort"


def test_an_empty_p_data_is_aborted_by_its_deadline(impatient: Node) -> None:
    """Not at once: the node reads the length of the first fragment together with the head, which is one call less."""
    with Raw(impatient.dicom_port).opened() as peer:
        peer.send(MALFORMED[EMPTY])
        assert peer.end(PDU_TIMEOUT_S + NETWORK_TIMEOUT_S + LEEWAY_S) == "abort"


def drip(peer: Raw, pieces: Iterator[bytes], give_up_s: float) -> float:
    """Send a piece every 50 ms until the peer has hung up; return how long that took, `give_up_s` if it never did."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < give_up_s:
            peer.send(next(pieces))
            peer.socket.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                if peer.socket.recv(4096) == b"":
                    return time.monotonic() - began
    return min(time.monotonic() - began, give_up_s)


def bytewise(data: bytes) -> Iterator[bytes]:
    for position in range(len(data)):
        yield data[position : position + 1]
    while True:
        yield b"\0"


def test_a_request_that_drips_is_cut_off_at_its_deadline(impatient: Node) -> None:
    with Raw(impatient.dicom_port) as peer:
        endless = raw.pdu(raw.ASSOCIATE_RQ, raw.associate_rq()[6:], length=100_000)
        assert drip(peer, bytewise(endless), 60) < PDU_TIMEOUT_S + LEEWAY_S


def test_a_data_set_that_drips_byte_by_byte_is_cut_off_at_the_deadline_of_its_pdu(impatient: Node) -> None:
    image = small_image("drip", rows=256)
    first, *_ = raw.data_pdus(image.data_set)
    with Raw(impatient.dicom_port).opened() as peer:
        peer.send(
            raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
        )
        assert drip(peer, bytewise(first), 60) < PDU_TIMEOUT_S + LEEWAY_S


def test_a_pdu_of_a_thousand_tiny_fragments_cannot_stretch_its_deadline(impatient: Node) -> None:
    image = small_image("stretch")
    pdu = raw.pdu(raw.P_DATA, b"".join(raw.fragment(STORE_CONTEXT, 0, b"x") for _ in range(1000)))
    fragments = iter([pdu[:6], *(pdu[start : start + 7] for start in range(6, len(pdu), 7))])
    with Raw(impatient.dicom_port).opened() as peer:
        peer.send(
            raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
        )
        assert drip(peer, fragments, 60) < PDU_TIMEOUT_S + LEEWAY_S


def test_a_peer_that_never_reads_its_answers_does_not_keep_its_association(impatient: Node) -> None:
    """It sends C-ECHO requests without end and takes no response; the node's write must give up, not wait for ever."""
    before = quiet(impatient)
    peer = Raw(impatient.dicom_port).opened()
    echo = raw.p_data(ECHO_CONTEXT, COMMAND | LAST, raw.c_echo_rq()) * 500
    peer.socket.settimeout(0.5)
    with contextlib.suppress(OSError):
        while True:
            peer.send(echo)
    peer.close()
    back_at(impatient, before, LEEWAY_S)


# --- lengths that lie ---


def test_a_request_that_announces_four_gigabytes_is_closed_at_once(listener: Node) -> None:
    before = use_of(listener)
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.pdu(raw.ASSOCIATE_RQ, raw.associate_rq()[6:], length=0xFFFFFFF0))
        assert peer.end(LEEWAY_S) in {"closed", "abort"}
    assert use_of(listener).rss_mb - before.rss_mb < 10


def test_a_p_data_that_announces_four_gigabytes_is_aborted_at_once(listener: Node) -> None:
    before = use_of(listener)
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(struct.pack(">BxLLBB", raw.P_DATA, 0xFFFFFFF0, 0xFFFFFFEC, STORE_CONTEXT, 0) + bytes(1 << 16))
        assert peer.end(LEEWAY_S) == "abort"
    assert use_of(listener).rss_mb - before.rss_mb < 10


def test_a_p_data_above_the_negotiated_length_is_aborted(listener: Node) -> None:
    image = small_image("too-long", rows=512)
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(raw.store_pdus(image, pdu_bytes=1 << 18))
        assert peer.end(LEEWAY_S) == "abort"
    assert image.sop_instance_uid not in {kept.sop_instance_uid for kept in kept_by(listener)}


@pytest.mark.parametrize("length", [0, 1, 5, 100_000, 0xFFFFFFFF])
def test_a_fragment_that_does_not_fit_its_pdu_is_aborted(listener: Node, length: int) -> None:
    with Raw(listener.dicom_port).opened() as peer:
        body = struct.pack(">LBB", length, STORE_CONTEXT, COMMAND | LAST) + bytes(64)
        peer.send(raw.pdu(raw.P_DATA, body))
        assert peer.end(LEEWAY_S) == "abort"


def test_fragments_without_a_last_one_are_aborted_at_the_largest_object_and_leave_no_file(listener: Node) -> None:
    image = small_image("endless", rows=1024)
    command = raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
    endless = raw.p_data(STORE_CONTEXT, 0, bytes(16384 - 6))
    with Raw(listener.dicom_port).opened() as peer:
        # What is sent and not yet received shall be little, so that it says when the node has stopped to receive.
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        peer.send(command + b"".join(list(raw.data_pdus(image.data_set))[:-1]))
        wait_until(lambda: len(parts(listener)) == 1, LEEWAY_S, "the streaming of the object to a file")
        sent = len(image.data_set)
        with contextlib.suppress(ConnectionError):
            while sent < 4 * MAX_OBJECT_MB << 20:
                peer.send(endless)
                sent += 16384
        assert peer.end(LEEWAY_S) in {"abort", "reset"}
    wait_until(lambda: parts(listener) == [], LEEWAY_S, "the removal of the half-received object")
    assert sent < (MAX_OBJECT_MB + 8) << 20


def test_commands_without_end_are_aborted_with_little_memory(listener: Node) -> None:
    before = use_of(listener)
    with Raw(listener.dicom_port).opened() as peer:
        with contextlib.suppress(ConnectionError):
            for _ in range(500):
                peer.send(raw.p_data(STORE_CONTEXT, COMMAND, bytes(10_000)))
        assert peer.end(LEEWAY_S) in {"abort", "reset"}
    assert use_of(listener).rss_mb - before.rss_mb < 10


# --- what no sender says ---


@pytest.mark.parametrize("what", [what for what in MALFORMED if what != EMPTY])
def test_what_no_sender_says_on_an_association_is_aborted(listener: Node, what: str) -> None:
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(MALFORMED[what])
        assert peer.end(LEEWAY_S) == "abort"


@pytest.mark.parametrize("what", FIRST_WORDS)
def test_a_first_word_that_is_no_proper_request_ends_the_connection(impatient: Node, what: str) -> None:
    """Some announce more than they say, and end at the deadline."""
    with Raw(impatient.dicom_port) as peer:
        peer.send(FIRST_WORDS[what])
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) != "open"


@pytest.mark.parametrize(
    "items",
    [raw.item(0x58, b"\2\1\0\xff" + b"user"), raw.item(0x56, b"\0\0"), raw.item(0x5F, b"?"), raw.item(0x53, b"\0\2")],
    ids=["identity that is cut off", "extended negotiation of nothing", "unknown item", "half a window"],
)
def test_an_odd_user_item_is_refused_or_passed_over(listener: Node, items: bytes) -> None:
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.associate_rq(user_items=items))
        answer = peer.receive()
        if answer is not None and answer.kind == raw.ASSOCIATE_AC:
            assert peer.echo() == 0
            peer.release()


def test_another_protocol_version_or_application_context_is_rejected_by_its_reason(listener: Node) -> None:
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.associate_rq(version=2))
        answer = peer.receive()
        assert answer is not None
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (1, 2, 2))
    other = raw.associate_rq().replace(raw.APPLICATION_CONTEXT.encode(), b"1.2.840.10008.3.1.1.2")
    with Raw(listener.dicom_port) as peer:
        peer.send(other)
        answer = peer.receive()
        assert answer is not None
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (1, 1, 2))


# --- ends in the middle ---


@pytest.mark.parametrize("how", ["abort", "reset"])
def test_an_abort_or_a_reset_between_images_keeps_the_earlier_ones(listener: Node, how: str) -> None:
    images = [small_image(f"{how}-{number}", how) for number in range(5)]
    peer = Raw(listener.dicom_port).opened()
    assert [peer.store(image) for image in images] == [0] * 5
    getattr(peer, how)()
    assert_kept(listener, images)


@pytest.mark.parametrize("rows", [64, 1200], ids=["small", "streamed"])
@pytest.mark.parametrize("how", ["close", "reset", "abort"])
def test_a_sender_that_dies_inside_an_object_leaves_nothing_of_it_and_others_go_on(
    listener: Node, how: str, rows: int
) -> None:
    image = small_image(f"dies-{how}-{rows}", rows=rows)
    whole = raw.store_pdus(image)
    other = Raw(listener.dicom_port).opened()
    peer = Raw(listener.dicom_port).opened()
    peer.send(whole[: len(whole) * 9 // 10])
    if rows > 1000:
        wait_until(lambda: len(parts(listener)) == 1, LEEWAY_S, "the streaming of a large object")
    assert other.store(small_image(f"beside-{how}-{rows}")) == 0
    getattr(peer, how)()
    wait_until(lambda: parts(listener) == [], LEEWAY_S, "the removal of the half-received object")
    assert other.echo() == 0
    other.release()
    names = {kept.sop_instance_uid for kept in kept_by(listener)}
    assert image.sop_instance_uid not in names
    assert uid(f"beside-{how}-{rows}") in names


# --- much at once ---


def test_requests_as_large_as_allowed_do_not_keep_others_waiting(
    listener: Node, machine_stall_s: Callable[[], float]
) -> None:
    """The most expensive thing a stranger can ask for: 128 contexts with hundreds of transfer syntaxes each."""
    syntaxes = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(250))
    most = raw.associate_rq({2 * n + 1: (CT_IMAGE, syntaxes) for n in range(120)}, calling="GREEDY")
    asked, over = threading.Event(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), Raw(listener.dicom_port) as peer:
                peer.send(most)
                peer.receive()
                asked.set()

    greedy = [threading.Thread(target=ask) for _ in range(4)]
    for thread in greedy:
        thread.start()
    try:
        assert asked.wait(60)
        waits = []
        for _ in range(5):
            began = time.monotonic()
            with Raw(listener.dicom_port).opened() as peer:
                assert peer.echo() == 0
                peer.release()
            waits.append(time.monotonic() - began)
    finally:
        over.set()
        for thread in greedy:
            thread.join()
    # Each of the four takes its turns of the one processor; who had to wait for them would wait for many seconds.
    assert sorted(waits)[len(waits) // 2] < 3.0 + machine_stall_s(), waits


def test_after_a_storm_of_faults_everything_is_as_before(listener: Node) -> None:
    chance = random.Random(20261121)
    with Raw(listener.dicom_port).opened() as peer:
        assert peer.store(small_image("before-the-storm")) == 0
    before = quiet(listener)
    faults = list(FAULTS.values())
    images = [small_image(f"storm-{number}", "storm") for number in range(40)]
    storm = [
        threading.Thread(target=_blow, args=(listener.dicom_port, chance.choices(faults, k=100), chance.random()))
        for _ in range(4)
    ]
    for thread in storm:
        thread.start()
    with Raw(listener.dicom_port).opened() as peer:
        assert [peer.store(image) for image in images] == [0] * len(images)
        peer.release()
    for thread in storm:
        thread.join()
    after = back_at(listener, before)
    assert after.rss_mb - before.rss_mb < 30, (before, after)
    assert_kept(listener, images)
    assert acceptor_pid(listener)
    assert peak_mb(listener) < 400


def _blow(port: int, faults: list[Callable[[Raw, random.Random], None]], seed: float) -> None:
    chance = random.Random(seed)
    for fault in faults:
        with contextlib.suppress(OSError, AssertionError), Raw(port, timeout_s=2) as peer:
            fault(peer, chance)


def _half_an_object(peer: Raw, chance: random.Random) -> None:
    whole = raw.store_pdus(small_image("storm-half", rows=chance.choice([64, 900])))
    peer.opened().send(whole[: chance.randrange(len(whole) - 1)])


def _reset_inside(peer: Raw, chance: random.Random) -> None:
    _half_an_object(peer, chance)
    peer.reset()


def _malformed(peer: Raw, chance: random.Random) -> None:
    peer.opened().send(chance.choice(list(MALFORMED.values())))
    peer.end(1)


def _first_word(peer: Raw, chance: random.Random) -> None:
    peer.send(chance.choice(list(FIRST_WORDS.values())))


def _too_long(peer: Raw, chance: random.Random) -> None:
    peer.opened().send(raw.pdu(raw.P_DATA, bytes(40), length=chance.choice([0, 3, 1 << 20, 0xFFFFFFF0])))
    peer.end(1)


def _half_closed(peer: Raw, chance: random.Random) -> None:
    _half_an_object(peer, chance)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.end(1)


FAULTS: dict[str, Callable[[Raw, random.Random], None]] = {
    "half an object": _half_an_object,
    "reset": _reset_inside,
    "malformed": _malformed,
    "first word": _first_word,
    "too long": _too_long,
    "half closed": _half_closed,
}

"""Peers that stall, drip, lie about lengths, flood and talk nonsense: each is cut off, and nobody else notices."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.acceptor_state import acceptor_pid, back_at, log_lines, parts, peak_mb, quiet, troubles, use_of
from tests.ledger import assert_kept, kept_by
from tests.peers import raw
from tests.peers.dcmtk import echoscu
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import COMMAND, ECHO_CONTEXT, LAST, STORE_CONTEXT, Raw
from tests.small_images import CT_IMAGE, IMPLICIT_LITTLE, small_image, uid

pytestmark = pytest.mark.timeout(300)

PDU_TIMEOUT_S, NETWORK_TIMEOUT_S = 2.0, 3.0
#: What a busy machine may add to a deadline.
LEEWAY_S = 1.5
MAX_OBJECT_MB = 4


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One impatient node for all tests that leave it as it was."""
    limits = {"pdu_timeout_s": PDU_TIMEOUT_S, "network_timeout_s": NETWORK_TIMEOUT_S, "max_object_mb": MAX_OBJECT_MB}
    node = Node(tmp_path_factory.mktemp("faults"), {"route": [], "dicom": limits})
    node.start()
    yield node
    node.kill9()


@pytest.fixture(autouse=True)
def nobody_else_notices(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on the shared node: it answers, has no half objects, and its log has no traceback."""
    if "listener" not in request.fixturenames:
        yield
        return
    node: Node = request.getfixturevalue("listener")
    lines = len(log_lines(node))
    yield
    with Raw(node.dicom_port) as peer:
        assert peer.opened().echo() == 0
        peer.release()
    wait_until(lambda: parts(node) == [], 5, "the removal of half-received objects")
    assert troubles(node, lines) == []


def took(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


# --- silence and dripping ---


@pytest.mark.parametrize("said", [b"", b"\x01\x00\x00"], ids=["nothing", "three bytes of a header"])
def test_a_connection_that_says_too_little_is_closed_in_time(listener: Node, said: bytes) -> None:
    with Raw(listener.dicom_port) as peer:
        peer.send(said)
        began = time.monotonic()
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) in {"closed", "abort"}
        assert time.monotonic() - began > PDU_TIMEOUT_S / 2


def test_a_request_that_stops_half_way_is_cut_off(listener: Node) -> None:
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.associate_rq()[:-20])
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) in {"closed", "abort"}


def test_an_association_without_a_word_is_aborted_after_the_network_timeout(listener: Node) -> None:
    with Raw(listener.dicom_port).opened() as peer:
        began = time.monotonic()
        assert peer.end(NETWORK_TIMEOUT_S + PDU_TIMEOUT_S + LEEWAY_S) == "abort"
        assert time.monotonic() - began >= NETWORK_TIMEOUT_S - 0.1


@pytest.mark.parametrize("part_of", ["P-DATA header", "fragment header", "fragment", "object"])
def test_a_pdu_that_stops_half_way_is_aborted_by_its_deadline(listener: Node, part_of: str) -> None:
    image = small_image("half", rows=256)
    command = raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
    first, *_ = raw.data_pdus(image.data_set)
    cut = {"P-DATA header": first[:3], "fragment header": first[:11], "fragment": first[:9000], "object": first}
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(command + cut[part_of])
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) == "abort"


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


def test_a_request_that_drips_is_cut_off_at_its_deadline(listener: Node) -> None:
    with Raw(listener.dicom_port) as peer:
        endless = raw.pdu(raw.ASSOCIATE_RQ, raw.associate_rq()[6:], length=100_000)
        assert drip(peer, bytewise(endless), 15) < PDU_TIMEOUT_S + LEEWAY_S


def test_a_data_set_that_drips_byte_by_byte_is_cut_off_at_the_deadline_of_its_pdu(listener: Node) -> None:
    image = small_image("drip", rows=256)
    first, *_ = raw.data_pdus(image.data_set)
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(
            raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
        )
        assert drip(peer, bytewise(first), 15) < PDU_TIMEOUT_S + LEEWAY_S


def test_a_pdu_of_a_thousand_tiny_fragments_cannot_stretch_its_deadline(listener: Node) -> None:
    image = small_image("stretch")
    pdu = raw.pdu(raw.P_DATA, b"".join(raw.fragment(STORE_CONTEXT, 0, b"x") for _ in range(1000)))
    fragments = iter([pdu[:6], *(pdu[start : start + 7] for start in range(6, len(pdu), 7))])
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(
            raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
        )
        assert drip(peer, fragments, 15) < PDU_TIMEOUT_S + LEEWAY_S


def test_a_peer_that_never_reads_its_answers_does_not_keep_its_association(listener: Node) -> None:
    """It sends C-ECHO requests without end and takes no response; the node's write must give up, not wait for ever."""
    before = quiet(listener)
    peer = Raw(listener.dicom_port).opened()
    echo = raw.p_data(ECHO_CONTEXT, COMMAND | LAST, raw.c_echo_rq()) * 500
    peer.socket.settimeout(0.5)
    with contextlib.suppress(OSError):
        while True:
            peer.send(echo)
    began = time.monotonic()
    peer.close()
    back_at(listener, before, 10)
    assert time.monotonic() - began < 10


# --- lengths that lie ---


def test_a_request_that_announces_four_gigabytes_is_closed_at_once(listener: Node) -> None:
    before = use_of(listener)
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.pdu(raw.ASSOCIATE_RQ, raw.associate_rq()[6:], length=0xFFFFFFF0))
        assert took(lambda: peer.end(10)) < 1.2
    assert use_of(listener).rss_mb - before.rss_mb < 10


def test_a_p_data_that_announces_four_gigabytes_is_aborted_at_once(listener: Node) -> None:
    before = use_of(listener)
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(struct.pack(">BxLLBB", raw.P_DATA, 0xFFFFFFF0, 0xFFFFFFEC, STORE_CONTEXT, 0) + bytes(1 << 16))
        began = time.monotonic()
        assert peer.end(10) == "abort"
        assert time.monotonic() - began < 1.2
    assert use_of(listener).rss_mb - before.rss_mb < 10


def test_a_p_data_above_the_negotiated_length_is_aborted(listener: Node) -> None:
    image = small_image("too-long", rows=512)
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(raw.store_pdus(image, pdu_bytes=1 << 18))
        assert peer.end(5) == "abort"
    assert image.sop_instance_uid not in {kept.sop_instance_uid for kept in kept_by(listener)}


@pytest.mark.parametrize("length", [0, 1, 5, 100_000, 0xFFFFFFFF])
def test_a_fragment_that_does_not_fit_its_pdu_is_aborted(listener: Node, length: int) -> None:
    with Raw(listener.dicom_port).opened() as peer:
        body = struct.pack(">LBB", length, STORE_CONTEXT, COMMAND | LAST) + bytes(64)
        peer.send(raw.pdu(raw.P_DATA, body))
        assert peer.end(5) == "abort"


def test_fragments_without_a_last_one_are_aborted_at_the_largest_object_and_leave_no_file(listener: Node) -> None:
    image = small_image("endless", rows=1024)
    command = raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_store_rq(image.sop_class_uid, image.sop_instance_uid))
    endless = raw.p_data(STORE_CONTEXT, 0, bytes(16384 - 6))
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(command + b"".join(list(raw.data_pdus(image.data_set))[:-1]))
        sent, seen = len(image.data_set), 0
        with contextlib.suppress(ConnectionError):
            while sent < 4 * MAX_OBJECT_MB << 20:
                peer.send(endless)
                sent += 16384
                seen = max(seen, len(parts(listener)))
        assert seen == 1, "the object was not streamed to a file"
        assert peer.end(5) in {"abort", "reset"}
    wait_until(lambda: parts(listener) == [], 5, "the removal of the half-received object")
    assert sent < (MAX_OBJECT_MB + 8) << 20


def test_commands_without_end_are_aborted_with_little_memory(listener: Node) -> None:
    before = use_of(listener)
    with Raw(listener.dicom_port).opened() as peer:
        with contextlib.suppress(ConnectionError):
            for _ in range(500):
                peer.send(raw.p_data(STORE_CONTEXT, COMMAND, bytes(10_000)))
        assert peer.end(5) in {"abort", "reset"}
    assert use_of(listener).rss_mb - before.rss_mb < 10


# --- nonsense ---


def garbage() -> bytes:
    return random.Random(1).randbytes(300)


NONSENSE: dict[str, bytes] = {
    "a command set of random bytes": raw.p_data(STORE_CONTEXT, COMMAND | LAST, garbage()),
    "an empty command set": raw.p_data(STORE_CONTEXT, COMMAND | LAST, b""),
    "a command that ends inside an element": raw.p_data(ECHO_CONTEXT, COMMAND | LAST, raw.c_echo_rq()[:-3]),
    "an unknown command": raw.p_data(
        ECHO_CONTEXT, COMMAND | LAST, raw.command_set({0x100: raw.us(0x7777), 0x110: raw.us(1), 0x800: raw.us(0x101)})
    ),
    "a response nobody asked for": raw.p_data(
        ECHO_CONTEXT, COMMAND | LAST, raw.command_set({0x100: raw.us(0x8030), 0x120: raw.us(1), 0x800: raw.us(0x101)})
    ),
    "a query": raw.p_data(
        STORE_CONTEXT, COMMAND | LAST, raw.command_set({0x100: raw.us(0x20), 0x110: raw.us(1), 0x800: raw.us(1)})
    ),
    "a context that was never proposed": raw.p_data(99, COMMAND | LAST, raw.c_echo_rq()),
    "a command field of four bytes": raw.p_data(
        ECHO_CONTEXT, COMMAND | LAST, raw.command_set({0x100: b"\x30\0\0\0", 0x110: raw.us(1), 0x800: raw.us(0x101)})
    ),
    "a data set before its command": raw.p_data(STORE_CONTEXT, LAST, bytes(100)),
    "an echo in the context of storage": raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_echo_rq()),
    "an echo with a data set": raw.p_data(
        ECHO_CONTEXT,
        COMMAND | LAST,
        raw.command_set({2: raw.ui(raw.VERIFICATION), 0x100: raw.us(0x30), 0x110: raw.us(1), 0x800: raw.us(1)}),
    ),
    "a second A-ASSOCIATE-RQ": raw.associate_rq(),
    "an A-ASSOCIATE-AC": raw.pdu(raw.ASSOCIATE_AC, raw.associate_rq()[6:]),
    "a PDU of an unknown type": raw.pdu(0x7F, bytes(20)),
    "a release request of the wrong length": raw.pdu(raw.RELEASE_RQ, bytes(20)),
    "an empty P-DATA": raw.pdu(raw.P_DATA, b""),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_on_an_association_is_aborted(listener: Node, what: str) -> None:
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(NONSENSE[what])
        assert peer.end(5) == "abort"


FIRST_WORDS: dict[str, bytes] = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "random bytes": garbage(),
    "a P-DATA": raw.p_data(1, COMMAND | LAST, raw.c_echo_rq()),
    "a release request": raw.pdu(raw.RELEASE_RQ, bytes(4)),
    "a request of zeros": raw.pdu(raw.ASSOCIATE_RQ, bytes(300)),
    "a request without presentation contexts": raw.associate_rq({}),
    "a request whose item is longer than itself": raw.associate_rq()[:74] + b"\x10\0\xff\xff" + bytes(60),
    "a request with an empty abstract syntax": raw.associate_rq({1: ("", (IMPLICIT_LITTLE,))}),
    "a request without transfer syntaxes": raw.associate_rq({1: (raw.VERIFICATION, ())}),
    "a request with the same context twice": raw.pdu(
        raw.ASSOCIATE_RQ,
        raw.associate_rq()[6:]
        + raw.item(0x20, b"\1\0\0\0" + raw.item(0x30, b"1.2") + raw.item(0x40, IMPLICIT_LITTLE.encode())),
    ),
    "a request of 200 contexts": raw.associate_rq(dict.fromkeys(range(1, 201), (raw.VERIFICATION, (IMPLICIT_LITTLE,)))),
    "titles that are no text": raw.associate_rq(calling=bytes(range(128, 144)), called=b"\xff" * 16),
    "a role selection of nothing": raw.associate_rq(user_items=raw.item(0x54, b"\xff\xff")),
}


@pytest.mark.parametrize("what", FIRST_WORDS)
def test_a_first_word_that_is_no_proper_request_ends_the_connection(listener: Node, what: str) -> None:
    with Raw(listener.dicom_port) as peer:
        peer.send(FIRST_WORDS[what])
        began = time.monotonic()
        assert peer.end(PDU_TIMEOUT_S + LEEWAY_S) != "open"
        assert time.monotonic() - began < PDU_TIMEOUT_S + LEEWAY_S


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
        wait_until(lambda: len(parts(listener)) == 1, 5, "the streaming of a large object")
    assert other.store(small_image(f"beside-{how}-{rows}")) == 0
    began = time.monotonic()
    getattr(peer, how)()
    wait_until(lambda: parts(listener) == [], 5, "the removal of the half-received object")
    assert time.monotonic() - began < 5
    assert other.echo() == 0
    other.release()
    names = {kept.sop_instance_uid for kept in kept_by(listener)}
    assert image.sop_instance_uid not in names
    assert uid(f"beside-{how}-{rows}") in names


# --- crowds ---


def test_five_hundred_idle_connections_do_not_keep_an_allowed_modality_out(node: Callable[..., Node]) -> None:
    one = node(route=[], dicom={"max_associations": 16}, peer=[{"ae_title": "MOD1", "host": "127.0.0.0/8"}])
    before = quiet(one)
    crowd = [socket.create_connection(("127.0.0.1", one.dicom_port)) for _ in range(500)]
    try:
        began = time.monotonic()
        assert echoscu(one.dicom_port).returncode == 0
        with Raw(one.dicom_port).opened() as peer:
            assert peer.store(small_image("through-the-crowd")) == 0
            peer.release()
        assert time.monotonic() - began < 5
        now = use_of(one)
        assert now.threads - before.threads <= 200, (before, now)
        assert now.descriptors - before.descriptors <= 250, (before, now)
    finally:
        for connection in crowd:
            connection.close()
    back_at(one, before)
    assert troubles(one) == []


def test_descriptors_above_1023_serve_as_well_as_others(node: Callable[..., Node]) -> None:
    many = 1100
    one = node(route=[], dicom={"max_associations": 2000, "max_associations_per_peer": 2000})
    before = quiet(one)
    crowd = []
    try:
        for _ in range(many):
            peer = Raw(one.dicom_port)
            crowd.append(peer.opened())
        assert use_of(one).descriptors > 1024
        assert echoscu(one.dicom_port).returncode == 0
        image = small_image("above-1023", rows=1024)
        assert crowd[-1].store(image) == 0
        assert crowd[-1].echo() == 0
        with Raw(one.dicom_port) as rejected:
            rejected.send(raw.associate_rq(called="OTHER"))
            answer = rejected.receive()
            assert answer is not None
            assert answer.kind == raw.ASSOCIATE_RJ
            assert rejected.end(5) == "closed"
    finally:
        for peer in crowd:
            peer.close()
    back_at(one, before, 20, rss_mb=120)
    assert_kept(one, [image])
    assert troubles(one) == []


def test_one_address_cannot_take_all_associations(node: Callable[..., Node]) -> None:
    one = node(route=[], dicom={"max_associations": 8, "max_associations_per_peer": 4})
    held = [Raw(one.dicom_port).opened() for _ in range(4)]
    with Raw(one.dicom_port) as fifth:
        answer = fifth.associate()
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (2, 3, 2))
    held[0].release()
    with Raw(one.dicom_port) as again:
        wait_until(lambda: _is_accepted(one), 5, "a free place")
        assert again.opened().echo() == 0
    for peer in held:
        peer.close()


def _is_accepted(node: Node) -> bool:
    with Raw(node.dicom_port) as peer:
        accepted = peer.associate().kind == raw.ASSOCIATE_AC
        if accepted:
            peer.release()
        return accepted


@pytest.mark.parametrize(("calling", "host"), [("NOBODY", "127.0.0.0/8"), ("MOD1", "10.1.2.0/24")])
def test_an_unknown_title_or_address_is_rejected_with_a_line_in_the_log(
    node: Callable[..., Node], calling: str, host: str
) -> None:
    one = node(route=[], peer=[{"ae_title": "MOD1", "host": host}])
    with Raw(one.dicom_port) as peer:
        answer = peer.associate(calling=calling)
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (1, 1, 3))
        assert peer.end(5) == "closed"
    line = one.wait_for_event(lambda event: event["event"] == "association rejected", 5)
    assert (line["calling_ae_title"], line["host"]) == (calling, "127.0.0.1")


def test_requests_as_large_as_allowed_do_not_keep_others_waiting(listener: Node) -> None:
    """The most expensive thing a stranger can ask for: 128 contexts with hundreds of transfer syntaxes each."""
    syntaxes = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(250))
    most = raw.associate_rq({2 * n + 1: (CT_IMAGE, syntaxes) for n in range(120)}, calling="GREEDY")
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), Raw(listener.dicom_port) as peer:
                peer.send(most)
                peer.receive()

    greedy = [threading.Thread(target=ask) for _ in range(4)]
    for thread in greedy:
        thread.start()
    try:
        time.sleep(0.5)
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
    assert sorted(waits)[len(waits) // 2] < 1.0, waits


# --- all together ---


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
    after = back_at(listener, before, PDU_TIMEOUT_S + NETWORK_TIMEOUT_S + 10)
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


def _nonsense(peer: Raw, chance: random.Random) -> None:
    peer.opened().send(chance.choice(list(NONSENSE.values())))
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
    "nonsense": _nonsense,
    "first word": _first_word,
    "too long": _too_long,
    "half closed": _half_closed,
}

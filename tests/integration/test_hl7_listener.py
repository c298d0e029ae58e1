"""The HL7 door: what obeys is taken once and acknowledged when it is durable, what does not costs nobody anything."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hl7apy.core import Message
from hl7apy.parser import parse_message
from sqlalchemy import func, select, text

from dicom_node.core.entities import PatientNumber
from dicom_node.index.database import Database
from dicom_node.index.received.patients import number_in_use
from dicom_node.index.tables import hl7_messages, orders
from dicom_node.orders.acknowledgement import Acknowledger
from dicom_node.orders.inbox import Inbox, InboxOptions
from dicom_node.receive.acceptor.transport import tls_context
from dicom_node.receive.channel import CallerRefused
from dicom_node.receive.mllp import MllpListener, MllpOptions, SenderOption
from tests.peers import npm
from tests.peers.certificates import make_certificates
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.hl7.messages import merge, message, order, pid
from tests.support.hl7.peers import END, START, answers, code, next_answer, raw, send
from tests.support.needs import REPOSITORY, tool
from tests.support.results.arrivals import opened_database

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
Listen = Callable[..., MllpListener]


@pytest.fixture
def listen(index: Database) -> Iterator[Listen]:
    """Start listeners over an empty index; all end with the test."""
    with listening(index) as start:
        yield start


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Listen]:
    """Start listeners where it does not matter which database is behind them."""
    with opened_database(f"sqlite:///{tmp_path / 'door.sqlite'}") as database, listening(database) as start:
        yield start


@contextmanager
def listening(index: Database) -> Iterator[Listen]:
    started: list[MllpListener] = []

    def start(**options: Any) -> MllpListener:
        inbox = Inbox(index, InboxOptions(speaker=Acknowledger("AINODE"), patient_authority="HOSP"), lambda: None)
        listener = MllpListener(socket.create_server(("127.0.0.1", 0)), MllpOptions(**options), inbox)
        listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop()
        listener.join()


def count(index: Database, table: Any) -> int:
    with index.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# --- those who obey ------------------------------------------------------------------------------------------------


def test_an_order_is_acknowledged_when_it_is_in_the_index_and_taken_once(index: Database, listen: Listen) -> None:
    port, text = listen().port, order("A1")
    assert [code(send(port, text)) for _ in range(3)] == ["AA", "AA", "AA"]
    assert (count(index, orders), count(index, hl7_messages)) == (1, 1)


def test_answers_are_read_by_a_parser_that_knows_the_grammar(door: Listen) -> None:
    port = door().port
    for sent in (order("A1", control_id="C1"), message("ADT^A03^ADT_A03", pid("1"), control_id="C1")):
        read = parse_message(send(port, sent), find_groups=False)
        assert read.msa.msa_2.value == "C1"
        assert read.validate()


def test_a_message_that_a_library_has_built_by_the_grammar_is_taken(index: Database, listen: Listen) -> None:
    made = Message("ADT_A39", version="2.5.1")
    made.msh.msh_3, made.msh.msh_4, made.msh.msh_9 = "HIS", "HOSPITAL", "ADT^A40^ADT_A39"
    made.msh.msh_10, made.msh.msh_11, made.evn.evn_2 = "A40-1", "P", "20261120"
    group = made.add_group("ADT_A39_PATIENT")
    group.pid.pid_3, group.pid.pid_5, group.mrg.mrg_1 = "NEW^^^HOSP^MR", "Muster^Erika", "OLD^^^HOSP^MR"
    assert made.validate()
    assert code(send(listen().port, made.to_er7())) == "AA"
    with index.read() as connection:
        assert number_in_use(connection, PatientNumber("OLD", "HOSP")) == PatientNumber("NEW", "HOSP")


def test_a_parser_of_another_language_reads_the_answer(door: Listen) -> None:
    packages = npm.installed(REPOSITORY / "tests" / "peers" / "fhir")
    script = (
        "const {Hl7Message} = require('@medplum/core');"
        "const ack = Hl7Message.parse(require('fs').readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify([ack.getSegment('MSA').getField(1).toString(), "
        "ack.getSegment('MSA').getField(2).toString(), ack.getSegment('ERR').getComponent(3, 1)]))"
    )
    answer = send(door().port, message("ORM^O02^ORM_O02", pid("1"), control_id="C7"))
    words, path = [tool("node", "nodejs"), "-e", script], {"NODE_PATH": str(packages / "node_modules")}
    told = subprocess.run(words, input=answer, text=True, capture_output=True, check=True, env=path)
    assert json.loads(told.stdout) == ["AR", "C7", "201"]


def test_a_message_in_single_bytes_and_many_in_one_packet_are_answered_in_order(door: Listen) -> None:
    texts = [order(f"A{number}", control_id=f"C{number}") for number in range(5)]
    framed = [START + one.encode() + END for one in texts]
    with raw(door().port) as connection:
        for byte in framed[0]:
            connection.sendall(bytes([byte]))
        assert code(next_answer(connection)) == "AA"
        connection.sendall(b"\r\n".join(framed[1:]))
        connection.shutdown(socket.SHUT_WR)
        told = answers(connection)
    assert [one.split("\rMSA|", 1)[1].split("|")[:2] for one in told] == [["AA", f"C{n}"] for n in range(1, 5)]


def test_while_the_index_cannot_be_written_nothing_is_acknowledged_as_taken(index: Database, listen: Listen) -> None:
    port, sent = listen().port, order("A1")
    with index.write() as connection:
        connection.execute(text("ALTER TABLE orders RENAME TO away"))
    answer = send(port, sent)
    assert code(answer) == "AE"
    assert "|207^" in answer
    with index.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO orders"))
    assert count(index, hl7_messages) == 0
    assert code(send(port, sent)) == "AA"
    assert count(index, orders) == 1


def test_a_cancelled_order_is_marked_and_what_a_later_message_leaves_out_stays(index: Database, listen: Listen) -> None:
    port = listen().port
    assert code(send(port, order("A1"))) == "AA"
    cancel = message("ORM^O01", pid("4711^^^HOSP"), "ORC|CA|PA1^HIS|FA1^RIS")
    assert code(send(port, cancel)) == "AA"
    with index.read() as connection:
        (row,) = connection.execute(select(orders)).all()
    assert (row.is_cancelled, row.accession_number, row.procedure_code) == (True, "A1", "CTCH")


def test_a_merge_that_leads_back_is_rejected_with_what_to_do(listen: Listen) -> None:
    port = listen().port
    assert [code(send(port, merge("OLD", "NEW"))) for _ in range(2)] == ["AA", "AA"]
    back = send(port, merge("NEW", "OLD"))
    assert code(back) == "AR"
    assert "|205^" in back
    assert "send their images again" in back
    assert [code(send(port, merge("A", "B", event=event))) for event in ("A18", "A34", "A36", "A47")] == ["AA"] * 4
    updates = [message(f"ADT^{event}^ADT_A01", pid("NEW")) for event in ("A01", "A04", "A08", "A31")]
    assert [code(send(port, one)) for one in updates] == ["AA"] * 4


# --- those who do not ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (message("ORU^R01", pid("1")), "200"),
        (message("ORM^O02", pid("1")), "201"),
        (message("ADT^A03", pid("1")), "201"),
        (message(f"ADT^{'Doe' * 100}", pid("1")), "201"),
        (merge("", "NEW"), "101"),
        (message("ORM^O01", pid("1")).replace("|P|2.5.1", "|T|2.5.1"), "202"),
        (message("ORM^O01", pid("1")).replace("|P|2.5.1", "|P|3"), "203"),
        (message("ORM^O01", pid("1"), control_id=" "), "101"),
        ("PID|1||4711", "100"),
        ("\xff\xfeM\0S\0H\0", "100"),
        (message("ORM^O01", pid("1"), more="||||||KLINGON"), "103"),
    ],
)
def test_what_never_can_be_taken_is_rejected_with_the_condition(door: Listen, sent: str, told: str) -> None:
    answer = send(door().port, sent)
    assert code(answer) == "AR"
    assert f"|{told}^" in answer.split("\rERR|")[1]


def test_garbage_around_frames_is_passed_over_and_much_of_it_ends_the_connection(door: Listen) -> None:
    port = door().port
    with raw(port) as connection:
        connection.sendall(
            b"\0\0\r\nhello " + START + order("A1").encode() + END + b"\0garbage" + START + b"MSH|^~\\&|cut "
        )
        connection.sendall(START + order("A2").encode() + END)
        assert [code(next_answer(connection)), code(next_answer(connection))] == ["AA", "AA"]
    with raw(port) as connection:
        with suppress(ConnectionError):  # it may be ended before all of it is sent
            connection.sendall(b"GET / HTTP/1.1\r\n" * 1000)
        assert answers(connection) == []


def test_a_message_that_is_too_large_is_rejected_before_it_is_there(door: Listen) -> None:
    with raw(door(max_message_bytes=8192).port) as connection:
        connection.sendall(START + order("A1", control_id="BIG").encode() + b"NTE|1||" + b"x" * 20_000)
        (answer,) = answers(connection)
    assert code(answer) == "AR"
    assert "|BIG|" in answer


@pytest.mark.parametrize(
    ("options", "sent", "why"),
    [
        ({"message_timeout_s": 0.3}, START + b"MSH|^~\\&|slow", "message_timeout_s"),
        ({"idle_timeout_s": 0.3}, b"", "idle_timeout_s"),
    ],
)
def test_slow_and_silent_peers_are_let_go(
    door: Listen, caplog: pytest.LogCaptureFixture, options: dict[str, float], sent: bytes, why: str
) -> None:
    with caplog.at_level(logging.INFO), raw(door(**options).port) as connection:
        connection.sendall(sent)
        assert answers(connection) == []
    assert any(why in str(getattr(record, "why", "")) for record in caplog.records)


def test_one_address_gets_no_more_connections_than_its_share_and_all_no_more_than_there_are(door: Listen) -> None:
    port = door(max_connections=3, max_connections_per_peer=2).port
    with raw(port) as first, raw(port) as second:
        for one in (first, second):
            one.sendall(START + order("A1").encode() + END)
            assert code(next_answer(one)) == "AA"
        with raw(port) as third:
            assert answers(third) == []
        first.sendall(START + order("A2").encode() + END)
        assert code(next_answer(first)) == "AA"


def test_only_those_who_are_listed_may_send(door: Listen) -> None:
    elsewhere = SenderOption(network=ipaddress.ip_network("10.0.0.0/8"))
    with raw(door(senders=(elsewhere,)).port) as connection:
        assert answers(connection) == []
    mine = SenderOption(network=LOOPBACK, application="HIS", facility="HOSPITAL")
    port = door(senders=(elsewhere, mine)).port
    assert code(send(port, order("A1"))) == "AA"
    refused = send(port, order("A2").replace("|HIS|HOSPITAL|", "|HIS|OTHER|"))
    assert code(refused) == "AR"
    assert "\rERR||MSH^1^3|" in refused


def test_who_may_not_send_is_told_for_the_audit_trail(door: Listen, tmp_path: Path) -> None:
    def told(listener: MllpListener, count: int) -> list[tuple[str, int]]:
        found: list[CallerRefused] = []

        def are_told() -> bool:
            found.extend(listener.turned_away())
            return len(found) >= count

        wait_until(are_told, 30, "the refusals")
        assert {one.host for one in found} == {"127.0.0.1"}
        return [(one.why, one.count) for one in found]

    elsewhere = door(senders=(SenderOption(network=ipaddress.ip_network("10.0.0.0/8")),))
    for _ in range(8):
        with raw(elsewhere.port) as connection:
            assert answers(connection) == []
    assert told(elsewhere, 5) == [("no [[hl7.peer]] may send from this address", 1)] * 5
    another = door(senders=(SenderOption(network=LOOPBACK, application="HIS"),))
    send(another.port, order("A2").replace("|HIS|", "|OTHER|"))
    assert told(another, 1) == [("no [[hl7.peer]] at this address is its application and facility", 1)]
    made = make_certificates(tmp_path)
    tls = tls_context(str(made.server.certificate), str(made.server.private_key), str(made.ca), "required")
    pinned = door(senders=(SenderOption(network=LOOPBACK),), tls=tls)
    with raw(pinned.port) as connection:
        connection.sendall(b"no handshake")
        answers(connection)
    assert "hands could not be shaken" in told(pinned, 1)[0][0]


def test_a_sender_writes_in_its_own_character_set_where_it_states_none(index: Database, listen: Listen) -> None:
    port = listen(senders=(SenderOption(network=LOOPBACK, character_set="latin-1"),)).port
    sent = order("A1", reason="Dyspnoe, Müdigkeit").replace("UNICODE UTF-8", "").encode("latin-1")
    assert code(send(port, sent)) == "AA"
    with index.read() as connection:
        assert connection.execute(select(orders.c.reason)).scalar_one() == "Dyspnoe, Müdigkeit"


def test_over_tls_the_certificate_of_the_peer_must_be_shown(door: Listen, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    server = tls_context(str(made.server.certificate), str(made.server.private_key), str(made.ca), "required")
    mine = SenderOption(network=LOOPBACK, certificate_sha256=made.modality.sha256)
    port = door(tls=server, senders=(mine,)).port
    framed = START + order("A1").encode() + END

    def told(context: ssl.SSLContext) -> list[str]:
        try:
            with raw(port) as plain, context.wrap_socket(plain) as connection:
                connection.sendall(framed)
                return [next_answer(connection)]
        except (ssl.SSLError, ConnectionError, AssertionError):
            return []

    assert [code(one) for one in told(made.client(made.modality))] == ["AA"]
    assert told(made.client(made.other_modality)) == told(made.client(made.rogue)) == told(made.client(None)) == []
    with raw(port) as connection:
        connection.sendall(framed)
        assert not any(one.startswith("MSH") for one in map(repr, answers_of_bytes(connection)))


def test_a_peer_that_hangs_up_while_hands_are_shaken_leaves_its_place(door: Listen, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    server = tls_context(str(made.server.certificate), str(made.server.private_key), str(made.ca), "required")
    port = door(tls=server, max_connections=2, max_connections_per_peer=2).port
    for _ in range(6):
        with raw(port) as broken:
            broken.sendall(b"\x16\x03\x01")
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def is_taken() -> bool:
        try:
            with raw(port) as plain, made.client(made.modality).wrap_socket(plain) as connection:
                connection.sendall(START + order("A1").encode() + END)
                return code(next_answer(connection)) == "AA"
        except (OSError, AssertionError):
            return False

    wait_until(is_taken, 30, "a place for who shakes hands")


def answers_of_bytes(connection: socket.socket) -> list[bytes]:
    try:
        return [connection.recv(65536)]
    except ConnectionError:
        return []


def test_many_large_messages_of_separators_at_once_take_a_bounded_memory(door: Listen) -> None:
    port = door(max_connections=16, max_connections_per_peer=16).port
    head = message("ORM^O01", pid("1")).encode()
    hostile = [
        head + b"ORC|" + mark * 1_000_000 for mark in (b"|", b"^", b"~", b"\\", b"&", b"\rNTE", b"\xc3\xa4", b"A")
    ]
    told: list[list[str]] = []

    def attack(sent: bytes) -> None:
        with raw(port) as connection:
            connection.sendall(START + sent[: (1 << 20) - 8] + END)
            told.append([next_answer(connection)])

    tracemalloc.start()
    try:
        threads = [threading.Thread(target=attack, args=(sent,)) for sent in hostile]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [code(answer) for (answer,) in told] == ["AR"] * len(hostile)
    assert peak < 96 << 20


# --- a node that is killed -----------------------------------------------------------------------------------------


def test_a_message_that_a_killed_node_had_not_acknowledged_is_taken_once_when_it_comes_again(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", {"hl7": {"port": 0, "patient_authority": "HOSP"}})
    node.start(None, "--role", "receive")
    try:
        database = node.data_dir / "node.sqlite"
        with closing(sqlite3.connect(database, isolation_level=None)) as held, raw(node.ports["hl7"]) as connection:
            held.execute("BEGIN IMMEDIATE")
            connection.sendall(START + order("A1", control_id="K1").encode() + END)
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            node.kill9()
            held.execute("ROLLBACK")
        assert rows(database) == (0, 0)
        node.start(None, "--role", "receive")
        assert [code(send(node.ports["hl7"], order("A1", control_id="K1"))) for _ in range(2)] == ["AA", "AA"]
        node.kill9()
        assert rows(database) == (1, 1)
    finally:
        node.kill9()


def rows(database: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(database)) as connection:
        found = (
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("orders", "hl7_messages")
        )
        return next(found), next(found)


def test_the_command_that_comes_with_a_library_sends_to_a_node(door: Listen, tmp_path: Path) -> None:
    file = tmp_path / "order.hl7"
    file.write_bytes(START + order("A1").encode() + END)
    words = [
        str(Path(sys.executable).with_name("mllp_send")),
        "--file",
        str(file),
        "--port",
        str(door().port),
        "127.0.0.1",
    ]
    sent = subprocess.run(words, capture_output=True, check=True, timeout=60)
    assert b"MSA|AA|" in sent.stdout


def test_a_stopped_listener_is_gone(door: Listen) -> None:
    listener = door()
    port = listener.port
    with raw(port) as connection:
        connection.sendall(START + order("A1").encode() + END)
        assert code(next_answer(connection)) == "AA"
        listener.stop()
        assert answers(connection) == []
    wait_until(lambda: not _is_open(port), 10, "the port to be closed")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

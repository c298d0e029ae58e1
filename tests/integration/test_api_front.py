"""The front of the API by raw bytes: how long it waits for a peer, how it says no, and what it takes for a request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.api.front.connections import ConnectionLimits
from dicom_node.api.front.patience import Patience
from dicom_node.api.server import ApiServer, create_app
from dicom_node.index.database import Database
from tests.peers.process import wait_until
from tests.support.api_client import TOKEN, parts_over, seeded_database

HASTY = Patience(request_s=0.5, handshake_s=0.5, unread_s=0.5, last_word_s=20, look_every_s=0.1)
PATIENT = Patience(request_s=300, unread_s=300, last_word_s=300)
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[Database]:
    database = seeded_database(folder)
    yield database
    database.close()


@contextmanager
def serving(database: Database, folder: Path, limits: ConnectionLimits) -> Iterator[ApiServer]:
    server = ApiServer(create_app(parts_over(database, folder)), "127.0.0.1", 0, limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def hasty(database: Database, folder: Path) -> Iterator[ApiServer]:
    """A server that waits for nobody."""
    with serving(database, folder, ConnectionLimits(patience=HASTY)) as server:
        yield server


@pytest.fixture(scope="module")
def patient(database: Database, folder: Path) -> Iterator[ApiServer]:
    """A server that waits for everybody, so that what it ends is not ended for want of time."""
    with serving(database, folder, ConnectionLimits(patience=PATIENT)) as server:
        yield server


def opened(server: ApiServer, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(address, 0))


def heard(connection: socket.socket) -> bytes:
    """Read to the end of the connection, which is no reset."""
    answer = bytearray()
    while piece := connection.recv(65536):
        answer += piece
    return bytes(answer)


def said(server: ApiServer, request: bytes) -> bytes:
    """Say something and return all that is answered."""
    with opened(server) as connection:
        connection.sendall(request)
        return heard(connection)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_a_connection_that_never_asks_is_closed(hasty: ApiServer) -> None:
    with opened(hasty) as connection:
        assert heard(connection) == b""


def test_a_head_that_comes_letter_by_letter_is_not_awaited(hasty: ApiServer) -> None:
    with opened(hasty) as connection:
        connection.settimeout(0.1)
        answer = b""
        with suppress(ConnectionError):
            for letter in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 5000:
                connection.sendall(bytes([letter]))
                with suppress(TimeoutError):
                    answer = connection.recv(4096)
                    break
    assert status(answer) == 408


def test_a_second_head_is_awaited_no_longer_than_the_first(hasty: ApiServer) -> None:
    with opened(hasty) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\nGET /hea")
        answer = heard(connection)
    assert status(answer) == 200
    assert b"HTTP/1.1 408" in answer


def test_a_body_that_is_promised_and_does_not_come_is_not_awaited(hasty: ApiServer) -> None:
    with opened(hasty) as connection:
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 100\r\n\r\n{")
        answer = heard(connection)
    assert status(answer) == 408
    assert b"the body of the request" in answer.lower()


def test_a_client_that_does_not_read_its_answer_is_cut_off(database: Database, folder: Path) -> None:
    limits = ConnectionLimits(patience=replace(HASTY, request_s=300))
    with serving(database, folder, limits) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /api/openapi.json HTTP/1.1\r\nHost: node\r\n\r\n" * 200)
        held = server._server.server_state.connections
        wait_until(lambda: bool(held), 60, "the connection's beginning", 0.05)
        wait_until(lambda: not held, 60, "the connection's end", 0.05)


def test_answers_that_nobody_reads_close_the_api_to_nobody(database: Database, folder: Path) -> None:
    limits = ConnectionLimits(2, 2, patience=replace(PATIENT, makes_room_s=0.2, look_every_s=0.1))
    with serving(database, folder, limits) as server, ExitStack() as stack:
        for _ in range(2):
            silent = stack.enter_context(socket.socket())
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.connect(("127.0.0.1", server.port))
            silent.sendall(b"GET /api/openapi.json HTTP/1.1\r\nHost: node\r\n\r\n" * 200)

        wait_until(lambda: status(said(server, HIDDEN[:-2] + b"Connection: close\r\n\r\n")) == 200, 60, "room", 0.1)


# --- the last word ---------------------------------------------------------------------------------------------------

MEGABYTE = bytes(1 << 20)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /login HTTP/1.1\r\nHost: node\r\nContent-Length: 1048576\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n",
        b"POST /api/studies HTTP/1.1\r\nHost: node\r\nContent-Length: 1048576\r\n\r\n",
        b"GET / HTTP/1.1\r\nno field\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: node\r\nX: ",
    ],
    ids=["too large", "of unknown size", "of a stranger", "no HTTP", "a head without end"],
)
def test_whoever_is_refused_early_can_read_why_and_is_not_reset(patient: ApiServer, head: bytes) -> None:
    with opened(patient) as connection:
        connection.sendall(head + MEGABYTE)
        answer = heard(connection)
    assert 400 <= status(answer) < 500


def test_whoever_finds_no_place_can_read_why_though_it_speaks_later(database: Database, folder: Path) -> None:
    limits = ConnectionLimits(4, 1, patience=PATIENT)
    with serving(database, folder, limits) as server, opened(server) as busy:
        busy.sendall(b"GET /api/events HTTP/1.1\r\nHost: node\r\n" + BEARER + b"\r\n")
        assert busy.recv(4096)
        with opened(server) as late:
            refused = late.recv(4096)
            late.sendall(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n" + MEGABYTE)
            assert heard(late) == b""
    assert status(refused) == 503


# --- what is no request, and what hides another one ------------------------------------------------------------------

HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
STUDIES = b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\n" + BEARER
SIGN_IN = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SHAPES = {
    "length and chunks": STUDIES + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length and chunks, of a small body": SIGN_IN + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length and chunks, asking for health": HIDDEN[:-2] + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "two encodings": STUDIES + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "another encoding": STUDIES + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": STUDIES + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "two lengths": SIGN_IN + b"Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}",
    "a length with a sign": SIGN_IN + b"Content-Length: +2\r\n\r\n{}",
    "a length in another script": SIGN_IN + b"Content-Length: \xb2\r\n\r\n{}",
    "no size of a chunk": STUDIES + CHUNKED + b"\r\nzz\r\n\r\n",
    "a chunk longer than it says": STUDIES + CHUNKED + b"\r\n1\r\nxyy0\r\n\r\n",
    "chunks ended by a line feed alone": STUDIES + CHUNKED + b"\r\n1\nx\n0\n\n",
    "chunks in HTTP/1.0": STUDIES.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "a fold before the first field": b"GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a line's end within a value": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: node\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "the address of another server": b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an address without end": b"GET /" + b"a" * 500_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fields without end": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 200_000 + b"\r\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_may_hide_a_request_is_refused_and_nothing_behind_it_is_answered(patient: ApiServer, shape: str) -> None:
    answer = said(patient, SHAPES[shape] + HIDDEN)

    assert 400 <= status(answer) < 500
    assert b" 200 OK" not in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        SIGN_IN + b'Content-Length: 18\r\n\r\n{"token":"\\ud800"}',
        SIGN_IN + b'Origin: http://[\r\nContent-Length: 13\r\n\r\n{"token":"x"}',
        SIGN_IN + b"Content-Length: 9000\r\n\r\n" + b"[" * 9000,
        SIGN_IN + b'Content-Length: 9011\r\n\r\n{"token":' + b"9" * 9000 + b"}}",
        b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic \xff\r\n\r\n",
        b"GET /api/studies?limit=" + b"9" * 50_000 + b" HTTP/1.1\r\nHost: localhost\r\n" + BEARER + b"\r\n",
    ],
    ids=["half a character", "an odd origin", "deep JSON", "a long number", "odd credentials", "a long parameter"],
)
def test_odd_values_are_the_client_s_fault(patient: ApiServer, request_bytes: bytes) -> None:
    with opened(patient) as connection:
        connection.sendall(request_bytes)
        assert 400 <= status(connection.recv(65536)) < 500


def test_what_is_no_request_fills_no_log(patient: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    said(patient, b"no request\r\n\r\n")
    for sizes in (b"-1\r\n{}\r\n", b"0x2\r\n{}\r\n", b"1\r\nxyy0\r\n\r\n"):
        assert status(said(patient, SIGN_IN + CHUNKED + b"\r\n" + sizes)) in {400, 411}
        assert status(said(patient, STUDIES + CHUNKED + b"\r\n" + sizes)) in {400, 415}
    with opened(patient) as connection:
        connection.sendall(HIDDEN[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert status(connection.recv(4096)) == 200

    assert [record.message for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


def test_a_client_of_http_1_0_is_answered(patient: ApiServer) -> None:
    assert status(said(patient, b"GET /healthz HTTP/1.0\r\n\r\n")) == 200

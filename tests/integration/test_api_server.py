"""The API as a real server on loopback: start and stop, live events, and the limits that protect it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from anyio import to_thread

from dicom_node.api.access import Access
from dicom_node.api.front.connections import ConnectionLimits
from dicom_node.api.routes.events import MAX_LISTENERS, MAX_OF_ONE
from dicom_node.api.server import ApiServer, _listen, create_app
from dicom_node.core.errors import NodeError
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.database import Database
from tests.peers.process import wait_until
from tests.support import needs
from tests.support.api_client import TOKEN, first_look, parts_over, seeded_database
from tests.support.results.rows import Rows
from tests.support.results.seeded import CHEST_CT, GAP_CT

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = seeded_database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def server(database: Database, tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(create_app(parts_over(database, tmp_path)), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@contextmanager
def client_of(server: ApiServer, headers: dict[str, str] | None = None) -> Iterator[httpx.Client]:
    base = f"http://127.0.0.1:{server.port}"
    with httpx.Client(base_url=base, headers=BEARER if headers is None else headers, timeout=60) as client:
        yield client


def next_event(lines: Iterator[str], name: str) -> dict[str, list[str]]:
    for line in lines:
        if line == f"event: {name}":
            return dict(json.loads(next(lines).removeprefix("data: ")))
    raise AssertionError(f"the stream ended without {name}")


def test_it_takes_a_free_port_and_answers(server: ApiServer) -> None:
    with client_of(server) as client:
        assert server.port > 0
        answer = client.get("/api/status")
    assert answer.json()["ae_title"] == "AINODE"
    assert "server" not in answer.headers


def test_strangers_are_turned_away(server: ApiServer) -> None:
    with client_of(server, headers={}) as stranger:
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/api/studies").status_code == 401
        login = stranger.post("/login", json={"token": TOKEN}, headers={"Origin": "http://evil.example"})
        assert login.status_code == 403
        guesses = [stranger.post("/login", json={"token": str(n)}).status_code for n in range(12)]
        assert guesses == [401] * 10 + [429] * 2


def test_a_change_is_told_within_three_seconds(
    server: ApiServer, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_looked = first_look(monkeypatch)
    took_s: list[float] = []
    with client_of(server) as client, client.stream("GET", "/api/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        next_event(lines, "heartbeat")
        assert has_looked.wait(60)
        while not took_s or (took_s[-1] >= 3 and len(took_s) < 5):  # a busy machine may hold up one of them
            with database.write() as connection:
                Rows(connection, tmp_path).event(GAP_CT, 0, "state", "Something happened.")
            changed_at = time.monotonic()
            assert next_event(lines, "change") == {"studies": [GAP_CT]}
            took_s.append(time.monotonic() - changed_at)
    assert min(took_s) < 3


def test_a_rerun_asked_for_here_is_seen_by_listeners(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    has_looked = first_look(monkeypatch)
    with client_of(server) as client, client.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        next_event(lines, "heartbeat")
        assert has_looked.wait(60)
        with client_of(server) as operator:
            assert operator.post(f"/api/studies/{CHEST_CT}/rerun").status_code == 200
        assert next_event(lines, "change") == {"studies": [CHEST_CT]}


def test_the_head_of_an_answer_is_that_of_the_answer_and_nothing_comes_behind_it(server: ApiServer) -> None:
    with client_of(server) as client:
        for path in (
            "/healthz",
            "/",
            "/page/app.js",
            "/api/v1/studies",
            "/api/studies/1.2.3",
            "/api/v1/artifacts/2.25.201",
        ):
            whole, head = client.get(path), client.head(path)
            told = [
                {name: value for name, value in one.headers.items() if name not in {"date", "x-request-id"}}
                for one in (whole, head)
            ]
            assert (head.status_code, told[1], head.content) == (whole.status_code, told[0], b""), path
        # Ranges are for GET alone.
        ranged = client.head("/api/v1/artifacts/2.25.201", headers={"Range": "bytes=0-3"})
        assert ranged.status_code == 200
        # A stream has a head, too, and nobody waits for the rest.
        assert {client.head("/api/v1/events").status_code for _ in range(2 * MAX_LISTENERS)} == {200}
    with client_of(server, headers={}) as stranger:
        assert stranger.head("/api/v1/studies").status_code == 401


@pytest.mark.parametrize(
    "path", ["/api/v1/artifacts/2.25.201", "/api/v1/artifacts/2.25.201/preview.png", "/page/app.js"]
)
@pytest.mark.parametrize(
    "asked", ["bytes=99999999-", "bytes=5-1", "bytes=a-b", "bytes=", "lines=1-2", "bytes=0-0,99999999-"]
)
def test_a_range_that_cannot_be_served_is_answered_by_a_problem(server: ApiServer, path: str, asked: str) -> None:
    with client_of(server) as client:
        answer = client.get(path, headers={"Range": asked})
        length = client.head(path).headers["content-length"]
        part = client.get(path, headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.headers["content-type"]) == (416, "application/problem+json")
    assert (answer.json()["type"], answer.json()["status"]) == ("/api/v1/problems/bad-range", 416)
    assert answer.json()["instance"].endswith(answer.headers["x-request-id"])
    assert answer.headers.get("content-range", f"bytes */{length}") == f"bytes */{length}"
    assert (part.status_code, part.headers["content-range"], len(part.content)) == (206, f"bytes 0-3/{length}", 4)


def of_people(server: ApiServer, count: int) -> Sequence[dict[str, str]]:
    """Give so many programs a key each, and return what they show."""
    access: Access = server._app.state.access
    by = Principal("admin", frozenset({UserRole.ADMIN}))
    return [
        {"Authorization": f"Bearer {access.people.keys.add(f'listener-{number}', [UserRole.VIEWER], 1, by)[0]}"}
        for number in range(count)
    ]


def test_listeners_are_bounded_one_has_a_share_and_places_are_given_back(server: ApiServer) -> None:
    everybody = of_people(server, MAX_LISTENERS // MAX_OF_ONE + 1)
    with ExitStack() as stack:
        client = stack.enter_context(client_of(server))

        def heard(who: dict[str, str]) -> int:
            return stack.enter_context(client.stream("GET", "/api/events", headers=who)).status_code

        for who in everybody[:-1]:
            # The first of them is not let in a fifth time while there is room for others.
            assert [heard(who) for _ in range(MAX_OF_ONE + 1)] == [200] * MAX_OF_ONE + [503]
        refused = client.get("/api/events", headers=everybody[0])
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "15"
        assert client.get("/api/status").status_code == 200
    with client_of(server) as client:
        wait_until(lambda: _stream_status(client) == 200, 60, "a place to be free", 0.2)


def test_four_who_hold_every_place_keep_nobody_out(server: ApiServer) -> None:
    *four, fifth = of_people(server, MAX_LISTENERS // MAX_OF_ONE + 1)
    with ExitStack() as stack:
        client = stack.enter_context(client_of(server))

        def listening(who: dict[str, str]) -> Iterator[str]:
            stream = stack.enter_context(client.stream("GET", "/api/events", headers=who))
            assert stream.status_code == 200
            lines = stream.iter_lines()
            next_event(lines, "heartbeat")
            return lines

        held = [listening(who) for _ in range(MAX_OF_ONE) for who in four]
        came = listening(fifth)
        assert list(held[0]) == [""], "the oldest of those who have the most goes on"
        client.post(f"/api/studies/{CHEST_CT}/rerun")
        for lines in (came, *held[1:]):
            assert next_event(lines, "change") == {"studies": [CHEST_CT]}
        # Who lost it does not take it back.
        assert client.get("/api/events", headers=four[0]).status_code == 503


def test_who_listens_takes_no_thread_from_those_who_ask(database: Database, tmp_path: Path) -> None:
    app = create_app(parts_over(database, tmp_path))

    @app.get("/one-thread")
    async def one_thread() -> None:
        to_thread.current_default_thread_limiter().total_tokens = 1

    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    with client_of(server) as client, ExitStack() as stack:
        client.get("/one-thread")
        for _ in range(MAX_OF_ONE):
            stream = stack.enter_context(client.stream("GET", "/api/events"))
            next_event(stream.iter_lines(), "heartbeat")
        assert client.get("/api/status", timeout=30).status_code == 200
    server.stop()


def _stream_status(client: httpx.Client) -> int:
    with client.stream("GET", "/api/events") as stream:
        return stream.status_code


@contextmanager
def bounded(database: Database, folder: Path, limits: ConnectionLimits) -> Iterator[ApiServer]:
    server = ApiServer(create_app(parts_over(database, folder)), "127.0.0.1", 0, limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def idle(server: ApiServer, count: int, address: str, stack: ExitStack) -> list[socket.socket]:
    """Open connections that say nothing, or only the beginning of a request."""
    opened = []
    for number in range(count):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(address, 0))
        opened.append(stack.enter_context(one))
        if number % 2:
            one.sendall(b"GET /healthz HTT")
    return opened


def promising(server: ApiServer, address: str, stack: ExitStack) -> None:
    """Open a connection that asks to log in, and never says how."""
    one = socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(address, 0))
    stack.enter_context(one).sendall(
        b"POST /api/session HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )


def asks_from(server: ApiServer, address: str) -> httpx.Client:
    base = f"http://127.0.0.1:{server.port}"
    return httpx.Client(base_url=base, transport=httpx.HTTPTransport(local_address=address), headers=BEARER, timeout=60)


def test_idle_connections_of_one_address_close_the_api_to_nobody(server: ApiServer) -> None:
    with ExitStack() as stack:
        idle(server, 300, "127.0.0.1", stack)
        for address in ("127.0.0.2", "127.0.0.1"):
            with asks_from(server, address) as client:
                assert client.get("/healthz").status_code == 200


def test_idle_connections_of_many_addresses_close_the_api_to_nobody(database: Database, tmp_path: Path) -> None:
    with bounded(database, tmp_path, ConnectionLimits(8, 2)) as server, ExitStack() as stack:
        for number in range(2, 12):
            idle(server, 2, f"127.0.0.{number}", stack)
        with asks_from(server, "127.0.0.20") as client:
            assert client.get("/healthz").status_code == 200


def test_bodies_that_are_promised_and_do_not_come_close_the_api_to_nobody(database: Database, tmp_path: Path) -> None:
    with bounded(database, tmp_path, ConnectionLimits(8, 2)) as server, ExitStack() as stack:
        for number in range(20):
            promising(server, f"127.0.0.{2 + number // 2}", stack)
        with asks_from(server, "127.0.0.20") as client:
            assert client.get("/healthz").status_code == 200


def test_an_address_whose_places_are_all_busy_is_told_so_and_others_are_answered(
    database: Database, tmp_path: Path
) -> None:
    with bounded(database, tmp_path, ConnectionLimits(8, 2)) as server, ExitStack() as stack:
        busy = stack.enter_context(asks_from(server, "127.0.0.1"))
        streams = [stack.enter_context(busy.stream("GET", "/api/events")) for _ in range(2)]
        with asks_from(server, "127.0.0.1") as client:
            refused = client.get("/healthz")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert "api.max_connections_per_address" in refused.text
        with asks_from(server, "127.0.0.2") as other:
            assert other.get("/healthz").status_code == 200
        next_event(streams[0].iter_lines(), "heartbeat")  # what was under way goes on


def test_of_two_idle_connections_the_one_that_never_asked_goes(database: Database, tmp_path: Path) -> None:
    with bounded(database, tmp_path, ConnectionLimits(8, 2)) as server, ExitStack() as stack:
        used, silent = idle(server, 1, "127.0.0.1", stack) + idle(server, 1, "127.0.0.1", stack)
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
        assert used.recv(4096).startswith(b"HTTP/1.1 200")
        idle(server, 1, "127.0.0.1", stack)
        assert silent.recv(1) == b""
        with suppress(BlockingIOError):  # nothing to read, and not its end
            used.setblocking(False)
            assert used.recv(4096) != b""


def test_stopping_sends_listeners_away_and_frees_the_port(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ApiServer(create_app(parts_over(database, tmp_path)), "127.0.0.1", 0)
    # Whoever is not sent away keeps the server for long: so much longer than a busy machine needs to stop.
    server._server.config.timeout_graceful_shutdown = 300
    monkeypatch.setattr("dicom_node.api.server._STOP_TIMEOUT_S", 60)
    server.start()
    with client_of(server) as client, client.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        next_event(lines, "heartbeat")
        server.stop()
        assert "api" not in _threads()
        assert not any("change" in line for line in lines)
    socket.create_server(("127.0.0.1", server.port)).close()
    wait_until(lambda: "api-changes" not in _threads(), 60, "the watcher's end")


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_port_that_is_taken_is_named(server: ApiServer, database: Database, tmp_path: Path) -> None:
    second = ApiServer(create_app(parts_over(database, tmp_path)), "127.0.0.1", server.port)
    with pytest.raises(NodeError, match=rf"127\.0\.0\.1:{server.port}.*api\.port"):
        second.start()


def test_what_is_no_http_is_closed_without_harm(server: ApiServer) -> None:
    for rubbish in (b"\x01\x00\x00\x00\x00\xff" * 50, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            with suppress(ConnectionError):  # it may have answered and hung up before all is said
                connection.sendall(rubbish)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 4")
    with client_of(server) as client:
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_an_answer_in_two_parts_does_not_wait_for_the_first_to_be_acknowledged(host: str) -> None:
    """asyncio turns Nagle's algorithm off only for sockets that were made for TCP by name; those of a listener are not.
    The second part of an answer then waits for the acknowledgement of the first: 40 ms."""
    if host == "::":
        needs.ipv6()
    with _listen(host, 0) as listener:
        address = ("::1" if host == "::" else host, listener.getsockname()[1])
        with socket.create_connection(address), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

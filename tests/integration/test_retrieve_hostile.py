"""A PACS that stalls, lies, redirects or never ends: the retrieval ends by itself and says why."""

from __future__ import annotations

import gzip
import http.server
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_node.core.errors import SourceRefused, SourceUnavailable
from dicom_node.retrieve.retrieval import RetrievalState
from dicom_node.retrieve.source import StudyQuery
from tests.integration.retrieving import Place, held_by, opened_place, source
from tests.peers.orthanc import Orthanc
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import small_chest_ct

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]
IMAGES = 4
#: How long a peer keeps others waiting: far longer than they may wait, and than a busy machine may stand still.
SILENCE_S = 120


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as database:
        yield opened_place(tmp_path, database)


@pytest.fixture
def study(orthanc: Orthanc) -> str:
    """A small study in the PACS behind the proxy."""
    images = small_chest_ct()[0][:IMAGES]
    for image in images:
        orthanc.upload_dataset(image)
    return str(images[0].StudyInstanceUID)


@contextmanager
def web_server(handle: Handler) -> Iterator[str]:
    """Serve HTTP on loopback; yields its address."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            handle(self)

        do_POST = do_GET  # noqa: N815 - named by http.server

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def answer(to: http.server.BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    to.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        to.send_header(name.replace("_", "-"), value)
    to.end_headers()
    to.wfile.write(body)


def pass_on(to: http.server.BaseHTTPRequestHandler, orthanc: Orthanc) -> httpx.Response:
    """Ask the real PACS what the proxy was asked."""
    headers = {"Accept": to.headers["Accept"], "Accept-Encoding": "identity"}
    return orthanc.http.get(to.path, headers=headers)


def web(url: str, timeout_s: float = 60.0, **more: Any) -> Any:
    return source({"kind": "dicomweb", "url": f"{url}/dicom-web", **more}, timeout_s)


def is_whole(path: str) -> bool:
    return "/instances" not in path


# --- DICOMweb ---


@pytest.mark.parametrize("how", ["refused", "cut off", "an error"])
def test_what_does_not_come_with_the_study_comes_one_by_one(
    orthanc: Orthanc, place: Place, study: str, how: str
) -> None:
    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        real = pass_on(request, orthanc)
        whole = is_whole(request.path)
        if whole and how != "cut off":
            answer(request, 406 if how == "refused" else 503)
            return
        body = real.content[: len(real.content) // 2] if whole else real.content
        answer(request, real.status_code, body, Content_Type=real.headers.get("Content-Type", "text/plain"))

    with web_server(handle) as url:
        done = place.fetch(web(url), study)

    assert (done.state, done.expected, done.received) == (RetrievalState.DONE, IMAGES, IMAGES), done.reason
    assert place.data_sets() == held_by(orthanc)


def test_a_pacs_that_sends_other_things_than_it_named_is_counted_as_not_sending(
    orthanc: Orthanc, place: Place, study: str
) -> None:
    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        real = pass_on(request, orthanc)
        if "/instances" in request.path and "/series/" not in request.path:
            listed = real.json()
            listed.append({**listed[0], "00080018": {"vr": "UI", "Value": ["1.2.3.4"]}})
            answer(request, 200, json.dumps(listed).encode(), Content_Type="application/dicom+json")
        else:
            answer(request, real.status_code, real.content, Content_Type=real.headers.get("Content-Type", "text/plain"))

    with web_server(handle) as url:
        done = place.fetch(web(url), study)

    assert (done.state, done.expected, done.received, done.failed) == (RetrievalState.PARTIAL, IMAGES + 1, IMAGES, 1)


def test_damaged_files_are_refused_and_the_others_kept(orthanc: Orthanc, place: Place, study: str) -> None:
    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        real = pass_on(request, orthanc)
        body = real.content
        if "multipart" in real.headers.get("Content-Type", ""):
            body = body.replace(b"DICM", b"MCID", 1)
        answer(request, real.status_code, body, Content_Type=real.headers.get("Content-Type", "text/plain"))

    with web_server(handle) as url:
        done = place.fetch(web(url), study)

    # One is damaged in the study's answer and again when it is asked for alone.
    assert (done.state, done.received, done.failed) == (RetrievalState.PARTIAL, IMAGES - 1, 1), done.reason
    assert "not a DICOM file" in done.reason


def test_images_of_another_study_are_not_counted_as_this_one(orthanc: Orthanc, place: Place, study: str) -> None:
    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        request.path = request.path.replace("1.2.3.4.5", study)
        real = pass_on(request, orthanc)
        answer(request, real.status_code, real.content, Content_Type=real.headers["Content-Type"])

    with web_server(handle) as url:
        done = place.fetch(web(url), "1.2.3.4.5")

    assert (done.state, done.expected, done.received) == (RetrievalState.PARTIAL, IMAGES, 0)
    assert "of another study" in done.reason


@pytest.mark.parametrize("kind", ["dicomweb", "orthanc"])
def test_a_redirect_is_not_followed(place: Place, kind: str) -> None:
    asked: list[str] = []

    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        answer(request, 302, Location="http://127.0.0.1:1/elsewhere")

    with web_server(handle) as url:
        done = place.fetch(source({"kind": kind, "url": url}), "1.2.3")

    assert (done.state, len(asked)) == (RetrievalState.FAILED, 1)
    assert "Redirects are not followed" in done.reason


@pytest.mark.parametrize(
    ("status", "told"), [(401, "Check token"), (403, "Allow this node"), (500, "HTTP 500"), (503, "ask again later")]
)
def test_what_the_server_says_is_told_with_what_to_do(place: Place, status: int, told: str) -> None:
    with web_server(lambda request: answer(request, status)) as url:
        done = place.fetch(web(url), "1.2.3")

    assert done.state is RetrievalState.FAILED
    assert told in done.reason


def test_credentials_are_sent_and_never_told(place: Place) -> None:
    seen: list[str | None] = []

    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        answer(request, 403)

    with web_server(handle) as url:
        by_token = place.fetch(web(url, token="a-secret"), "1.2.3")
        by_name = place.fetch(source({"kind": "orthanc", "url": url, "username": "me", "password": "pw"}), "1.2.3")

    assert seen == ["Bearer a-secret", "Basic bWU6cHc="]
    assert "secret" not in by_token.reason + by_name.reason


def test_an_answer_that_never_ends_is_cut_off_at_the_cap() -> None:
    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/dicom+json")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"[" * (1 << 20))
        except OSError:
            return

    with web_server(handle) as url, pytest.raises(SourceUnavailable, match="more than"):
        web(url).find_studies(StudyQuery(date="20260101"), 10)


def test_a_compressed_answer_is_not_unfolded() -> None:
    bomb = gzip.compress(b"[" + b" " * (8 << 20) + b"]")

    def handle(request: http.server.BaseHTTPRequestHandler) -> None:
        assert request.headers["Accept-Encoding"] == "identity"
        answer(request, 200, bomb, Content_Encoding="gzip", Content_Type="application/dicom+json")

    with web_server(handle) as url, pytest.raises(SourceRefused, match="compresses"):
        web(url).find_studies(StudyQuery(date="20260101"), 10)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[" * 100_000, b'"text"', b"\xff\xfe"])
def test_an_answer_that_is_no_list_is_refused(body: bytes) -> None:
    with (
        web_server(lambda request: answer(request, 200, body, Content_Type="application/json")) as url,
        pytest.raises(SourceUnavailable, match=r"Check url|HTTP"),
    ):
        web(url).find_studies(StudyQuery(date="20260101"), 10)


@pytest.mark.parametrize("body", [b"[1, null, []]", b'[{"0020000D": 5}]', b'[{"0020000D": {"Value": {}}}]'])
def test_matches_of_another_form_do_no_harm(body: bytes) -> None:
    with web_server(lambda request: answer(request, 200, body, Content_Type="application/json")) as url:
        assert all(one.study_instance_uid == "" for one in web(url).find_studies(StudyQuery(date="20260101"), 10))


def test_a_server_that_falls_silent_ends_the_retrieval(place: Place) -> None:
    released = threading.Event()

    def handle(_request: http.server.BaseHTTPRequestHandler) -> None:
        released.wait(SILENCE_S)

    with web_server(handle) as url:
        done = place.fetch(web(url, timeout_s=1.0), "1.2.3")
        released.set()

    assert done.state is RetrievalState.FAILED
    assert "fell silent" in done.reason


# --- DIMSE ---


@contextmanager
def dicom_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections on loopback and let `talk` answer; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    talk(connection)
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def request_of(connection: socket.socket) -> bytes:
    head = connection.recv(6, socket.MSG_WAITALL)
    if len(head) < 6:
        raise ConnectionError("the node has gone without a word")
    return head + connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)


def hang(connection: socket.socket) -> None:
    connection.settimeout(SILENCE_S)
    while connection.recv(65536):
        pass


def silent(connection: socket.socket) -> None:
    hang(connection)


def half_an_answer(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"\x02\x00\x00\x00\x00\xff\x00")
    hang(connection)


def dripping(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"\x02\x00\x00\x00\x00\xff")
    for _ in range(SILENCE_S * 10):
        connection.sendall(b"\x00")
        threading.Event().wait(0.1)


def huge(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"\x02\x00\xff\xff\xff\xf0")
    hang(connection)


def garbage(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"\x02\x00\x00\x00\x00\x10" + b"\xa5" * 16)
    hang(connection)


def a_web_server(connection: socket.socket) -> None:
    request_of(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def gone(connection: socket.socket) -> None:
    request_of(connection)


@pytest.mark.parametrize("talk", [silent, half_an_answer, dripping, huge, garbage, a_web_server, gone])
def test_a_peer_that_does_not_speak_dicom_ends_the_retrieval_in_time(
    place: Place, talk: Callable[[socket.socket], None]
) -> None:
    with dicom_server(talk) as port:
        peer = source({"kind": "dimse", "ae_title": "ODD", "host": "127.0.0.1", "port": port}, timeout_s=1.0)
        done = place.fetch(peer, "1.2.3")

    assert (done.state, done.received) == (RetrievalState.FAILED, 0)
    assert f"ODD@127.0.0.1:{port}" in done.reason
    assert done.finished_at is not None
    assert (done.finished_at - done.asked_at).total_seconds() < SILENCE_S / 2

"""Servers that draw an answer out, byte by byte or with interim responses: every caller hangs up in time."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from dicom_node.core.entities import Artifact, ArtifactKind, MediaType
from dicom_node.core.errors import DeliveryDeferred, DeliveryError, DestinationAway
from dicom_node.deliver.checks import ONE_STUDY, check_fhir, check_webhook, reach_web
from dicom_node.deliver.connections import oauth_server, smart
from dicom_node.deliver.connections.signing_keys import write_new_key
from dicom_node.deliver.kinds.dicomweb import DicomWebDestination
from dicom_node.deliver.kinds.fhir import FhirDestination
from dicom_node.deliver.kinds.webhook import WebhookDestination
from dicom_node.deliver.outgoing import Outgoing, OutgoingEvent
from dicom_node.deliver.queries import ask_web
from dicom_node.deliver.senders.dicomweb import DicomWebSender
from dicom_node.deliver.senders.webhook import WebhookSender
from dicom_node.fhir.client.client import FhirClient
from tests.integration.test_fhir_costumes import FIRST

TIME_S = 0.4
SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
#: What is said again and again, after what.
WAYS = {
    "headers": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
    "interim responses": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n", b" "),
}


#: What takes everything at once.
TAKEN = (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", b"")


class Drawer(socketserver.ThreadingTCPServer):
    """Answers without an end; `hung_up` is set when the caller has enough of it."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, way: tuple[bytes, bytes], tls: ssl.SSLContext | None = None) -> None:
        self.first, self.again = way
        self.tls = tls
        self.hung_up, self.stopped = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_address[1]}"


class _Answer(socketserver.BaseRequestHandler):
    server: Drawer

    def handle(self) -> None:
        try:
            tls = self.server.tls
            with tls.wrap_socket(self.request, server_side=True) if tls else self.request as line:
                self._talk(line)
        except OSError:
            self.server.hung_up.set()

    def _talk(self, line: socket.socket) -> None:
        line.recv(65536)
        line.sendall(self.server.first)
        while self.server.again and not self.server.stopped.wait(0.05):
            line.sendall(self.server.again)
        while line.recv(65536):  # what is not read when a connection is closed resets it, and the answer is lost
            pass


@contextmanager
def drawing_out(way: tuple[bytes, bytes], tls: ssl.SSLContext | None = None) -> Iterator[Drawer]:
    with Drawer(way, tls) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()


def ended(call: Callable[[], object], server: Drawer) -> object:
    """Return what becomes of a call, which must end while the server still talks."""
    came: list[object] = []

    def made() -> None:
        try:
            came.append(call())
        except DeliveryError as error:
            came.append(error)

    thread = threading.Thread(target=made, daemon=True)
    thread.start()
    thread.join(60)
    assert came, "the caller is still listening"
    assert server.hung_up.wait(60)
    return came[0]


def a_token(url: str, folder: Path) -> object:
    write_new_key(folder / "node.key", "ec")
    ehr = FhirDestination(name="ehr", kind="fhir", url=url, client_id="ainode", private_key=folder / "node.key")
    return smart.tokens_of(ehr, lambda: True).current()


def an_event(url: str) -> object:
    (sent,) = WebhookSender(url, (b"0" * 24,), None, TIME_S).send([OutgoingEvent("evt_1", "{}")])
    return sent.error or "told"


def stored(url: str, folder: Path, size: int = 1000) -> object:
    path = folder / "object"
    path.write_bytes(bytes(size))
    about = Artifact(
        uid="1.2.3", kind=ArtifactKind.SEGMENTATION, media_type=MediaType.DICOM, object_key="", sha256="",
        size_bytes=size, order=0,
    )  # fmt: skip
    (sent,) = DicomWebSender(url, None, TIME_S).send([Outgoing(about, path)])
    return sent.error or "stored"


def a_web_pacs(url: str) -> DicomWebDestination:
    return DicomWebDestination(name="pacs", kind="dicomweb", url=url)


CALLERS: dict[str, Callable[[str, Path], object]] = {
    "a report": lambda url, _: FhirClient(url, timeout_s=TIME_S).send(FIRST),
    "a token": a_token,
    "an event": lambda url, _: an_event(url),
    "an object": stored,
    "a query": lambda url, _: ask_web(a_web_pacs(url), TIME_S, "1.2.3"),
    "a look whether it is back": lambda url, _: reach_web(a_web_pacs(url), ONE_STUDY, TIME_S),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("caller", CALLERS)
def test_an_answer_that_is_drawn_out_is_not_waited_for(
    caller: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth_server, "_ANSWERED_WITHIN_S", TIME_S)
    with drawing_out(WAYS[way]) as server:
        came = ended(partial(CALLERS[caller], server.url, tmp_path), server)
    # The body of an answer to an event is not read.
    assert came == "told" if (caller, way) == ("an event", "body") else isinstance(came, DeliveryDeferred)
    if caller == "a token":
        assert type(came) is DestinationAway


@pytest.mark.parametrize("said", [b"X: x\r\n", b"X-Long: " + b"x" * 4000 + b"\r\n"])
def test_headers_without_an_end_are_not_read_on(said: bytes, tmp_path: Path) -> None:
    with drawing_out((b"HTTP/1.1 200 OK\r\n" + said * 40_000, said)) as server:
        assert isinstance(ended(partial(stored, server.url, tmp_path), server), DeliveryDeferred)


def test_a_large_object_may_take_longer_to_go_out_than_an_answer_may_to_come(tmp_path: Path) -> None:
    size, step = 24 << 20, 1 << 20
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, step)

        def take() -> None:
            line, _ = listener.accept()
            with line:
                came = 0
                while came < size:
                    came += len(line.recv(step, socket.MSG_WAITALL))
                    threading.Event().wait(2 * TIME_S * step / size)
                line.recv(step)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        taker = threading.Thread(target=take, daemon=True)
        taker.start()
        assert stored(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path, size) == "stored"
        taker.join(60)


def test_the_doctor_is_not_held_either(tmp_path: Path) -> None:
    with drawing_out(WAYS["headers"]) as server:
        hook = WebhookDestination(name="hook", kind="webhook", url=server.url, secret=SECRET)
        told = ended(partial(check_webhook, hook, TIME_S), server)
        assert not told.ok  # type: ignore[attr-defined]
        ehr = FhirDestination(name="ehr", kind="fhir", url=server.url)
        told = ended(partial(check_fhir, ehr, TIME_S, finds_patients=True), server)
        assert not told.ok  # type: ignore[attr-defined]


def test_a_server_that_takes_no_connection_in_time_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(DestinationAway, match="ConnectTimeout"):
            FhirClient(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=TIME_S).send(FIRST)

"""An EHR that fails on demand: a real FHIR server behind a proxy that breaks one moment of a delivery."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.peers.fhir_server import FhirServer

_FHIR = {"Content-Type": "application/fhir+json"}
_PAGE_TWO = "page-two"


@dataclass(frozen=True)
class Fault:
    """What is answered instead; `commits`: after the server has done what was asked. No status: no answer at all.

    `bends` changes the body that the server answered; without it `content` is sent.
    """

    name: str
    status: int | None
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    commits: bool = False
    hangs: bool = False
    bends: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Asked:
    """One request: the method, the path below the base with its query, and the body."""

    method: str
    path: str
    body: bytes

    def is_like(self, method: str, path: str) -> bool:
        return re.fullmatch(method, self.method) is not None and re.search(path, self.path) is not None


#: The moments of a delivery, each by what is asked in it.
MOMENTS: Mapping[str, tuple[str, str]] = {
    "metadata": ("GET", r"^metadata"),
    "patient search": ("POST", r"^Patient/_search"),
    "page two of a search": ("GET", rf"^{_PAGE_TWO}"),
    "report search": ("GET", r"^DiagnosticReport\?"),
    "observation search": ("GET", r"^Observation\?"),
    "search beside": ("GET", r"^(ImagingStudy|Device|Provenance)\?"),
    "report read again": ("GET", r"^DiagnosticReport/[^/]+$"),
    "transaction": ("POST", r"^$"),
    "observation written": ("POST|PUT", r"^Observation"),
    "report written": ("POST|PUT", r"^DiagnosticReport"),
    "beside written": ("POST|PUT", r"^(ImagingStudy|Device|Provenance)"),
    "history": ("GET", r"_history"),
    "any write": ("POST|PUT", r"^(?![A-Za-z]+/_search)"),
    "everything": (".*", ".*"),
}


def outcome(code: str = "processing") -> bytes:
    issue = {"severity": "error", "code": code, "details": {"text": "DOE, JANE"}, "diagnostics": "DOE^JANE"}
    return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


def refusals() -> Iterator[Fault]:
    """Yield an answer of every status of interest, as often as it may mean two things."""
    for status in (400, 401, 403, 404, 405, 409, 410, 412, 415, 422, 429, 500, 501, 502, 503, 504):
        yield Fault(f"{status}", status, outcome(), _FHIR)
    for status in (429, 503):
        yield Fault(f"{status} with Retry-After", status, outcome(), {**_FHIR, "Retry-After": "1"})
    yield Fault("429 for 30 days", 429, outcome(), {**_FHIR, "Retry-After": "2592000"})
    for status in (301, 307):
        yield Fault(f"{status}", status, b"", {"Location": "http://127.0.0.1:9/elsewhere"})
    for status in (500, 502, 504):
        yield Fault(f"{status} after it was done", status, outcome("timeout"), _FHIR, commits=True)


def silences() -> Iterator[Fault]:
    """Yield successes without a word, connections that end, and a server that is slow."""
    for status in (200, 201, 202, 204):
        yield Fault(f"{status} without a body", status, commits=True)
    yield Fault("cut before", None)
    yield Fault("cut after", None, commits=True)
    yield Fault("slow", None, hangs=True)
    yield Fault("slow after it was done", None, commits=True, hangs=True)


def malformed() -> Iterator[Fault]:
    """Yield successes that were done, told in what no server should say."""
    for name, content, headers in (
        ("HTML", b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"}),
        ("truncated", b'{"resourceType": "Bundle", "type": "sea', _FHIR),
        ("bad gzip", b"no gzip", {**_FHIR, "Content-Encoding": "gzip"}),
        ("cut gzip", gzip.compress(b"{}" * 99)[:-6], {**_FHIR, "Content-Encoding": "gzip"}),
        ("wrong charset", '{"resourceType": "Bündel"}'.encode("latin-1"), {"Content-Type": "a/b; charset=utf-8"}),
        ("UTF-16", '{"resourceType": "Bundle"}'.encode("utf-16"), _FHIR),
        ("huge", b'{"a": "' + b"x" * (17 << 20) + b'"}', _FHIR),
        ("deep", b"[" * 100_000, _FHIR),
        ("issue null", b'{"resourceType": "OperationOutcome", "issue": null}', _FHIR),
        ("number for an object", b"17", _FHIR),
        ("null", b"null", _FHIR),
        ("another resource", b'{"resourceType": "Patient", "id": "someone"}', _FHIR),
        ("a searchset", b'{"resourceType": "Bundle", "type": "searchset", "entry": null, "total": 0}', _FHIR),
        ("a batch of nothing", b'{"resourceType": "Bundle", "type": "batch-response", "entry": []}', _FHIR),
    ):
        yield Fault(f"{name}", 200, content, headers, commits=True)
    yield Fault("numbers for strings", 200, headers=_FHIR, commits=True, bends=_numbers_for_strings)
    yield Fault("no ids", 200, headers=_FHIR, commits=True, bends=_without_ids)


def _numbers_for_strings(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: 7 if key in _BENT else _numbers_for_strings(value) for key, value in node.items()}
    return [_numbers_for_strings(one) for one in node] if isinstance(node, list) else node


def _without_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_ids(value) for key, value in node.items() if key not in {"id", "location", "etag"}}
    return [_without_ids(one) for one in node] if isinstance(node, list) else node


_BENT = {"status", "id", "versionId", "location", "etag", "issued", "system", "fhirVersion", "mode", "total", "gender"}


class FaultyEhr:
    """The proxy: `url` is its base address, `server` what is behind it.

    `fail` breaks a moment until `mend`; `broken` counts what it broke.
    """

    def __init__(self, server: FhirServer) -> None:
        self.server = server
        self._base = urlsplit(server.url).path
        self._fault: tuple[tuple[str, str], Fault] | None = None
        self._released, self._held = threading.Event(), threading.Event()
        self.broken = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer._answer(self, Asked(self.command, self.path.removeprefix(outer._base).strip("/"), body))

            do_GET = do_POST = do_PUT = _any  # noqa: N815 - the names are the library's

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}{self._base}"

    @contextmanager
    def running(self) -> Iterator[FaultyEhr]:
        thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.mend()
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def fail(self, moment: str, fault: Fault) -> None:
        self.fail_at(MOMENTS[moment], fault)

    def fail_at(self, asked: tuple[str, str], fault: Fault) -> None:
        """Break what is asked by this method at such a path."""
        self._released.clear()
        self._held.clear()
        self.broken = 0
        self._fault = (asked, fault)

    @property
    def is_holding(self) -> bool:
        """Tell whether an answer is held back, after what was asked for is done or left."""
        return self._held.is_set()

    def mend(self) -> None:
        self._fault = None
        self._released.set()

    def _answer(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        broken = self._fault if self._fault is not None and asked.is_like(*self._fault[0]) else None
        if broken is None:
            _say(handler, *self._real(handler, asked))
            return
        self.broken += 1
        fault = broken[1]
        status, _, content = self._real(handler, asked) if fault.commits else (0, {}, b"")
        if fault.hangs:
            self._held.set()
            self._released.wait()
        if fault.status is None:
            _cut(handler)
        elif fault.bends is not None and content:
            _say(handler, status, fault.headers, json.dumps(fault.bends(json.loads(content))).encode())
        else:
            _say(handler, fault.status, fault.headers, fault.content)

    def _real(self, handler: BaseHTTPRequestHandler, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        """Ask the server, which shows the hits of a search for patients on the second page."""
        if asked.path.startswith(_PAGE_TWO):
            asked = Asked("GET", f"Patient?{asked.path.partition('?')[2]}", b"")
        elif asked.path == "Patient/_search":
            link = {"relation": "next", "url": f"{self.url}/{_PAGE_TWO}?{asked.body.decode()}"}
            page = {"resourceType": "Bundle", "type": "searchset", "link": [link]}
            return 200, dict(_FHIR), json.dumps(page).encode()
        headers = {key: value for key, value in handler.headers.items() if key.lower() != "content-length"}
        url = f"{self.server.url}/{asked.path}" if asked.path else self.server.url
        answer = self.server.http.request(asked.method, url, content=asked.body, headers=headers)
        kept = {key: value for key, value in answer.headers.items() if key in {"content-type", "location", "etag"}}
        return answer.status_code, kept, answer.content


def _say(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], content: bytes) -> None:
    try:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)
    except OSError:
        pass  # the client has given up, which is what some tests are about


def _cut(handler: BaseHTTPRequestHandler) -> None:
    """Reset the connection."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()

"""Peers that refuse whatever they get and repeat the patient's name when they do: a PACS and a web server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

#: How the web server refuses, one after the other: its HTTP status, or none where it answers in bytes that are no HTTP.
FAILURES = (422, 409, 500, None)


@contextmanager
def echoing_pacs(comment: str, statuses: tuple[int, ...] = (0xC123, 0xA700)) -> Iterator[int]:
    """Serve a PACS that answers every object and question with one failure after the other; yield its port."""
    following = itertools.cycle(statuses)

    def refuse(_event: Any) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = next(following), comment
        return answer

    def refuse_search(event: Any) -> Iterator[tuple[Dataset, None]]:
        yield refuse(event), None

    entity = AE("ECHOING")
    for context in (*AllStoragePresentationContexts, StudyRootQueryRetrieveInformationModelFind,
                    StudyRootQueryRetrieveInformationModelGet, Verification):  # fmt: skip
        entity.add_supported_context(getattr(context, "abstract_syntax", context))
    handlers: list[Any] = [(evt.EVT_C_STORE, refuse), (evt.EVT_C_FIND, refuse_search)]
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def echoing_web(words: str) -> Iterator[str]:
    """Serve a web server that refuses in FHIR, in DICOM JSON and in bytes that are no HTTP, by turns; yield its URL."""
    outcome = {"resourceType": "OperationOutcome", "issue": [
        {"severity": "error", "code": "invalid", "diagnostics": words, "details": {"text": words}, "location": [words]},
    ]}  # fmt: skip
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xC000]},
                                                  "00081155": {"vr": "UI", "Value": [words]}}]}}  # fmt: skip
    turns = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status = FAILURES[next(turns) % len(FAILURES)]
            if status is None:
                self.wfile.write(b"HTTP/1.1 500 No\r\n" + words.encode() + b"\r\n\r\n")
                return
            said = json.dumps(failed if status == 409 else outcome).encode()
            self.send_response(status, "refused " + words.encode("ascii", "replace").decode())
            self.send_header("Content-Type", "application/dicom+json" if status == 409 else "application/fhir+json")
            self.send_header("Content-Length", str(len(said)))
            self.send_header("Location", f"/{words.encode('ascii', 'replace').decode()}")
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

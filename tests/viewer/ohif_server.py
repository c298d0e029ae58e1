"""OHIF's published build, served beside the DICOMweb of a PACS as one origin, as a hospital would serve it."""

from __future__ import annotations

import http.client
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.needs import REPOSITORY, absent, tool
from tools.ohif import NotFetched, fetch

_OHIF = Path(__file__).with_name("ohif")
_PACS_LIMIT_S = 60
#: What the PACS answers itself; everything else is a file of the viewer.
_PACS_PATHS = ("/dicom-web", "/wado")
#: Shared memory between the workers of the viewer is allowed only in an isolated page.
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOT_PASSED_ON = {"host", "connection", "transfer-encoding", "accept-encoding", "content-length"}


def ohif_build() -> Path:
    """Return the folder of the viewer's files; fetched once into ``.node/`` and checked against the pinned hash."""
    tool("npm", "npm")
    try:
        return fetch(REPOSITORY / ".node")
    except NotFetched as error:
        absent(str(error))
        raise


class _Handler(BaseHTTPRequestHandler):
    """Serves a file of the viewer, or passes a request on to the PACS."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith(_PACS_PATHS):
            self._pass_on()
        elif path == "/app-config.js":
            self._serve(_OHIF / "app-config.js")
        else:
            wanted = (self.server.build / path.lstrip("/")).resolve()
            inside = wanted.is_file() and wanted.is_relative_to(self.server.build)
            # The viewer's own addresses, such as /viewer, are all one page.
            self._serve(wanted if inside else self.server.build / "index.html")

    def log_message(self, *args: object) -> None:
        """Say nothing: what the PACS refused is in `refused`."""

    def _serve(self, file: Path) -> None:
        kind = {".wasm": "application/wasm", ".js": "text/javascript"}.get(file.suffix)
        self._answer(
            200, {"Content-Type": kind or mimetypes.guess_type(file.name)[0] or "text/plain"}, file.read_bytes()
        )

    def _pass_on(self) -> None:
        pacs = http.client.HTTPConnection("127.0.0.1", self.server.pacs_port, timeout=_PACS_LIMIT_S)
        try:
            asked = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
            # Addresses of frames in what the PACS answers must be those of the viewer's own origin.
            asked["Host"] = self.headers["Host"]
            pacs.request("GET", self.path, headers=asked)
            answer = pacs.getresponse()
            body = answer.read()
        finally:
            pacs.close()
        if answer.status >= 400:
            self.server.refused.append(f"{answer.status} {self.path}")
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_PASSED_ON}
        self._answer(answer.status, kept, body)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, **_ISOLATED, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    """The viewer and the PACS behind one port of this machine."""

    daemon_threads = True

    def __init__(self, build: Path, pacs_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.build, self.pacs_port = build.resolve(), pacs_port
        #: Requests that the PACS answered with an error.
        self.refused: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that turns away in the middle of an answer is no error."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_ohif(pacs_port: int) -> Iterator[_Server]:
    """Serve the viewer before the PACS whose HTTP port this is; the server ends with the context."""
    with _Server(ohif_build(), pacs_port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()

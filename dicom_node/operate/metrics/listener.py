"""Metrics on a port of their own, without sign-in, for those addresses that may ask.

A monitoring system has its port in the network of the machines; the API's port need not be open there. Strangers are
turned away before a byte of theirs is read, and whoever is slow holds one of a few places, never the node.
"""

from __future__ import annotations

import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dicom_node.core.calls.limits import Networks
from dicom_node.core.errors import SettingsError
from dicom_node.operate.metrics.exposition import Exposition

AT = "/metrics"
_MOST_AT_ONCE = 8
_PATIENCE_S = 10.0
_log = logging.getLogger(__name__)


class MetricsListener:
    """Serves `/metrics`; `port` 0 takes any free port. With no networks, whoever reaches it may ask."""

    def __init__(self, host: str, port: int, networks: Networks, exposition: Exposition) -> None:
        """Raises `SettingsError` when the address cannot be had."""
        try:
            self._server = _server(host, port, networks, exposition)
        except OSError as error:
            raise SettingsError(
                f"Metrics cannot be served on {host}:{port} ({error.strerror}). Another program has the port, or the "
                "address is not this machine's; change metrics.host or metrics.port."
            ) from error
        # No vital thread: a node that cannot tell its figures goes on to do its work.
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    networks: Networks
    exposition: Exposition

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - as the base class calls it
        """Tell whether somebody may ask."""
        return not self.networks.networks or client_address[0] in self.networks

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, or hang up where too many are served."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the base class calls it
        """Say that an answer failed; the base class would print it, with whatever it holds."""
        _log.warning("metrics could not be told", extra={"host": client_address[0]}, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer `/metrics`, and nothing else."""
        if self.path.partition("?")[0] != AT:
            self._answer(404, b"Metrics are at /metrics.\n", "text/plain; charset=utf-8")
            return
        body, media_type = self.server.exposition.text(self.headers.get("Accept", ""))
        self._answer(200, body, media_type)

    def log_message(self, *_: object) -> None:
        """Keep requests out of the log."""

    def version_string(self) -> str:
        """Tell nobody what runs here."""
        return "dicom-node"

    def _answer(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _server(host: str, port: int, networks: Networks, exposition: Exposition) -> _Server:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server = _Server((str(address[0]), int(address[1])), socket.AddressFamily(family))
    server.networks, server.exposition = networks, exposition
    return server

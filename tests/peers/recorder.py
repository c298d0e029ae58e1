"""A TCP proxy that writes down what clients say, to be said again by a test."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class Recorder:
    """Passes connections on to `target`; `said` holds the client's bytes of each, oldest first."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.said: list[bytearray] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Take no more connections, and wait for the end of those that are open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.said.append(bytearray())
            self._start(_talk, client, server, self.said[-1])

    def _start(self, action: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=action, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _talk(client: socket.socket, server: socket.socket, said: bytearray) -> None:
    """Pass on what both say until both are silent for good; keep what the client says in `said`."""
    with client, server:
        answers = threading.Thread(target=_pass_on, args=(server, client, bytearray()), daemon=True)
        answers.start()
        _pass_on(client, server, said)
        answers.join()


def _pass_on(source: socket.socket, sink: socket.socket, said: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            said += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def recording(target: int) -> Iterator[Recorder]:
    """Record what is said to the port `target` of this machine through `Recorder.port` while the block runs."""
    recorder = Recorder(target)
    try:
        yield recorder
    finally:
        recorder.close()

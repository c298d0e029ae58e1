"""What the acceptor process and its parent tell each other: JSON over a socket pair, several messages a line."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

_BUFFER_BYTES = 1 << 19
_MESSAGES_PER_LINE = 200
#: Messages that come this close together travel in one line.
_GATHER_S = 0.005

Message = dict[str, Any]


class Channel:
    """One end. `tell` never blocks; `messages` yields until the other end is gone."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, name=f"{name}-sender", daemon=True)
        self._sender.start()

    def tell(self, kind: str, **more: object) -> None:
        """Send a message some milliseconds from now, in order."""
        self._waiting.put({"kind": kind, **more})

    def messages(self) -> Iterator[Message]:
        """Yield what the other end tells."""
        with contextlib.suppress(OSError), self._connection.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else the other end died inside it
                    yield from json.loads(line)

    def close(self) -> None:
        """Send what waits, and end."""
        self._waiting.put(None)
        self._sender.join(2)
        self._connection.close()

    def _send(self) -> None:
        while True:
            batch = [self._waiting.get()]
            if batch[0] is not None:
                time.sleep(_GATHER_S)
            while len(batch) < _MESSAGES_PER_LINE and not self._waiting.empty():
                batch.append(self._waiting.get())
            told = [message for message in batch if message is not None]
            try:
                if told:
                    self._connection.sendall(json.dumps(told).encode() + b"\n")
            except OSError:
                return  # the other end is gone; whoever reads here learns of it
            if None in batch:
                return


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets with room for what one end says while the other is busy."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for one in (ours, theirs):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ours, theirs

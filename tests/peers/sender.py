"""A sender that stores image after image until the connection fails, and keeps every answer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from tests.peers.raw import Raw
from tests.support.studies.small_images import Image


class Sender(threading.Thread):
    """Sends what `images` yields over one association after the other."""

    def __init__(self, port: Callable[[], int], images: Iterator[Image], patience_s: float) -> None:
        super().__init__(daemon=True)
        self._patience_s = patience_s
        self._port = port
        self._images = images
        self._over = threading.Event()
        #: Answered with success; answered otherwise (status and image).
        self.acknowledged: list[Image] = []
        self.refused: list[tuple[int, Image]] = []
        #: Ends of associations that this side did not want.
        self.cut_off = 0

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with Raw(self._port(), timeout_s=self._patience_s) as peer:
                    peer.opened()
                    self._send_over(peer)
                    peer.release()
            except (OSError, AssertionError):
                self.cut_off += 1
                self._over.wait(0.05)

    def stop(self) -> None:
        """Finish the image under way and end."""
        self._over.set()
        self.join(3 * self._patience_s + 60)  # a new connection, an answer, the release: each may take its time
        assert not self.is_alive(), "the sender has not ended; its answers may still grow"

    def _send_over(self, peer: Raw) -> None:
        for image in self._images:
            status = peer.store(image, pdu_bytes=131072)
            if status == 0:
                self.acknowledged.append(image)
            else:
                self.refused.append((status, image))
            if self._over.is_set():
                return


@contextlib.contextmanager
def sending(port: Callable[[], int], *queues: Iterator[Image], patience_s: float = 5.0) -> Iterator[list[Sender]]:
    """Run a sender for each of the `queues` until the block ends; each waits `patience_s` for an answer."""
    senders = [Sender(port, images, patience_s) for images in queues]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for sender in senders:
            sender.stop()

"""A time server that may be made to answer wrongly; written from the figure of RFC 5905, not from the node's code."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_SINCE_1900_S = (70 * 365 + 17) * 86400
#: The packets that a question is answered with, one after the other.
Answers = Callable[[bytes], list[bytes]]


def ntp_time(seconds: float) -> bytes:
    """Return a time of this era or the next, as 32 bits of seconds and 32 of their fraction."""
    whole = int(seconds // 1)
    return ((whole + _SINCE_1900_S) % 2**32).to_bytes(4, "big") + int((seconds - whole) * 2**32).to_bytes(4, "big")


def answer_to(question: bytes, ahead_s: float = 0.0, fields: Mapping[int, bytes] | None = None) -> bytes:
    """Return a right answer of a server that is `ahead_s`; `fields` replaces bytes from an offset on."""
    now = time.time() + ahead_s
    answer = bytearray(48)
    answer[0], answer[1], answer[3] = 0x24, 2, 0xEC
    answer[12:16] = b"TEST"
    answer[16:24] = ntp_time(now - 10)
    answer[24:32] = question[40:48]
    answer[32:40] = answer[40:48] = ntp_time(now)
    for offset, value in (fields or {}).items():
        answer[offset : offset + len(value)] = value
    return bytes(answer)


class TimeServerStandIn:
    """Answers every question with what `answers` makes of it, in a thread of its own."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.questions: list[bytes] = []
        self.askers: list[tuple[str, int]] = []
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._line.bind(("127.0.0.1", 0))
        self.port: int = self._line.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            question, sender = self._line.recvfrom(2048)
            if question == b"stop":
                return
            self.questions.append(question)
            self.askers.append(sender)
            for answer in self.answers(question):
                self._line.sendto(answer, sender)

    def stop(self) -> None:
        """End it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"stop", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._line.close()


@contextmanager
def time_server(answers: Answers = lambda question: [answer_to(question)]) -> Iterator[TimeServerStandIn]:
    """Run one."""
    one = TimeServerStandIn(answers)
    try:
        yield one
    finally:
        one.stop()

"""Senders of HL7 over MLLP: one that obeys, by another library, and one that does as it likes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hl7.client import MLLPClient

START, END = b"\x0b", b"\x1c\r"


def send(port: int, text: str | bytes) -> str:
    """Send one message with the client of the library `hl7`; return the answer without its frame."""
    with MLLPClient("127.0.0.1", port) as client:
        client.socket.settimeout(60)
        return str(client.send_message(text).strip(START + END).decode())


def code(answer: str) -> str:
    """Return MSA-1 of an answer."""
    return answer.split("\rMSA|", 1)[1].split("|", 1)[0]


@contextmanager
def raw(port: int) -> Iterator[socket.socket]:
    """A connection that sends what it likes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        yield connection


def answers(connection: socket.socket) -> list[str]:
    """Return what comes until the other side hangs up, message by message."""
    received = b""
    while part := _received(connection):
        received += part
    return [one.strip(START).decode() for one in received.split(END) if one.strip(START)]


def next_answer(connection: socket.socket) -> str:
    """Return the next answer on a connection that stays open; what comes after it is left for the next call."""
    received = b""
    while not received.endswith(END):
        part = connection.recv(1)
        assert part, "the node hung up"
        received += part
    return received.strip(START + END).decode()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""

"""What is told of a connection that failed: the system's words, never the peer's."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest

from dicom_node.core.errors import fault_told


def test_a_connection_that_is_refused_is_told_in_the_words_of_the_system() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError) as failed:
            httpx.get(f"http://127.0.0.1:{unused.getsockname()[1]}", trust_env=False)
    assert fault_told(failed.value) == "Connection refused"


def test_a_line_that_cannot_be_read_is_not_repeated() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 500 Oops\r\nDOE^JANE is not known\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(httpx.RemoteProtocolError, match="DOE") as failed:
            httpx.get(f"http://127.0.0.1:{server.getsockname()[1]}", trust_env=False)
        thread.join()
    assert fault_told(failed.value) == "RemoteProtocolError"

"""What must be durable is so before the answer, and before a slot is free: the order of the node's system calls."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.node import Node
from tests.peers.process import Process
from tests.peers.raw import Raw
from tests.support.acceptor_state import acceptor_pid
from tests.support.needs import tool
from tests.support.studies.small_images import (
    small_image,
)

pytestmark = pytest.mark.timeout(600)

SUCCESS = 0x0000
#: The head of a short P-DATA-TF on its way out.
ANSWER = r"(sendto|sendmsg|write)\(\d+<(TCP|socket)[^>]*>.*\\4\\0\\0\\0"


@pytest.fixture
def trace(node: Callable[..., Node], tmp_path: Path) -> Callable[[Callable[[Node], None]], list[str]]:
    """Return a function that records the system calls of a node while something is done to it."""

    def traced(action: Callable[[Node], None]) -> list[str]:
        one = node(route=[])
        with Raw(one.dicom_port).opened() as peer:  # what happens only once shall not be in the record
            assert peer.store(small_image("warm-up")) == SUCCESS
        one.wait_until_settled()
        time.sleep(1)
        assert one.process is not None
        record = tmp_path / "calls"
        calls = "pwritev,pwritev2,pwrite64,write,writev,sendfile,fdatasync,fsync,syncfs,rename,renameat2,sendto,sendmsg"
        argv = [tool("strace", "strace"), "-f", "-y", "-s", "32", "-e", f"trace={calls}", "-o", str(record)]
        traced_pids = (one.process.pid, acceptor_pid(one))
        attach = [part for pid in traced_pids for part in ("-p", str(pid))]
        strace = Process([*argv, *attach], tmp_path / "strace.log")
        strace.wait_until_ready(lambda: all(f"Process {pid} attached" in strace.tail() for pid in traced_pids))
        action(one)
        one.wait_until_settled()
        time.sleep(1)
        strace.stop(by=signal.SIGINT)
        return record.read_text(encoding="utf-8", errors="replace").splitlines()

    return traced


def begun(calls: list[str], what: str, after: int = 0) -> int:
    """The first line from `after` on where a call that matches begins."""
    return next(n for n, line in enumerate(calls) if n >= after and re.search(what, line) and "resumed" not in line)


def finished(calls: list[str], what: str, after: int = 0) -> int:
    """The line where a call that matches, begun from `after` on, has returned 0 or more."""
    start = begun(calls, what, after)
    line = calls[start]
    if "<unfinished" in line:
        pid, name = line.split()[0], line.split()[1].split("(")[0]
        ends = ((n, text) for n, text in enumerate(calls) if n > start and f"<... {name} " in text)
        start, line = next((n, text) for n, text in ends if text.startswith(f"{pid} "))
    assert re.search(r"= \d+", line), f"the call failed: {line}"
    return start


def test_a_small_image_is_synchronised_in_its_slot_before_the_answer_and_filed_before_its_slot_is_free(
    trace: Callable[..., list[str]],
) -> None:
    def store(node: Node) -> None:
        with Raw(node.dicom_port).opened() as peer:
            assert peer.store(small_image("ordered")) == SUCCESS

    calls = trace(store)
    written = finished(calls, r"pwritev2?\(\d+<[^>]*\.slot>, \[\{iov_base=\"DNSLOT01")
    slot = re.search(r"<([^>]*\.slot)>", calls[begun(calls, r"pwritev2?\(.*DNSLOT01")])
    assert slot is not None
    synchronised = finished(calls, rf"fdatasync\(\d+<{re.escape(slot[1])}>", written)
    answered = begun(calls, ANSWER, written)
    assert written < synchronised < answered

    copied = finished(calls, r"(sendfile|write|pwrite64)\(\d+<[^>]*/incoming/settle-[^>]*\.part>", answered)
    content_durable = finished(calls, r"syncfs\(|f(data)?sync\(\d+<[^>]*/incoming/settle-", copied)
    named = finished(calls, r"rename(at2)?\(.*/incoming/settle-.*/objects/", content_durable)
    committed = finished(calls, r"f(data)?sync\(\d+<[^>]*node\.sqlite", named)
    name_durable = finished(calls, r"syncfs\(|fsync\(\d+<[^>]*/objects/", named)
    freed = begun(calls, rf"pwrite64\(\d+<{re.escape(slot[1])}>, \"free", named)
    assert copied < content_durable < named < min(committed, name_durable)
    assert max(committed, name_durable) < freed


def test_a_large_image_has_its_file_name_and_record_synchronised_before_the_answer(
    trace: Callable[..., list[str]],
) -> None:
    def store(node: Node) -> None:
        with Raw(node.dicom_port).opened() as peer:
            assert peer.store(small_image("large-ordered", rows=1000), pdu_bytes=131072) == SUCCESS

    calls = trace(store)
    streamed = finished(calls, r"write\(\d+<[^>]*/incoming/dicom-[^>]*\.part>")
    content_durable = finished(calls, r"f(data)?sync\(\d+<[^>]*/incoming/dicom-", streamed)
    named = finished(calls, r"rename(at2)?\(.*/incoming/dicom-.*/objects/", content_durable)
    name_durable = finished(calls, r"fsync\(\d+<[^>]*/objects/[^>]*>", named)
    recorded = finished(calls, r"pwritev2?\(.*DNSLOT01", named)
    record_durable = finished(calls, r"fdatasync\(\d+<[^>]*\.slot>", recorded)
    answered = begun(calls, ANSWER, recorded)
    assert content_durable < named < name_durable < recorded < record_durable < answered
    last_piece = max(n for n, line in enumerate(calls) if re.search(r"write\(\d+<[^>]*/incoming/dicom-", line))
    assert last_piece < content_durable


def test_content_that_is_there_already_has_its_name_synchronised_before_the_answer_too(
    trace: Callable[..., list[str]],
) -> None:
    """Whoever brought it first may not have come so far."""
    image = small_image("twice-ordered", rows=1000)

    def store_twice(node: Node) -> None:
        with Raw(node.dicom_port).opened() as peer:
            assert [peer.store(image, pdu_bytes=131072) for _ in range(2)] == [SUCCESS, SUCCESS]

    calls = trace(store_twice)
    first = begun(calls, ANSWER, begun(calls, r"write\(\d+<[^>]*/incoming/dicom-"))
    name_durable = finished(calls, r"fsync\(\d+<[^>]*/objects/[^>]*>", first)
    assert name_durable < begun(calls, ANSWER, first + 1)

"""kill -9 a hundred times while senders keep a ledger: what was answered with success is there, byte for byte."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.peers.node import Node
from tests.peers.process import free_port, wait_until
from tests.peers.raw import Raw
from tests.peers.sender import Sender, sending
from tests.support.acceptor_state import Use, acceptor_pid, open_by, parts, use_of_process
from tests.support.results.stored_objects import assert_kept, kept_by
from tests.support.studies.small_images import Image, small_image

pytestmark = pytest.mark.timeout(900)

ROUNDS = 100
SEED = 20261121
#: Starts in half the time; what else a node does has no part in this.
RECEIVER_ONLY = ("--role", "receive")


def images(sender: str) -> Iterator[Image]:
    """Small ones through the journal; every eighth is streamed to a file of its own."""
    for number in itertools.count():
        yield small_image(f"{sender}-{number}", f"study-{sender}-{number // 50}", rows=800 if number % 8 == 7 else 48)


def test_what_was_acknowledged_survives_a_hundred_kills_of_the_receiver(node: Callable[..., Node]) -> None:
    """Two of three kills hit the acceptor alone, which its node starts again; the third hits the node with all."""
    chance = random.Random(SEED)
    one = node(start=False, route=[], dicom={"port": free_port(), "journal_mb": 16})
    one.start(None, *RECEIVER_ONLY)
    with sending(lambda: one.dicom_port, images("a"), images("b")) as senders:
        killed = 0
        for number in range(ROUNDS):
            acceptor = _wait_for_success(one, senders, after=killed)
            time.sleep(chance.uniform(0.0, 0.3))
            assert acceptor_pid(one) == acceptor, "the acceptor died by itself"
            if number % 3 == 2:
                one.kill9()
                one.start(None, *RECEIVER_ONLY)
            else:
                os.kill(acceptor, signal.SIGKILL)
                killed = acceptor
    one.restart()

    acknowledged = [image for sender in senders for image in sender.acknowledged]
    assert len(acknowledged) >= ROUNDS
    assert sum(sender.cut_off for sender in senders) >= ROUNDS / 2, "the kills hit nothing"
    assert [status for sender in senders for status, _ in sender.refused] == []
    assert_kept(one, acknowledged)
    assert parts(one) == []
    rows = [kept.sop_instance_uid for kept in kept_by(one)]
    assert len(rows) == len(set(rows)), "an image was entered twice"


def test_an_acceptor_that_dies_again_and_again_leaves_nothing_behind_in_its_node(node: Callable[..., Node]) -> None:
    one = node(start=False, route=[])
    one.start(None, *RECEIVER_ONLY)
    assert one.process is not None
    used = []
    for _ in range(4):
        _wait_for_acceptor(one)
        with Raw(one.dicom_port).opened() as peer:
            assert peer.echo() == 0
        used.append(_at_rest(one.process.pid, used))
        os.kill(acceptor_pid(one), signal.SIGKILL)
        wait_until(lambda: _acceptor(one) is None, 60, "the acceptor's end")
    assert used[-1].threads <= used[1].threads + 1, used  # the scheduler's pool may grow meanwhile
    assert all(now.descriptors <= used[1].descriptors for now in used[2:]), used


def _at_rest(pid: int, before: list[Use]) -> Use:
    """Return what the node uses less the files of its database, of which two sweeps that meet open more than one.

    From the third time on it gets some seconds to be down at what it was.
    """

    def now() -> Use:
        others = sum("node.sqlite" not in name for name in open_by(pid))
        return replace(use_of_process(pid), descriptors=others)

    if len(before) > 1:
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: now().descriptors <= before[1].descriptors, 5, "the return")
    return now()


def _wait_for_success(node: Node, senders: list[Sender], after: int) -> int:
    """Wait for the acceptor that follows the one killed (`after`), and for an answer of it; return its process id.

    A killed process is listed until the kernel has taken it down, and its last answer may still be on its way.
    """
    acceptor = _wait_for_acceptor(node, after)
    before = sum(len(sender.acknowledged) for sender in senders)
    wait_until(lambda: sum(len(sender.acknowledged) for sender in senders) > before, 60, "the next success")
    return acceptor


def _wait_for_acceptor(node: Node, after: int = 0) -> int:
    wait_until(lambda: _acceptor(node) not in {None, after}, 60, "the acceptor's return")
    return acceptor_pid(node)


def _acceptor(node: Node) -> int | None:
    try:
        return acceptor_pid(node)
    except LookupError:
        return None

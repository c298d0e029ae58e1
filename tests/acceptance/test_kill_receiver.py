"""kill -9 again and again while senders note the answers: what was answered with success is there, byte for byte."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil
import pytest

from tests.peers.node import Node
from tests.peers.process import free_port, wait_until
from tests.peers.raw import Raw
from tests.peers.sender import Sender, sending
from tests.support.acceptor_state import Use, acceptor_pid, open_by, parts, use_of_process
from tests.support.campaign import amount
from tests.support.results.stored_objects import assert_kept, kept_by
from tests.support.studies.small_images import Image, small_image

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(amount(900, campaign=3600))]

ROUNDS = amount(6, campaign=100)
SEED = 20261121
OUT_OF_RESOURCES = 0xA700
#: Starts in half the time; what else a node does has no part in this.
RECEIVER_ONLY = ("--role", "receive")


def images(sender: str) -> Iterator[Image]:
    """Small ones through the journal; every eighth is streamed to a file of its own."""
    for number in itertools.count():
        yield small_image(f"{sender}-{number}", f"study-{sender}-{number // 50}", rows=800 if number % 8 == 7 else 48)


def test_what_was_acknowledged_survives_kill_after_kill_of_the_receiver(node: Callable[..., Node]) -> None:
    """Two of three kills hit the acceptor alone, which its node starts again; the third hits the node with all."""
    chance = random.Random(SEED)
    one = node(start=False, route=[], dicom={"port": free_port(), "journal_mb": 16})
    one.start(None, *RECEIVER_ONLY)
    with sending(lambda: one.dicom_port, images("a"), images("b")) as senders:
        killed: psutil.Process | None = None
        for number in range(ROUNDS):
            acceptor = _wait_for_success(one, senders, after=killed)
            time.sleep(chance.uniform(0.0, 0.3))
            assert _acceptor(one) == acceptor, "the acceptor died by itself"
            if number % 3 == 2:
                one.kill9()
                one.start(None, *RECEIVER_ONLY)
            else:
                acceptor.kill()
                killed = acceptor
    one.restart()

    acknowledged = [image for sender in senders for image in sender.acknowledged]
    assert len(acknowledged) >= ROUNDS
    assert sum(sender.cut_off for sender in senders) >= ROUNDS / 2, "the kills hit nothing"
    # A disk that others keep busy may leave no slot for an object: that is told, and nothing is lost by it.
    assert {status for sender in senders for status, _ in sender.refused} <= {OUT_OF_RESOURCES}
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


def _wait_for_success(node: Node, senders: list[Sender], after: psutil.Process | None) -> psutil.Process:
    """Wait for the acceptor that follows the one killed (`after`), and for an answer of it; return its process.

    A killed process is listed until the kernel has taken it down, and its last answer may still be on its way.
    """
    acceptor = _wait_for_acceptor(node, after)
    before = sum(len(sender.acknowledged) for sender in senders)
    wait_until(lambda: sum(len(sender.acknowledged) for sender in senders) > before, 60, "the next success")
    return acceptor


def _wait_for_acceptor(node: Node, after: psutil.Process | None = None) -> psutil.Process:
    found: list[psutil.Process] = []

    def is_another() -> bool:
        found[:] = [one for one in [_acceptor(node)] if one not in {None, after}]
        return bool(found)

    wait_until(is_another, 60, "the acceptor's return")
    return found[0]


def _acceptor(node: Node) -> psutil.Process | None:
    """Return the acceptor; processes are equal when number and time of start are, as numbers come again."""
    try:
        return psutil.Process(acceptor_pid(node))
    except (LookupError, psutil.NoSuchProcess):
        return None

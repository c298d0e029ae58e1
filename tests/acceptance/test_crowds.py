"""Many peers at once, most of them idle or strangers: those who may come in do, and resources stay bounded."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.peers import raw
from tests.peers.dcmtk import echoscu
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import Raw
from tests.support.acceptor_state import back_at, logged_errors, quiet, use_of
from tests.support.results.stored_objects import assert_kept
from tests.support.studies.small_images import small_image

pytestmark = pytest.mark.timeout(600)


def test_five_hundred_idle_connections_do_not_keep_an_allowed_modality_out(
    node: Callable[..., Node], machine_stall_s: Callable[[], float]
) -> None:
    one = node(route=[], dicom={"max_associations": 16}, peer=[{"ae_title": "MOD1", "host": "127.0.0.0/8"}])
    before = quiet(one)
    crowd = [socket.create_connection(("127.0.0.1", one.dicom_port)) for _ in range(500)]
    try:
        began = time.monotonic()
        assert echoscu(one.dicom_port).returncode == 0
        with Raw(one.dicom_port).opened() as peer:
            assert peer.store(small_image("through-the-crowd")) == 0
            peer.release()
        assert time.monotonic() - began < 5 + machine_stall_s()
        # Threads whose connections were just cut may take a moment to end.
        wait_until(lambda: use_of(one).threads - before.threads <= 200, 60, "the end of threads beyond the limit")
        wait_until(lambda: use_of(one).descriptors - before.descriptors <= 250, 60, "the end of their connections")
    finally:
        for connection in crowd:
            connection.close()
    back_at(one, before)
    assert logged_errors(one) == []


def test_descriptors_above_1023_serve_as_well_as_others(node: Callable[..., Node]) -> None:
    many = 1100
    # The first shall still be there when the last has come, however long that takes.
    limits = {"max_associations": 2000, "max_associations_per_peer": 2000, "network_timeout_s": 250}
    one = node(route=[], dicom=limits)
    before = quiet(one)
    crowd = []
    try:
        for _ in range(many):
            peer = Raw(one.dicom_port)
            crowd.append(peer.opened())
        assert use_of(one).descriptors > 1024
        assert echoscu(one.dicom_port).returncode == 0
        image = small_image("above-1023", rows=1024)
        assert crowd[-1].store(image) == 0
        assert crowd[-1].echo() == 0
        with Raw(one.dicom_port) as rejected:
            rejected.send(raw.associate_rq(called="OTHER"))
            answer = rejected.receive()
            assert answer is not None
            assert answer.kind == raw.ASSOCIATE_RJ
            assert rejected.end(20) == "closed"
    finally:
        for peer in crowd:
            peer.close()
    back_at(one, before, rss_mb=120)
    assert_kept(one, [image])
    assert logged_errors(one) == []


def test_one_address_cannot_take_all_associations(node: Callable[..., Node]) -> None:
    one = node(route=[], dicom={"max_associations": 8, "max_associations_per_peer": 4})
    with ExitStack() as stack:
        held = [stack.enter_context(Raw(one.dicom_port)).opened() for _ in range(4)]
        fifth = stack.enter_context(Raw(one.dicom_port))
        answer = fifth.associate()
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (2, 3, 2))
        for place in range(4):  # whoever has heard the answer to its release may come again at once
            held[place].release()
            held[place] = stack.enter_context(Raw(one.dicom_port)).opened()
            assert held[place].echo() == 0


@pytest.mark.parametrize(("calling", "host"), [("NOBODY", "127.0.0.0/8"), ("MOD1", "10.1.2.0/24")])
def test_an_unknown_title_or_address_is_rejected_with_a_line_in_the_log(
    node: Callable[..., Node], calling: str, host: str
) -> None:
    one = node(route=[], peer=[{"ae_title": "MOD1", "host": host}])
    with Raw(one.dicom_port) as peer:
        answer = peer.associate(calling=calling)
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (1, 1, 3))
        assert peer.end(20) == "closed"
    line = one.wait_for_event(lambda event: event["event"] == "association rejected")
    assert (line["calling_ae_title"], line["host"]) == (calling, "127.0.0.1")

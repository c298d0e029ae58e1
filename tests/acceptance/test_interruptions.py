"""Senders that are cut off, and parts of the node that die or hang alone: no study waits for what will not come."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.node import Node
from tests.peers.process import free_port, listens, wait_until
from tests.peers.raw import Raw
from tests.support.acceptor_state import acceptor_pid, children, logged_errors, wait_until_journal_is_whole
from tests.support.results.stored_objects import assert_kept
from tests.support.studies.small_images import Image, small_image

pytestmark = pytest.mark.timeout(600)

QUIET_S = 1.0
ROUTE = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": QUIET_S, "when": {"modality": "CT"}}
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
#: What a machine with other work needs besides.
LEEWAY_S = 60.0


def timeline(node: Node, study: str) -> list[dict[str, Any]]:
    with node.api() as api:
        answer = api.get(f"/api/studies/{study}/timeline")
    return list(answer.json()) if answer.status_code == 200 else []


def is_complete(node: Node, study: str) -> bool:
    """Tell whether the study was found complete."""
    return any("COMPLETE" in entry["text"] for entry in timeline(node, study))


def wait_until_complete(node: Node, study: str) -> None:
    wait_until(lambda: is_complete(node, study), LEEWAY_S, "the completeness of the study", 0.2)


@contextlib.contextmanager
def half_sent(node: Node, study: str) -> Iterator[tuple[Raw, list[Image]]]:
    """An association that has brought five images and is in the middle of the sixth; gives it and the five."""
    images = [small_image(f"{study}-{number}", study) for number in range(5)]
    with Raw(node.dicom_port).opened() as peer:
        assert [peer.store(image) for image in images] == [SUCCESS] * 5
        yield peer, images


@pytest.mark.parametrize("how", ["abort", "reset", "close"])
def test_a_study_whose_sender_is_cut_off_is_complete_by_its_quiet_time(node: Callable[..., Node], how: str) -> None:
    one = node(route=[{**ROUTE, "quiet_period_s": 2 * QUIET_S}])
    with half_sent(one, how) as (peer, images):
        study = images[0].study_instance_uid
        time.sleep(2.4 * QUIET_S)
        assert not is_complete(one, study), "it was still coming"
        getattr(peer, how)()
    wait_until_complete(one, study)
    assert_kept(one, images)


def test_a_router_that_keeps_its_association_open_and_echoes_holds_no_study_for_long(node: Callable[..., Node]) -> None:
    one = node(route=[ROUTE])
    with half_sent(one, "held-open") as (peer, images):
        study = images[0].study_instance_uid

        def is_complete_between_echoes() -> bool:
            assert peer.echo() == SUCCESS
            return is_complete(one, study)

        wait_until(is_complete_between_echoes, LEEWAY_S, "the study to be complete", 0.2)
        with one.api() as api:
            timeline = api.get(f"/api/studies/{study}/timeline").json()
        assert any("association still open" in entry["text"] for entry in timeline)
        assert not any("PARTIAL" in entry["text"] or "incomplete" in entry["text"] for entry in timeline)
    assert_kept(one, images)


def test_a_study_is_complete_by_its_quiet_time_although_the_acceptor_died_under_it(node: Callable[..., Node]) -> None:
    one = node(route=[ROUTE])
    with half_sent(one, "acceptor-killed") as (_, images):
        os.kill(acceptor_pid(one), signal.SIGKILL)
        wait_until_complete(one, images[0].study_instance_uid)
    assert_kept(one, images)


def test_an_acceptor_that_cannot_start_again_at_once_is_tried_until_it_can(node: Callable[..., Node]) -> None:
    """The place of its journal is taken by a file for a while, as when a disk is away."""
    one = node(route=[])
    journal = one.data_dir / "journal"
    journal.rename(journal.with_name("away"))
    journal.write_bytes(b"a file where the folder should be")
    os.kill(acceptor_pid(one), signal.SIGKILL)
    one.wait_for_event(lambda event: event["event"].startswith("acceptor died") and bool(event["why"]))
    journal.unlink()
    journal.with_name("away").rename(journal)
    image = small_image("after")
    wait_until(lambda: serves(one), LEEWAY_S, "an acceptor that serves")
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(image) == SUCCESS
    assert_kept(one, [image])


def serves(node: Node) -> bool:
    with node.api() as api:
        return bool(api.get("/readyz").status_code == 200)


def test_a_study_is_complete_by_its_quiet_time_although_the_node_died_under_it(node: Callable[..., Node]) -> None:
    one = node(route=[ROUTE])
    with half_sent(one, "node-killed") as (_, images):
        one.kill9()
    one.start()
    wait_until_complete(one, images[0].study_instance_uid)
    assert_kept(one, images)


def test_a_killed_node_takes_its_children_with_it_and_its_port_is_free(node: Callable[..., Node]) -> None:
    """kill -9 of the node's process alone, as the kernel does when memory is short."""
    one = node(route=[], dicom={"port": free_port()})
    image = small_image("before")
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(image) == SUCCESS
        assert one.process is not None
        family = [*children(one.process.pid), acceptor_pid(one)]
        os.kill(one.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(is_alive(pid) for pid in family), LEEWAY_S, "the end of the children")
        assert peer.end(LEEWAY_S) in {"closed", "reset"}
    # A process whose first thread has ended holds its sockets until the last one has, which may sit in a disk write.
    wait_until(lambda: not listens(one.dicom_port), LEEWAY_S, "the end of the listener")
    one.process.kill9()
    one.start()
    assert_kept(one, [image])


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_while_the_node_hangs_its_journal_takes_what_it_can_and_the_rest_hears_out_of_resources(
    node: Callable[..., Node],
) -> None:
    """The acceptor goes on alone: success while there are slots; all of it is filed when the node wakes."""
    one = node(route=[], dicom={"journal_mb": 4})
    with Raw(one.dicom_port, timeout_s=40).opened() as peer:
        assert peer.store(small_image("before-the-pause", "pause")) == SUCCESS
        one.wait_until_settled()
        wait_until_journal_is_whole(one)
        slots = len(list((one.data_dir / "journal").glob("*.slot")))
        assert one.process is not None
        os.kill(one.process.pid, signal.SIGSTOP)
        try:
            images = [small_image(f"pause-{number}", "pause") for number in range(slots + 1)]
            answers = [peer.store(image) for image in images]
            assert peer.echo() == SUCCESS
        finally:
            os.kill(one.process.pid, signal.SIGCONT)
        assert set(answers) == {SUCCESS, OUT_OF_RESOURCES}
        assert slots - 2 <= answers.count(SUCCESS) <= slots
        one.wait_until_settled()
        assert peer.store(images[-1]) == SUCCESS
        peer.release()
    acknowledged = [image for image, status in zip(images, answers, strict=True) if status == SUCCESS]
    assert_kept(one, [*acknowledged, images[-1]])
    assert logged_errors(one) == []

"""Several processes on one data folder: two receivers never share a journal, and roles apart lose and take nothing."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dicom_node.roles import ROLES
from dicom_node.storage.journal import read_record, slots_in
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.sender import sending
from tests.support.results.stored_objects import assert_kept
from tests.support.studies.small_images import small_image

pytestmark = pytest.mark.timeout(600)


def beside(node: Node, name: str, **sections: Any) -> Node:
    """Another process on the data folder of `node`."""
    data = {"data_dir": str(node.data_dir), "min_free_mb": 0}
    other = Node(node.folder.parent / name, {"route": [], **sections, "node": data})
    other.data_dir = node.data_dir
    return other


def test_a_second_receiver_on_the_same_journal_is_refused_by_name(node: Callable[..., Node]) -> None:
    first = node(route=[])
    second = beside(first, "second")
    argv = [sys.executable, "-m", "dicom_node", "serve", "--config", str(second.config)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert first.process is not None
    assert done.returncode == 1
    assert f"process {first.process.pid} on {os.uname().nodename}, since " in done.stderr
    assert "Traceback" not in done.stderr


def test_two_receivers_with_a_journal_each_lose_nothing_when_both_are_killed(node: Callable[..., Node]) -> None:
    first = node(route=[])
    second = beside(first, "second", dicom={"journal": "journal-2"})
    second.start(None, "--role", "receive")
    streams = [(small_image(f"{who}-{n}", who) for n in itertools.count()) for who in ("first", "second")]
    try:
        with (
            sending(lambda: first.dicom_port, streams[0], patience_s=30) as (one,),
            sending(lambda: second.dicom_port, streams[1], patience_s=30) as (other,),
        ):
            wait_until(lambda: min(len(one.acknowledged), len(other.acknowledged)) > 40, 120, "images on both")
            first.kill9()
            second.kill9()
        second.start(None, "--role", "receive")
        first.start()
        wait_until(lambda: not _records(first.data_dir / "journal-2"), 120, "the other journal to be empty")
        assert_kept(first, [*one.acknowledged, *other.acknowledged])
    finally:
        second.kill9()


def _records(journal: Path) -> list[int]:
    return [slot for slot in slots_in(journal) if read_record(journal, slot) is not None]


def test_a_second_infer_role_leaves_the_work_of_the_first_alone_and_removes_that_of_the_dead(
    node: Callable[..., Node],
) -> None:
    first = node(route=[])
    (mine,) = (first.data_dir / "work").iterdir()
    (mine / "job-1").mkdir()
    left = first.data_dir / "work" / "job-of-a-version-before"
    left.mkdir()
    second = beside(first, "second")
    try:
        second.start(None, "--role", "infer")
        assert (mine / "job-1").is_dir()
        assert not left.exists()
        second.kill9()
        second.start(None, "--role", "infer")
        assert mine in (first.data_dir / "work").iterdir()
        assert len(list((first.data_dir / "work").iterdir())) == 2
    finally:
        second.kill9()


def test_ports_of_every_process_stand_in_one_file(node: Callable[..., Node], tmp_path: Path) -> None:
    receiver = node(start=False, route=[])
    receiver.start(None, "--role", "receive")
    api = beside(receiver, "api")
    try:
        api.start(None, "--role", "api", "--role", "index")
        assert api.dicom_port == receiver.dicom_port != 0
        assert api.api_port != 0
    finally:
        api.kill9()


def test_roles_that_start_at_once_on_an_empty_postgresql_all_live(node: Callable[..., Node], postgres_url: str) -> None:
    database = {"database": {"url": postgres_url}}
    first = node(name="receive", start=False, route=[], **database)
    processes = {role: first if role == "receive" else beside(first, role, **database) for role in ROLES}
    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            list(pool.map(lambda role: processes[role].launch(None, "--role", role), processes))
        for role, one in processes.items():
            assert one.wait_for_event(lambda event: event["event"] == "node ready")["roles"] == [role]
    finally:
        for one in processes.values():
            one.kill9()


def test_a_second_node_with_a_folder_of_its_own_on_the_same_database_is_refused(
    node: Callable[..., Node], postgres_url: str
) -> None:
    node(route=[], database={"url": postgres_url})
    second = node(name="second", start=False, route=[], database={"url": postgres_url})
    argv = [sys.executable, "-m", "dicom_node", "serve", "--config", str(second.config)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "dicom-node: The database belongs to another data folder" in done.stderr
    assert "Traceback" not in done.stderr

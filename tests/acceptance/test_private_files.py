"""Nobody but the node's user reads what the node keeps, and nobody finds the API token in a log."""

from __future__ import annotations

import itertools
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.node import Node
from tests.peers.process import Process, wait_until
from tests.peers.sender import sending
from tests.support.needs import REPOSITORY
from tests.support.studies.small_images import small_image

pytestmark = pytest.mark.timeout(300)
_OTHERS = 0o077


def test_every_file_and_folder_is_for_the_nodes_user_only_also_of_a_version_that_left_them_open(
    node: Callable[..., Node],
) -> None:
    old_umask = os.umask(0o022)
    try:
        one = node(start=False, route=[])
        for folder in ("spool/objects", "spool/incoming", "journal", "work"):
            (one.data_dir / folder).mkdir(parents=True)
        (one.data_dir / "node.sqlite").touch()
        one.start()
    finally:
        os.umask(old_umask)
    images = (small_image(f"private-{n}", "private") for n in itertools.count())
    with sending(lambda: one.dicom_port, images) as (sender,):
        wait_until(lambda: len(sender.acknowledged) > 5, 60, "some images")
    one.wait_until_settled()
    open_to_others = [path for path in one.data_dir.rglob("*") if _is_reachable(path, one.data_dir)]
    assert [path.name for path in open_to_others] == ["ports.json"], "which is for programs of the site"


def _is_reachable(path: Path, top: Path) -> bool:
    """Tell whether others could read it: neither it nor a folder above it is closed to them, `top` taken as open."""
    above = [folder for folder in path.parents if folder.is_relative_to(top) and folder != top]
    return all(one.stat().st_mode & _OTHERS for one in (path, *above))


def test_the_api_token_is_in_its_file_and_in_no_log(node: Callable[..., Node]) -> None:
    one = node(route=[])
    assert one.api_token not in one.log.read_text(encoding="utf-8")
    assert [event["file"] for event in one.events() if event["event"] == "API token made"] == [
        str(one.data_dir / "api-token")
    ]
    assert (one.data_dir / "api-token").stat().st_mode & _OTHERS == 0


def test_the_api_token_is_shown_to_whoever_starts_the_node_on_a_terminal(node: Callable[..., Node]) -> None:
    one = node(start=False, route=[])
    ours, theirs = pty.openpty()
    serve = [sys.executable, "-m", "dicom_node", "serve", "--role", "api", "--config", str(one.config)]
    on_terminal = ["sh", "-c", 'exec "$@" > "$0"', os.ttyname(theirs), *serve]
    program = Process(on_terminal, one.log, {"PYTHONPATH": str(REPOSITORY)})
    try:
        program.wait_until_ready((one.data_dir / "ports.json").exists, 120)
        assert one.api_token in os.read(ours, 4096).decode()
    finally:
        program.kill9()
        os.close(ours)
        os.close(theirs)

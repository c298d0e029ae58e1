"""Retrievals that outlive their node, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

from dicom_node.config.settings import Settings
from dicom_node.core.errors import SourceUnavailable
from dicom_node.index.database import Database
from dicom_node.retrieve.retrieval import Retrieval, RetrievalState, new_retrieval
from dicom_node.retrieve.retrievals import RetrievalMemory, open_retrievals
from dicom_node.retrieve.sink import WantedStudy
from dicom_node.retrieve.source import Source
from dicom_node.roles.node import Node
from tests.peers.process import wait_until


def asked(number: int) -> Retrieval:
    return new_retrieval(f"retrieval-{number}", "pacs", WantedStudy(f"1.2.{number}", ("1.2.3", "1.2.4")))


def test_what_has_not_ended_is_there_as_it_was_asked_for_and_what_has_ended_is_not(index: Database) -> None:
    memory = RetrievalMemory(index, "one")
    for number in range(3):
        memory.remember(asked(number))
    memory.forget("retrieval-1")
    RetrievalMemory(index, "another").remember(asked(7))

    again = memory.interrupted()

    assert [one.id for one in again] == ["retrieval-0", "retrieval-2"]
    assert (again[0].source, again[0].wanted) == ("pacs", asked(0).wanted)
    assert {one.state for one in again} == {RetrievalState.QUEUED}
    assert again[0].asked_at <= again[1].asked_at


def test_one_under_which_the_node_ends_again_and_again_is_given_up_with_a_reason(index: Database) -> None:
    memory = RetrievalMemory(index, "one")
    memory.remember(asked(0))
    states = [memory.interrupted()[0].state for _ in range(3)]
    (given_up,) = memory.interrupted()
    assert states == [RetrievalState.QUEUED] * 3
    assert given_up.state is RetrievalState.FAILED
    assert "ended 4 times" in given_up.reason
    assert memory.interrupted() == []


def test_one_from_a_source_that_is_no_longer_configured_is_shown_as_failed(tmp_path: Path) -> None:
    node = Node(Settings.model_validate({"node": {"data_dir": str(tmp_path / "data"), "min_free_mb": 0}}))
    RetrievalMemory(node.database, "one").remember(asked(0))
    retrievals = open_retrievals(node.settings, node.sink_parts("one"), RetrievalMemory(node.database, "one"))
    retrievals.take_up()
    (shown,) = retrievals.all()
    assert shown.state is RetrievalState.FAILED
    assert "no longer in the configuration" in shown.reason
    assert RetrievalMemory(node.database, "one").interrupted() == []
    node.database.close()


class SlowSource:
    """A PACS that answers nothing until the test lets it, and then is gone."""

    name, kind, ae_title, host, place = "pacs", "dimse", "PACS", "pacs.local", ""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def fetch(self, _wanted: WantedStudy, _sink: object) -> None:
        assert self.let_go.wait(60)
        raise SourceUnavailable("The PACS is gone.")


def test_one_that_waits_for_a_source_that_is_taken_out_meanwhile_ends_and_says_so(tmp_path: Path) -> None:
    """Those that run go on with the source that they began with."""
    node = Node(Settings.model_validate({"node": {"data_dir": str(tmp_path / "data"), "min_free_mb": 0}}))
    retrievals, source = open_retrievals(node.settings, node.sink_parts("one")), SlowSource()
    retrievals.sources = {"pacs": cast(Source, source)}
    ids = [retrievals.ask(WantedStudy(f"1.2.{number}"), "pacs").id for number in range(3)]
    wait_until(lambda: retrievals.get(ids[1]).state is RetrievalState.RUNNING, 30, "two that run")
    retrievals.sources = {}
    source.let_go.set()
    wait_until(lambda: retrievals.get(ids[2]).state is RetrievalState.FAILED, 30, "the end of the third")

    assert retrievals.get(ids[2]).reason == "The source is no longer in the configuration."
    wait_until(lambda: "The PACS is gone." in retrievals.get(ids[0]).reason, 30, "the end of the first")
    node.database.close()

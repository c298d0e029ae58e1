"""A node that is killed while it proves what it sent: nothing is lost, sent twice, or proved without evidence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.core.entities import DeliveryState
from dicom_node.index.database import Database
from dicom_node.index.tables import deliveries
from tests.integration.test_identity_check import Owing
from tests.peers.committing import CommittingPacs, Reports, running_committing_pacs
from tests.peers.node import Node
from tests.peers.process import free_port, wait_until

COMMITTED = DeliveryState.COMMITTED
#: How long anything may take on a busy machine.
PATIENCE_S = 120
WITHIN_S = 3


class Part(Node):
    """A process of the node, with what it is told to start as; it shares the data of the others."""

    def __init__(self, folder: Path, data_dir: Path, settings: dict[str, Any], *options: str) -> None:
        super().__init__(folder, settings | {"node": {"data_dir": str(data_dir)}})
        self.data_dir = data_dir
        self.options = options

    def begin(self) -> None:
        before = self._times_ready()
        self.launch(None, *self.options)
        assert self.process is not None
        self.process.wait_until_ready(lambda: self._times_ready() > before, PATIENCE_S)

    def _times_ready(self) -> int:
        return sum(event.get("event") == "node ready" for event in self.events()) if self.log.exists() else 0


class Watched:
    """A node that owes results to a PACS, as one process or as two, and is killed by it."""

    def __init__(self, folder: Path, pacs: CommittingPacs, database_url: str, roles: tuple[str, ...]) -> None:
        self.pacs, data_dir = pacs, folder / "data"
        pacs.node_port = free_port()
        settings: dict[str, Any] = {
            "destination": [
                {"name": "pacs", "kind": "dicom", "ae_title": pacs.aet, "host": pacs.host, "port": pacs.port}
            ],
            "delivery": {"verify_after_s": 0.1, "verify_within_s": WITHIN_S, "first_retry_s": 0.2},
            "dicom": {"port": pacs.node_port},
            "database": {"url": database_url},
            "route": [],
        }
        started = [("--role", role) for role in roles] or [()]
        self.parts = [Part(folder / f"part-{n}", data_dir, settings, *options) for n, options in enumerate(started)]
        for part in self.parts:
            part.begin()
        self.deliver, self.receive = self.parts[0], self.parts[-1]
        self.database = Database(database_url)
        self.owing = Owing(data_dir, self.database)
        self._killed = threading.Event()

    def kill(self, part: Part) -> None:
        """End a process at once, and only once."""
        self.pacs.at_association = self.pacs.at_request = self.pacs.at_report = lambda: None
        part.kill9()
        self._killed.set()

    def comes_back(self, part: Part) -> None:
        assert self._killed.wait(PATIENCE_S)
        self._killed.clear()
        part.begin()

    def rows(self) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(deliveries).order_by(deliveries.c.id)).all())

    def wait_until_proved(self) -> None:
        wait_until(lambda: {row.state for row in self.rows()} == {COMMITTED}, PATIENCE_S, "everything proved", 0.1)

    def end(self) -> None:
        for part in self.parts:
            part.kill9()
        self.database.close()


@pytest.fixture
def pacs() -> Iterator[CommittingPacs]:
    with running_committing_pacs(CommittingPacs(reports=Reports.ON_A_NEW_ASSOCIATION)) as one:
        yield one


def killed_before_the_request(node: Watched) -> None:
    node.pacs.at_association = lambda: node.kill(node.deliver)
    node.owing.add("before")
    node.comes_back(node.deliver)
    node.wait_until_proved()


def killed_after_the_request(node: Watched) -> None:
    node.pacs.reports = Reports.NEVER
    node.pacs.at_request = lambda: node.kill(node.deliver)
    node.owing.add("after")
    node.comes_back(node.deliver)
    node.pacs.report_anew(node.pacs.requests[-1])
    assert node.pacs.answers[-1] == 0x0000, "who asked is dead, and its request is known"
    node.wait_until_proved()


def killed_on_the_report(node: Watched) -> None:
    """The report is there and cannot be noted, since the test holds the rows, when the one who heard it dies."""
    asked = len(node.pacs.requests)
    node.owing.add("report")
    wait_until(lambda: len(node.pacs.requests) > asked, PATIENCE_S, "the request", 0.05)
    request = node.pacs.requests[-1]
    node.pacs.at_report = lambda: node.kill(node.receive)
    with node.database.write() as connection:
        connection.execute(select(deliveries).with_for_update()).all()
        node.pacs.report_anew(request)
    assert node.pacs.answers[-1] is None, "it was not answered, for nothing was noted"
    node.comes_back(node.receive)
    node.pacs.report_anew(request)
    assert node.pacs.answers[-1] == 0x0000
    node.wait_until_proved()


def survives(node: Watched, *moments: Callable[[Watched], None]) -> None:
    for killed in moments:
        killed(node)
    rows = node.rows()
    assert len(rows) == 2 * len(moments)
    assert {row.proof for row in rows} <= {"COMMITMENT", "QUERY"}
    assert all(row.proved_at is not None and row.proof_note for row in rows)
    sent = [str(row.artifact_uid) for row in rows]
    assert sorted(node.pacs.stores) == sorted(sent), "each object once, and none lost"
    assert len(node.owing.told("committed")) == len(rows), "one line of evidence for each"
    asked = [str(request.TransactionUID) for request in node.pacs.requests]
    assert len(set(asked)) == len(asked)


def test_a_node_that_is_killed_when_it_has_asked_and_when_it_hears_proves_everything_once(
    tmp_path: Path, pacs: CommittingPacs
) -> None:
    (tmp_path / "data").mkdir()
    with ExitStack() as stack:
        node = Watched(tmp_path, pacs, f"sqlite:///{tmp_path / 'data' / 'node.sqlite'}", ())
        stack.callback(node.end)
        survives(node, killed_after_the_request, killed_on_the_report)


@pytest.mark.campaign
def test_so_does_a_node_that_delivers_in_one_process_and_receives_in_another(
    tmp_path: Path, pacs: CommittingPacs, postgres_url: str
) -> None:
    (tmp_path / "data").mkdir()
    with ExitStack() as stack:
        node = Watched(tmp_path, pacs, postgres_url, ("deliver", "receive"))
        stack.callback(node.end)
        survives(node, killed_before_the_request, killed_after_the_request, killed_on_the_report)

"""A node that delivers results to a PACS, with the audit trail and without: how fast, and how soon each arrives."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import func, select

from benchmarks.after_outage import Owed
from benchmarks.peers import node_command
from benchmarks.receivers import Receiver
from benchmarks.results import answer_of_a_volume
from dicom_node.analysis.answer import Analysis
from dicom_node.core.audit import AuditedAct
from dicom_node.core.entities import MediaType
from dicom_node.core.priority import Priority
from dicom_node.index.database import Database
from dicom_node.index.tables import audit_records
from dicom_node.storage.spool import Spool
from tests.peers.dcmtk import running_storescp
from tests.peers.process import wait_until

_PATIENCE_S = 600.0
#: Nobody asks this PACS later whether it still has everything: it answers no questions.
_PACS = """[delivery]
verify_after_s = 36000
[[destination]]
name = "pacs"
kind = "dicom"
ae_title = "STORESCP"
host = "127.0.0.1"
port = {port}
"""


@dataclass
class AuditedNode(Receiver):
    """A node with the trail, or without; `more` is further configuration."""

    is_audited: bool = True
    more: str = ""

    @property
    def way(self) -> str:
        """Return what its figures are called."""
        return "on" if self.is_audited else "off"

    def processor_s(self) -> float:
        """Return the processor time that all its processes have had."""
        assert self.process is not None
        times = [one.cpu_times() for one in [self.process, *self.process.children(recursive=True)]]
        return float(sum(one.user + one.system for one in times))

    def _command(self) -> list[str]:
        audit = f"[audit]\nenabled = {str(self.is_audited).lower()}\n"
        return node_command(self.folder, self.port, audit + self.more)


class _OwedByNode(Owed):
    """The index and the spool of a running node, which owes the PACS report and segmentation of each result."""

    takes = {"pacs": MediaType.DICOM}  # noqa: RUF012 - as in `Owed`, read only

    def __init__(self, data_dir: Path) -> None:
        self.database = Database(f"sqlite:///{data_dir.resolve() / 'node.sqlite'}")
        self.spool = Spool(data_dir / "spool")


@dataclass
class _Delivering:
    """A node whose destination is held until results wait for it."""

    node: AuditedNode
    owed: _OwedByNode
    delivered: int = 0
    rates: dict[str, list[float]] = field(default_factory=dict)

    def deliver(self, results: int, answer: Analysis) -> None:
        """Let so many results come into being, then let them go, and note how fast they went."""
        self._tell("suspend", {"reason": "Results gather for the measurement."})
        for number in range(self.delivered, self.delivered + results):
            self.owed.add(number, Priority.ROUTINE, answer)
        os.sync()
        began_s = self.node.processor_s()
        self._tell("resume", None)
        began = datetime.now(UTC)
        wait_until(lambda: not self.owed.waiting("pacs"), _PATIENCE_S, "the PACS to have everything", 0.1)
        processor_s = self.node.processor_s() - began_s
        sent = [(at - began).total_seconds() for _, at in self.owed.sent("pacs")[2 * self.delivered :]]
        self.delivered += results
        self._note("delivered a second", len(sent) / sent[-1])
        self._note("delivered a processor second", len(sent) / processor_s)
        self._note("from result to PACS, s", statistics.median(sent))

    def require_told(self, arrived: int) -> None:
        """Raise where something did not arrive, or the trail does not tell of every result, or is there at all."""
        told = select(func.count()).select_from(audit_records).where(audit_records.c.act == AuditedAct.STUDY_SENT)

        def is_told() -> bool:
            with self.owed.database.read() as connection:
                return connection.execute(told).scalar_one() == (self.delivered if self.node.is_audited else 0)

        wait_until(is_told, 30.0, f"a record of each of {self.delivered} results")
        if arrived != 2 * self.delivered:
            raise RuntimeError(f"{arrived} objects arrived of {2 * self.delivered}; see {self.node.folder / 'log'}")

    def _note(self, what: str, value: float) -> None:
        self.rates.setdefault(f"{what}, {self.node.way}", []).append(value)

    def _tell(self, what: str, body: object) -> None:
        data_dir = self.node.folder / "node"
        port = json.loads((data_dir / "ports.json").read_text(encoding="utf-8"))["api"]
        token = (data_dir / "api-token").read_text(encoding="utf-8").strip()
        url, headers = f"http://127.0.0.1:{port}/api/destinations/pacs/{what}", {"Authorization": f"Bearer {token}"}
        httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False).raise_for_status()


def delivery(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return objects delivered a second, and for a second of the node's processor time, and the seconds from a result
    to its arrival (the median), with and without, in each round; a round before these warms both up."""
    answer = answer_of_a_volume(8, 32)
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        pacs = [stack.enter_context(running_storescp(folder / f"pacs-{name}")) for name in ("on", "off")]
        nodes = stack.enter_context(both_nodes(folder, [_PACS.format(port=one.port) for one in pacs]))
        both = [_Delivering(one, _OwedByNode(one.folder / "node")) for one in nodes]
        for number in range(options.rounds + 1):
            for one in both if number % 2 else reversed(both):
                one.deliver(options.results, answer)
        for one, receiver in zip(both, pacs, strict=True):
            one.require_told(len(receiver.files()))
            one.owed.database.close()
            rates |= {name: values[1:] for name, values in one.rates.items()}
    return rates


@contextmanager
def both_nodes(folder: Path, more: Sequence[str] = ("", "")) -> Iterator[list[AuditedNode]]:
    """Run a node with the trail and one without."""
    nodes = [
        AuditedNode("node", folder / name, is_audited=name == "on", more=one)
        for name, one in zip(("on", "off"), more, strict=True)
    ]
    with ExitStack() as stack:
        yield [stack.enter_context(one) for one in nodes]

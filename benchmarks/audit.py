"""What the audit trail costs: a node with it and one without, side by side; and many writers on one database.

    python -m benchmarks.audit [--rounds 5] [--associations 8] [--count 20] [--writers 4] [--seconds 5]
        [--database URL] [--quick] [--json FILE]

Intake: every round sends new studies, one to an association, to both nodes, in turns; rates as in `benchmarks.intake`.
Writers: so many processes enter studies of four objects as fast as they can, with a trail (each study is noted, a
person acts after every 33rd, what is noted is entered after every 66th) and without, in turns; also told is how many
for a second of their processor time, which a busy machine changes little. Then they do nothing but acts by people, four
at a time in each. `--database` is an empty one (PostgreSQL); by default SQLite.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.command_line import keep, parser_of
from benchmarks.loads import LOADS, write_load
from benchmarks.peers import node_command
from benchmarks.receivers import Receiver
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import Instance, InstanceRole, SendingPeer
from dicom_node.core.principal import NODE, Principal, UserRole
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.received.associations import close_association, open_association
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail

_PER_STUDY = 4
_AT_ONCE = 4
#: Twice and once a second where nothing else is busy: what is compared is the same at every speed.
_STUDIES_AN_ACT, _STUDIES_A_FLUSH = 33, 66
_SENDER = SendingPeer("CT1", "AINODE", "10.1.2.3")
_ALICE = Principal("alice", frozenset({UserRole.OPERATOR}))


@dataclass
class AuditedNode(Receiver):
    """A node with the trail, or without."""

    is_audited: bool = True

    def _command(self) -> list[str]:
        return node_command(self.folder, self.port, f"[audit]\nenabled = {str(self.is_audited).lower()}\n")


# --- intake --------------------------------------------------------------------------------------------------------


def intake(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return objects a second, acknowledged and filed, with and without; and the median of the rounds' ratios."""
    nodes = [AuditedNode("node", folder / name, is_audited=name == "on") for name in ("on", "off")]
    rates: dict[str, list[float]] = {}
    try:
        for one in nodes:
            one.__enter__()
        for number in range(options.rounds + 1):
            folders = _fresh_files(folder / "load", options, number)
            for one in nodes if number % 2 else reversed(nodes):
                _send(one, folders, rates if number else {})
    finally:
        for one in nodes:
            one.__exit__()
    return _compared(rates, ("acknowledged a second", "filed a second"))


def _fresh_files(folder: Path, options: argparse.Namespace, number: int) -> list[Path]:
    folders = [folder / str(one) for one in range(options.associations)]
    for place, one in enumerate(folders):
        write_load(one, LOADS["mr"], options.count, number * options.associations + place + 1)
    os.sync()
    return folders


def _send(node: AuditedNode, folders: Sequence[Path], rates: dict[str, list[float]]) -> None:
    command = ["storescu", "-R", "-aec", node.ae_title, "127.0.0.1", str(node.port), "+sd"]
    objects = sum(len(list(folder.iterdir())) for folder in folders)
    began = time.perf_counter()
    senders = [subprocess.Popen([*command, str(folder)], env={**os.environ, "TCP_NODELAY": "1"}) for folder in folders]
    statuses = [sender.wait() for sender in senders]
    if any(statuses):
        raise RuntimeError(f"a sender failed; see {node.folder / 'log'}")
    acknowledged_s = time.perf_counter() - began
    node.drain()
    name = "on" if node.is_audited else "off"
    rates.setdefault(f"acknowledged a second, {name}", []).append(objects / acknowledged_s)
    rates.setdefault(f"filed a second, {name}", []).append(objects / (time.perf_counter() - began))


# --- writers -------------------------------------------------------------------------------------------------------


def writers(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return studies entered a second by all processes, with and without; acts a second, and what one takes (ms)."""
    url = options.database or f"sqlite:///{folder / 'index.sqlite'}"
    database = Database(url)
    database.migrate()
    database.close()
    AuditKeys(folder / "key").make()
    rates: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name in ("on", "off") if number % 2 else ("off", "on"):
            work = partial(_enter_studies, url, folder, options.seconds, name == "on")
            entered = _in_processes(options.writers, work)
            studies, processor_s = sum(one.studies for one in entered), sum(one.processor_s for one in entered)
            rates.setdefault(f"studies a second, {name}", []).append(studies / options.seconds)
            rates.setdefault(f"studies a processor second, {name}", []).append(studies / processor_s)
    acting = _in_processes(options.writers, partial(_act, url, folder, options.seconds))
    took = [one for times in acting for one in times]
    acts = {"acts by people": len(took) / options.seconds, "an act takes ms": statistics.median(took) * 1000}
    return _compared(rates, ("studies a second", "studies a processor second")) | acts


def _in_processes(count: int, work: Callable[[], Any]) -> list[Any]:
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        return [one.get() for one in [pool.apply_async(work) for _ in range(count)]]


def _trail(database: Database, folder: Path) -> AuditTrail:
    return AuditTrail(database, AuditKeys(folder / "key"), Anchor(folder / "anchor"), AuditSpool(folder / "waiting"))


@dataclass(frozen=True)
class _Entered:
    """What one process entered, and the processor time it had for that; a database server's own is not in it."""

    studies: int
    processor_s: float


def _enter_studies(url: str, folder: Path, seconds: float, is_audited: bool) -> _Entered:
    database = Database(url)
    trail, due = _trail(database, folder), SimpleQueue[Callable[[], None] | None]()
    beside = [threading.Thread(target=_beside, args=(due,)) for _ in range(1 if is_audited else 0)]
    for one in beside:
        one.start()
    _enter_study(database, f"2.25.{uuid.uuid4().int}")  # the first opens the connection
    began_s, studies, end = time.process_time(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        uid = f"2.25.{uuid.uuid4().int}"
        _enter_study(database, uid)
        if is_audited:
            trail.note(AuditedEvent(act=AuditedAct.STUDY_RECEIVED, actor=NODE, study_instance_uid=uid))
        studies += 1
        if studies % _STUDIES_AN_ACT == 0:
            due.put(partial(trail.record, AuditedEvent(act=AuditedAct.RETRY, actor=_ALICE)))
        if studies % _STUDIES_A_FLUSH == 0:
            due.put(trail.flush)
    due.put(None)
    for one in beside:
        one.join()
    trail.close()
    processor_s = time.process_time() - began_s
    database.close()
    return _Entered(studies, processor_s)


def _beside(due: SimpleQueue[Callable[[], None] | None]) -> None:
    """Be the person who acts, and the clock that enters what care has noted."""
    while (act := due.get()) is not None:
        act()


def _enter_study(database: Database, uid: str) -> None:
    arrivals = [_instance(uid, number) for number in range(_PER_STUDY)]
    association = str(uuid.uuid4())
    with database.write() as connection:
        add_instances(connection, arrivals)
        open_association(connection, association, "benchmark", arrivals)
        close_association(connection, association, "released", datetime.now(UTC))


def _instance(uid: str, number: int) -> Instance:
    name = f"{uid}.{number}"[-64:]
    return Instance(
        sop_instance_uid=name, sop_class_uid=LOADS["mr"].sop_class_uid, transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=uid, series_instance_uid=f"{uid}.9"[-64:], sha256=uuid.uuid4().hex * 2, size_bytes=1,
        object_key=uuid.uuid4().hex, role=InstanceRole.SOURCE, attributes={"modality": "MR"},
        received_at=datetime.now(UTC), sender=_SENDER,
    )  # fmt: skip


def _act(url: str, folder: Path, seconds: float) -> list[float]:
    database = Database(url)
    trail, end = _trail(database, folder), time.monotonic() + seconds

    def act(_: int) -> list[float]:
        took = []
        while (began := time.monotonic()) < end:
            trail.record(AuditedEvent(act=AuditedAct.RETRY, actor=_ALICE))
            took.append(time.monotonic() - began)
        return took

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        times = [one for took in pool.map(act, range(_AT_ONCE)) for one in took]
    trail.close()
    database.close()
    return times


# --- the answer ----------------------------------------------------------------------------------------------------


def _compared(rates: dict[str, list[float]], what: Sequence[str]) -> dict[str, float]:
    figures = {name: statistics.median(values) for name, values in sorted(rates.items())}
    for one in what:
        ratios = [on / off for on, off in zip(rates[f"{one}, on"], rates[f"{one}, off"], strict=True)]
        figures[f"{one}, on / off"] = statistics.median(ratios)
        figures |= {f"{one}, on / off, {name}": how(ratios) for name, how in (("least", min), ("most", max))}
    return figures


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"rounds": 1, "associations": 2, "count": 2, "writers": 2, "seconds": 1})
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--associations", type=int, default=8, help="studies in a round, each on its own")
    parser.add_argument("--count", type=int, default=20, help="objects of a study")
    parser.add_argument("--writers", type=int, default=4, help="processes on one database")
    parser.add_argument("--seconds", type=int, default=5, help="how long they write in a round")
    parser.add_argument("--database", default="", metavar="URL", help="an empty database; default: SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "writers").mkdir()
        figures = {**intake(options, folder / "intake"), **writers(options, folder / "writers")}
    for what, value in figures.items():
        print(f"{what:<48} {value:>10.2f}")
    keep(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

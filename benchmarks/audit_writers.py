"""Processes that enter studies of four objects as fast as one database takes them: with the audit trail, without it,
and with rows like its records that prove nothing."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Barrier, Thread
from typing import Any, Protocol

from sqlalchemy import MetaData, insert

from benchmarks.loads import LOADS
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.entities import Instance, InstanceRole, SendingPeer
from dicom_node.core.principal import NODE, Principal, UserRole
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.received.associations import close_association, open_association
from dicom_node.index.tables import audit_records
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail

#: With the trail, with rows that prove nothing, without either.
_WAYS = ("on", "rows", "off")
_PER_STUDY = 4
_AT_ONCE = 4
_PATIENCE_S = 600.0
#: Twice and once a second where nothing else is busy: what is compared is the same at every speed.
_STUDIES_AN_ACT, _STUDIES_A_FLUSH = 33, 66
_SENDER = SendingPeer("CT1", "AINODE", "10.1.2.3")
_ALICE = Principal("alice", frozenset({UserRole.OPERATOR}))
_ACT = AuditedEvent(act=AuditedAct.RETRY, actor=_ALICE)
#: Where the processes of a pool meet before each turn; the only one in each is what its pool gave it.
_meetings: list[Barrier] = []


def _meet_at(barrier: Barrier) -> None:
    _meetings.append(barrier)


def studies_entered(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return studies a second of all processes together in each round, and for a second of their processor time, for
    each way; a round before these warms everything up."""
    url = options.database or f"sqlite:///{folder / 'index.sqlite'}"
    database = Database(url)
    database.migrate()
    with database.write() as connection:
        _Rows.table().create(connection, checkfirst=True)
    database.close()
    AuditKeys(folder / "key").make()
    turns = [name for number in range(options.rounds + 1) for name in _rotated(number)]
    of_processes = _in_processes(options.writers, partial(_enter_studies, url, folder, options.studies, turns))
    rates: dict[str, list[float]] = {}
    for name, *entered in list(zip(turns, *of_processes, strict=True))[len(_WAYS) :]:
        rates.setdefault(f"studies a second, {name}", []).append(sum(one.studies / one.wall_s for one in entered))
        processor_s = sum(one.processor_s for one in entered)
        studies = sum(one.studies for one in entered)
        rates.setdefault(f"studies a processor second, {name}", []).append(studies / processor_s)
    return rates


def acts_by_people(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return acts a second of processes that do nothing else, four at a time in each, and what one takes (ms)."""
    url = options.database or f"sqlite:///{folder / 'index.sqlite'}"
    took = [
        one for times in _in_processes(options.writers, partial(_act, url, folder, options.seconds)) for one in times
    ]
    return {"acts by people": len(took) / options.seconds, "an act takes ms": statistics.median(took) * 1000}


def _rotated(number: int) -> Sequence[str]:
    """Return the ways, each of them first in one of three rounds, and in both directions."""
    first = number % len(_WAYS)
    ways = [*_WAYS[first:], *_WAYS[:first]]
    return ways if number % 2 else ways[::-1]


def _in_processes(count: int, work: Callable[[], Any]) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(count, _meet_at, (context.Barrier(count),)) as pool:
        return [one.get() for one in [pool.apply_async(work) for _ in range(count)]]


# --- three ways to write acts down ---------------------------------------------------------------------------------


class _Writing(Protocol):
    def note(self, event: AuditedEvent) -> None: ...
    def record(self, event: AuditedEvent) -> None: ...
    def flush(self) -> None: ...


class _Nothing:
    """Writes nothing down."""

    def note(self, event: AuditedEvent) -> None:
        """Do nothing."""

    def record(self, event: AuditedEvent) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


@dataclass
class _Rows:
    """Enters as many rows in as many transactions as the trail, into a table like it: what INSERT costs by itself."""

    database: Database
    waiting: list[dict[str, object]] = field(default_factory=list)

    @staticmethod
    def table() -> Any:
        """Return the table of records under another name, its indexes included."""
        table = audit_records.to_metadata(MetaData(), name="benchmark_rows")
        named: Iterable[Any] = (*table.indexes, *table.constraints)
        for one in named:
            one.name = f"of_{one.name}"
        return table

    def note(self, event: AuditedEvent) -> None:
        """Keep one row for later; its number grows, and is no other process's."""
        number = time.time_ns() // 1000 * 1000 + os.getpid() % 1000
        self.waiting.append({
            "number": number, "event_id": uuid.uuid4().hex, "at": datetime.now(UTC), "act": event.act,
            "actor": event.actor.name, "address": event.address, "outcome": event.outcome,
            "study_instance_uid": event.study_instance_uid, "patient_id": "", "issuer_of_patient_id": "",
            "detail": '{"roles": ["operator"]}', "key_id": "0" * 16, "previous": "0" * 64, "mac": "0" * 64,
        })  # fmt: skip

    def record(self, event: AuditedEvent) -> None:
        """Enter one row, and what waits."""
        self.note(event)
        self.flush()

    def flush(self) -> None:
        """Enter what waits."""
        rows, self.waiting = self.waiting, []
        if rows:
            with self.database.write() as connection:
                connection.execute(insert(_ROWS), rows)


_ROWS = _Rows.table()


def _trail(database: Database, folder: Path) -> AuditTrail:
    return AuditTrail(database, AuditKeys(folder / "key"), Anchor(folder / "anchor"), AuditSpool(folder / "waiting"))


# --- one process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entered:
    """What one process entered in its turn, in which time, and the processor time it had for that; a database server's
    own is not in it."""

    studies: int
    wall_s: float
    processor_s: float


def _enter_studies(url: str, folder: Path, studies: int, turns: Sequence[str]) -> list[_Entered]:
    """Take all turns, each begun together with the other processes, and ended when all of it is in the database."""
    database = Database(url)
    trail = _trail(database, folder)
    ways: Mapping[str, _Writing] = {"on": trail, "rows": _Rows(database), "off": _Nothing()}
    entered = []
    for name in turns:
        _meetings[0].wait(_PATIENCE_S)
        began, began_s = time.monotonic(), time.process_time()
        with _beside() as due:
            _enter(studies, database, ways[name], due)
        ways[name].flush()
        entered.append(_Entered(studies, time.monotonic() - began, time.process_time() - began_s))
    trail.close()
    database.close()
    return entered


def _enter(studies: int, database: Database, writing: _Writing, due: SimpleQueue[Callable[[], None] | None]) -> None:
    """Enter so many studies, and have acts written down and entered in between."""
    for number in range(1, studies + 1):
        uid = f"2.25.{uuid.uuid4().int}"
        _enter_study(database, uid)
        writing.note(AuditedEvent(act=AuditedAct.STUDY_RECEIVED, actor=NODE, study_instance_uid=uid))
        if number % _STUDIES_AN_ACT == 0:
            due.put(partial(writing.record, _ACT))
        if number % _STUDIES_A_FLUSH == 0:
            due.put(writing.flush)


@contextmanager
def _beside() -> Iterator[SimpleQueue[Callable[[], None] | None]]:
    """Run what is put there in a thread: the person who acts, and the clock that enters what care has noted."""
    due = SimpleQueue[Callable[[], None] | None]()

    def run() -> None:
        while (act := due.get()) is not None:
            act()

    thread = Thread(target=run)
    thread.start()
    try:
        yield due
    finally:
        due.put(None)
        thread.join()


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
            trail.record(_ACT)
            took.append(time.monotonic() - began)
        return took

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        times = [one for took in pool.map(act, range(_AT_ONCE)) for one in took]
    trail.close()
    database.close()
    return times

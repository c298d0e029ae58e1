"""A hospital whose days pass in seconds: scanners with habits, a PACS, a node on PostgreSQL, and a clock that is moved.

The clock leaps from hour to hour of the working day, and from evening to morning, and only when the node has nothing
left to do: what it does takes the time that it takes. So waits are real, and ages and habits those of a year.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node.demo.phantoms import chest_ct_phantom
from tests.acceptance.counting_model import CARD, FEWEST_IMAGES
from tests.peers import dcmtk
from tests.peers.moved_clock import MovedClock
from tests.peers.node import Node
from tests.peers.postgres import Postgres, running_postgres
from tests.peers.process import free_port, wait_until
from tests.support.campaign import amount
from tests.support.needs import REPOSITORY

_PATIENCE_S = 120.0
#: The hours of the working day, a short one but in the year itself, and at which of them each scanner sends a study.
_HOURS = amount(range(8, 11), campaign=range(7, 19))
HABITS: Mapping[str, frozenset[int]] = {
    "CT1": frozenset(range(8, 18)), "CT2": frozenset({9, 11, 14, 16}), "CT3": frozenset({10, 15}),
}  # fmt: skip
_FRIDAY = 4
#: States in which something is still to be done.
_OPEN = {"studies": ("RECEIVING", "COMPLETE", "ANALYSING"), "jobs": ("QUEUED", "RUNNING")}


class CountingPacs:
    """A PACS that counts how often each object comes, and can be away."""

    aet = "PACS"

    def __init__(self) -> None:
        self.port = free_port()
        self.came: Counter[str] = Counter()
        #: SR documents by the study that they are about.
        self.reports: Counter[str] = Counter()
        self._server: Any = None

    @property
    def is_there(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        ae = AE(ae_title=self.aet)
        ae.supported_contexts = [*AllStoragePresentationContexts]
        ae.add_supported_context("1.2.840.10008.1.1")
        handlers = [(evt.EVT_C_STORE, self._keep)]
        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self.is_there:
            self._server.shutdown()
            self._server = None

    def _keep(self, event: Any) -> int:
        found: Dataset = event.dataset
        self.came[str(found.SOPInstanceUID)] += 1
        self.reports[str(found.StudyInstanceUID)] += found.Modality == "SR"
        return 0x0000


@dataclass
class Hospital:
    """Its clock, its node and those around it; `sent` are the studies, by UID, and when each was sent."""

    clock: MovedClock
    postgres: Postgres
    pacs: CountingPacs
    node: Node
    folder: Path
    sent: dict[str, datetime] = field(default_factory=dict)
    #: Scanners that are out of order.
    silent: set[str] = field(default_factory=set)
    #: Bytes of the node's object store at the end of each day.
    stored_bytes: list[int] = field(default_factory=list)
    _url: str = ""

    def start(self) -> None:
        """Start the node, as after an upgrade or in the morning of the first day."""
        self.node.start(self.clock.environment)

    def day(self, at_hour: Callable[[datetime], None] = lambda _: None) -> None:
        """Let a day pass, whose hours `at_hour` is told of, and a working day's studies be sent."""
        today = self.clock.now.replace(minute=5, second=0, microsecond=0)
        for hour in _HOURS if today.weekday() <= _FRIDAY else (12,):
            moment = today.replace(hour=hour)
            if moment <= self.clock.now:
                continue
            self.clock.move_to(moment)
            at_hour(moment)
            if today.weekday() <= _FRIDAY:
                self._send_all(hour)
            self.settle()
        self.stored_bytes.append(self.bytes_stored())
        self.clock.move_to((today + timedelta(days=1)).replace(hour=0, minute=1))
        at_hour(self.clock.now)
        self.settle()

    def rest(self) -> None:
        """Let two hours pass in which nothing happens, so that what is gone by now has been gone for long enough."""
        for _ in range(2):
            self.settle()
            self.clock.move_to(self.clock.now + timedelta(hours=1))
            self.settle()

    def settle(self) -> None:
        """Wait until the node has nothing left to do but to wait for who is away."""
        self.node.wait_until_settled()
        wait_until(lambda: not self.undone(), _PATIENCE_S, "the end of what was to be done", 0.1)
        hour = self.clock.now.replace(minute=0, second=0, microsecond=0)
        watched = "SELECT 1 FROM watched_hours WHERE hour = :hour"
        wait_until(lambda: bool(self.rows(watched, hour=hour)), _PATIENCE_S, "a look at the alarms in this hour", 0.1)

    def alarms(self) -> dict[tuple[str, str], bool]:
        """What was raised, by rule and subject, and whether it is over."""
        query = "SELECT rule, subject, cleared_at IS NOT NULL FROM alarms WHERE raised_at IS NOT NULL"
        return {(rule, subject): bool(is_over) for rule, subject, is_over in self.rows(query)}

    def undone(self) -> dict[str, int]:
        """What is still to be done, by kind; deliveries only where the PACS is there."""
        found = {table: self._count(table, states) for table, states in _OPEN.items()}
        if self.pacs._server is not None:
            found["deliveries"] = self._count("deliveries", ("PENDING",))
        return {kind: number for kind, number in found.items() if number}

    def rows(self, query: str, **values: object) -> list[Any]:
        """Read from the node's database; raises when it is away."""
        engine = sqlalchemy.create_engine(self._url, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(query), values))

    def _count(self, table: str, states: tuple[str, ...]) -> int:
        listed = ", ".join(f"'{one}'" for one in states)
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE state IN ({listed})")[0][0])

    def _send_all(self, hour: int) -> None:
        for scanner, hours in HABITS.items():
            if hour in hours and scanner not in self.silent:
                self._send(scanner, f"{scanner}-{len(self.sent)}")

    def _send(self, scanner: str, name: str) -> None:
        images, _ = chest_ct_phantom(name, slices=FEWEST_IMAGES, rows=32)
        now, folder = self.clock.now, self.folder / "sending"
        folder.mkdir(exist_ok=True)
        for number, image in enumerate(images):
            image.PatientID = image.AccessionNumber = f"P{len(self.sent)}"
            image.StudyDate = image.SeriesDate = image.ContentDate = f"{now:%Y%m%d}"
            image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        done = dcmtk.storescu(self.node.dicom_port, folder, calling=scanner)
        assert done.returncode == 0, done.stdout
        self.sent[str(images[0].StudyInstanceUID)] = now

    def bytes_stored(self) -> int:
        """The size of the node's object store."""
        return sum(one.stat().st_size for one in (self.node.data_dir / "spool" / "objects").rglob("*") if one.is_file())


def settings(folder: Path, url: str, pacs_port: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the node: a model that counts images, a PACS, and documents alone, whose bytes are few."""
    return {
        "database": {"url": url},
        "dicom": {"port": free_port()},
        "inference": {"models_dirs": [str(folder / "models")], "require_activation": "none", "workers": 1},
        "peer": [{"ae_title": scanner, "host": "127.0.0.1"} for scanner in HABITS],
        "destination": [
            {"name": "pacs", "kind": "dicom", "ae_title": CountingPacs.aet, "host": "127.0.0.1", "port": pacs_port,
             "verify": "none", "outputs": {"secondary_capture": False}}
        ],
        "route": [{"name": "chest", "model": "counting", "quiet_period_s": 0.5, "when": {"modality": "CT"}}],
        # Judged in every hour that passes; a destination is asked at once.
        "alarms": {"every_s": 1, "ask_every_s": 1, "repeat_hours": 0},
        **more,
    }  # fmt: skip


@contextmanager
def hospital(folder: Path, begin: datetime, more: Mapping[str, Any]) -> Iterator[Hospital]:
    """Run a hospital whose first day is `begin`; `more` are further settings of its node, which is not started."""
    with ExitStack() as stack:
        open_to_all = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clock-")))
        open_to_all.chmod(0o755)
        clock = MovedClock(open_to_all / "clock")
        clock.move_to(begin)
        postgres = stack.enter_context(running_postgres(clock.environment))
        url = postgres.create_database()
        pacs = CountingPacs()
        pacs.start()
        stack.callback(pacs.stop)
        (folder / "models" / "counting").mkdir(parents=True)
        (folder / "models" / "counting" / "model_card.toml").write_text(CARD, encoding="utf-8")
        node = Node(folder / "node", settings(folder, url, pacs.port, more))
        stack.callback(node.kill9)
        accept = [sys.executable, "-m", "dicom_node", "models", "accept", "counting", "--config", str(node.config)]
        subprocess.run(accept, cwd=REPOSITORY, env={**os.environ, **clock.environment}, check=True, capture_output=True)
        yield Hospital(clock, postgres, pacs, node, folder, _url=url)

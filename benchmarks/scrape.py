"""What does a scrape of the metrics cost with a large index?

    python -m benchmarks.scrape [--studies 10000] [--instances 1000000] [--waiting 2000] [--quick] [--json FILE]

Fills a SQLite index with studies that have an analysis, a result and a delivery each, of which some wait, and writes
the metrics as a scrape does: rows, disks and processes looked at, in this process and without a network. Beside it
stands what one count and one observation cost whoever does a thing.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import update

from benchmarks.command_line import keep, parser_of
from benchmarks.filled_index import fill
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.entities import DeliveryState, JobState
from dicom_node.core.metrics.table import DATABASE_SECONDS, OBJECTS_RECEIVED
from dicom_node.core.metrics.tally import TALLY
from dicom_node.index.database import Database
from dicom_node.index.tables import deliveries, jobs
from dicom_node.operate.metrics.exposition import Exposition
from dicom_node.operate.metrics.looks import Looks
from dicom_node.people.audit.trail import LoggedAudit

_ROUNDS = 21
_COUNTS = 10_000


def measure(studies: int, per_study: int, waiting: int) -> dict[str, float]:
    """Return every figure by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'node.sqlite'}")
        database.migrate()
        fill(database, studies, per_study)
        _let_wait(database, waiting)
        settings = Settings(node=NodeSettings(data_dir=folder, min_free_mb=0))
        looks = Looks(settings=lambda: settings, database=database, audit=LoggedAudit(), version="bench",
                      models=lambda: ["ct-lung-density"], roles_at_work=lambda: {"api": True})  # fmt: skip
        exposition = Exposition(looks.look)
        taken = [_timed(lambda: exposition.text("")) for _ in range(_ROUNDS)]
        size = len(exposition.text("")[0])
        database.close()
    return {
        "scrape, first, ms": taken[0][0] * 1000,
        "scrape, ms": statistics.median(one for one, _ in taken[1:]) * 1000,
        "scrape, longest, ms": max(one for one, _ in taken[1:]) * 1000,
        "scrape, ms of the processor": statistics.median(one for _, one in taken[1:]) * 1000,
        "scrape, bytes": float(size),
        "a count, us": _each_us(lambda: TALLY.count(OBJECTS_RECEIVED, peer="CT1", way="dicom")),
        "an observation, us": _each_us(lambda: TALLY.observe(DATABASE_SECONDS, 0.003, access="write")),
    }


def _let_wait(database: Database, number: int) -> None:
    """Have the first analyses and deliveries wait."""
    with database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id <= number).values(state=JobState.QUEUED))
        connection.execute(update(deliveries).where(deliveries.c.id <= number).values(state=DeliveryState.PENDING))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    began, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - worked


def _each_us(work: Callable[[], None]) -> float:
    def all_of_them() -> None:
        for _ in range(_COUNTS):
            work()

    return _timed(all_of_them)[0] / _COUNTS * 1e6


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"studies": 30, "instances": 60, "waiting": 5})
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=2000)
    options = parser.parse_args()
    found = measure(options.studies, options.instances // options.studies, options.waiting)
    for name, value in found.items():
        print(f"{name:<32} {value:10.2f}")
    keep(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

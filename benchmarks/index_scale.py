"""Does an arrival cost more in a large index, and how long does a node take to start on one?

    python -m benchmarks.index_scale [--small 10000] [--large 1000000] [--quick] [--json FILE]

Fills a SQLite index with studies of 300 instances each, then enters new instances in batches and compares the cost of
one; and starts a node on the large index, from the process to the open ports. Arrivals go to new studies and, one in
four, to a study that is there already.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from benchmarks.command_line import keep, parser_of
from benchmarks.peers import node_command
from dicom_node.core.entities import Instance, InstanceRole, SendingPeer, StudyState
from dicom_node.index.database import Database
from dicom_node.index.received.arrivals import add_instances
from dicom_node.index.tables import instances, studies
from tests.peers.process import free_port

_PER_STUDY = 300
_ROWS_PER_INSERT = 20_000
_READY_S = 120.0
_SENDER = SendingPeer("CT1", "AINODE", "10.1.2.3")
_ATTRIBUTES = {
    "modality": "CT", "body_part_examined": "CHEST", "study_description": "CT Thorax",
    "image_type": "ORIGINAL\\PRIMARY",
    "manufacturer": "Bench", "rows": "512", "columns": "512", "slice_thickness": "1.0", "series_number": "2",
}  # fmt: skip
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def fill(database: Database, count: int) -> None:
    """Put `count` instances into an empty index, all of them long settled."""
    with database.write() as connection:
        uids = [f"1.2.3.{number}" for number in range(-(-count // _PER_STUDY))]
        rows = [
            {
                "study_instance_uid": uid, "revision": 1, "state": StudyState.REPORTED, "reason": "",
                "first_received_at": _LONG_AGO, "last_received_at": _LONG_AGO, "updated_at": _LONG_AGO,
            }
            for uid in uids
        ]  # fmt: skip
        connection.execute(insert(studies), rows)
    for start in range(0, count, _ROWS_PER_INSERT):
        with database.write() as connection:
            end = min(start + _ROWS_PER_INSERT, count)
            connection.execute(insert(instances), [_row(number) for number in range(start, end)])


def _row(number: int) -> dict[str, object]:
    study = number // _PER_STUDY
    return {
        "sop_instance_uid": f"1.2.3.{study}.1.{number}", "study_instance_uid": f"1.2.3.{study}",
        "series_instance_uid": f"1.2.3.{study}.1", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": f"{number:064x}", "size_bytes": 525_000,
        "object_key": f"{number % 256:02x}/{number:064x}.dcm", "role": InstanceRole.SOURCE,
        "attributes": _ATTRIBUTES, "received_at": _LONG_AGO, "calling_ae_title": "CT1", "called_ae_title": "AINODE",
        "source_host": "10.1.2.3",
    }  # fmt: skip


def _arrivals(known: int, serial: Iterator[int], count: int) -> list[Instance]:
    """Make instances that come now: of one new study, or of one of the known ones."""
    first = next(serial)
    is_late = random.random() < 0.25  # noqa: S311 - a benchmark
    study = f"1.2.3.{random.randrange(known // _PER_STUDY)}" if is_late else f"1.2.4.{first // 300}"  # noqa: S311
    numbers = [first, *(next(serial) for _ in range(count - 1))]
    return [
        Instance(
            sop_instance_uid=f"1.2.5.{number}", sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1", study_instance_uid=study, series_instance_uid=f"{study}.1",
            sha256=f"{(1 << 200) + number:064x}", size_bytes=525_000, object_key=f"00/{number}.dcm",
            role=InstanceRole.SOURCE, attributes=_ATTRIBUTES,
            received_at=datetime.now(UTC) + timedelta(microseconds=number), sender=_SENDER,
        )
        for number in numbers
    ]  # fmt: skip


def cost_per_instance_ms(database: Database, known: int, batch: int, rounds: int = 60) -> float:
    """Return the median cost of entering one instance in batches of `batch`, commit included."""
    serial = iter(range(batch * 10_000_000, sys.maxsize))
    times = []
    for _ in range(rounds):
        arrivals = _arrivals(known, serial, batch)
        began = time.perf_counter()
        with database.write() as connection:
            add_instances(connection, arrivals)
        times.append((time.perf_counter() - began) / batch * 1000)
    return statistics.median(times[rounds // 6 :])


def seconds_to_ready(folder: Path) -> float:
    """Start a node on the data below `folder` and return how long it takes to open its ports."""
    began = time.perf_counter()
    ports = folder / "node" / "ports.json"
    with (folder / "log").open("wb") as log:
        node = subprocess.Popen(node_command(folder, free_port()), stdout=log, stderr=subprocess.STDOUT)
    try:
        while not ports.exists():
            if time.perf_counter() - began > _READY_S or node.poll() is not None:
                raise RuntimeError(f"the node did not start; see {folder / 'log'}")
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        node.terminate()
        node.wait()


def measure(sizes: Sequence[int]) -> dict[str, float]:
    """Return every figure by name."""
    found: dict[str, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "node").mkdir()
            database = Database(f"sqlite:///{folder / 'node' / 'node.sqlite'}")
            database.migrate()
            fill(database, size)
            for batch in (1, 16, 128):
                found[f"{size} instances, ms each in batches of {batch}"] = cost_per_instance_ms(database, size, batch)
            database.close()
            found[f"{size} instances, s to ready"] = seconds_to_ready(folder)
    small, large = sizes
    for batch in (1, 16, 128):
        of = f"instances, ms each in batches of {batch}"
        found[f"ratio, batches of {batch}"] = found[f"{large} {of}"] / found[f"{small} {of}"]
    return found


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"small": 600, "large": 1200})
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    options = parser.parse_args()
    random.seed(1)
    found = measure((options.small, options.large))
    for name, value in found.items():
        print(f"{name:<48} {value:8.3f}")
    keep(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

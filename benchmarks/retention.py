"""What deleting costs intake: a node that deletes many objects while studies come, and the same node that deletes none.

    python -m benchmarks.retention [--objects 100000] [--kib 16] [--rounds 5] [--associations 8] [--count 20]
        [--quick] [--json FILE]

The node's folder is filled with studies of 100 images of 100 days ago. Each round starts it with `images_days = 90`
once, and once without, in turns, and sends new studies to it, one to an association. What is left of the old ones is
the next round's. In the end it deletes the rest with nothing else to do.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, insert, select

from benchmarks.command_line import keep, parser_of
from benchmarks.loads import LOADS
from benchmarks.peers import node_command
from benchmarks.receivers import Receiver
from benchmarks.senders import fresh_studies, send_at_once
from dicom_node.core.entities import InstanceRole, StudyState
from dicom_node.index.database import Database
from dicom_node.index.tables import instances, studies
from dicom_node.storage.spool import Spool, object_key

_PER_STUDY, _DAYS = 100, 100
_END_S = 3600.0


@dataclass
class RetainingNode(Receiver):
    """A node that deletes what is old, or nothing; it is started again and again on one folder."""

    is_deleting: bool = False

    def start(self) -> None:
        """Start it; what an earlier one has left says nothing."""
        (self.folder / "node" / "ports.json").unlink(missing_ok=True)
        self.__enter__()

    def _command(self) -> list[str]:
        more = "[retention]\nimages_days = 90\n" if self.is_deleting else ""
        return node_command(self.folder, self.port, more)


# --- old studies ---------------------------------------------------------------------------------------------------


def fill(data_dir: Path, options: Namespace) -> None:
    """Write the old studies: files as they are named, rows as arrivals leave them."""
    spool, database = Spool(data_dir / "spool"), Database(f"sqlite:///{data_dir / 'node.sqlite'}")
    database.migrate()
    at = datetime.now(UTC) - timedelta(days=_DAYS)
    for number in range(options.objects // _PER_STUDY):
        uid = f"2.25.{10**30 + number}"
        rows = [_row(spool, f"{uid}.{place}", uid, at, options.kib << 10) for place in range(_PER_STUDY)]
        times = dict.fromkeys(("first_received_at", "last_received_at", "updated_at", "listed_at"), at)
        with database.write() as connection:
            connection.execute(
                insert(studies).values(study_instance_uid=uid, revision=1, state=StudyState.NOT_ANALYSED, **times)
            )
            connection.execute(insert(instances), rows)
    database.close()
    os.sync()


def _row(spool: Spool, uid: str, study: str, at: datetime, size: int) -> dict[str, object]:
    content = os.urandom(size)
    digest = hashlib.sha256(content).hexdigest()
    path = spool.path(object_key(digest, ".dcm"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return {
        "sop_instance_uid": uid, "study_instance_uid": study, "series_instance_uid": f"{study}.0",
        "sop_class_uid": LOADS["mr"].sop_class_uid, "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": digest,
        "size_bytes": size, "object_key": spool.key_of(path), "role": InstanceRole.SOURCE,
        "attributes": {"modality": "MR"}, "received_at": at, "calling_ae_title": "", "called_ae_title": "",
        "source_host": "",
    }  # fmt: skip


def left(data_dir: Path) -> int:
    """Return how many old objects have a row."""
    database = Database(f"sqlite:///{data_dir / 'node.sqlite'}")
    with database.read() as connection:
        old = instances.c.calling_ae_title == ""
        number = connection.execute(select(func.count()).select_from(instances).where(old)).scalar_one()
    database.close()
    return int(number)


def files_left(data_dir: Path) -> int:
    """Return how many old objects have a file: rows go later, many at once."""
    before = time.time() - _DAYS / 2 * 86400
    found = 0
    for folder in os.scandir(data_dir / "spool" / "objects"):
        found += sum(one.stat().st_mtime < before for one in os.scandir(folder.path))
    return found


# --- intake --------------------------------------------------------------------------------------------------------


def measure(options: Namespace, folder: Path) -> dict[str, float]:
    """Return objects a second with and without, the median of the rounds' ratios, and how quickly it deletes."""
    node = RetainingNode("node", folder / "receiver")
    data_dir = node.folder / "node"
    data_dir.mkdir(parents=True)
    fill(data_dir, options)
    rates: dict[str, list[float]] = {}
    beside: list[int] = []
    for number in range(options.rounds + 1):
        first = 2 * number * options.associations + 1
        folders = fresh_studies(folder / "load", options.associations, options.count, first, step=2)
        for node.is_deleting in (True, False) if number % 2 else (False, True):
            before = files_left(data_dir)
            _round(node, folders, rates if number else {})
            beside += [before - files_left(data_dir)] if node.is_deleting else []
    figures = {f"{name}, a second": statistics.median(values) for name, values in sorted(rates.items())}
    for what in ("acknowledged", "filed"):
        pairs = zip(rates[f"{what}, deleting"], rates[f"{what}, not deleting"], strict=True)
        figures[f"{what}, deleting / not"] = statistics.median(one / other for one, other in pairs)
    return {**figures, "deleted beside, a round": statistics.median(beside), **_the_rest(node, data_dir)}


def _round(node: RetainingNode, folders: Sequence[Path], rates: dict[str, list[float]]) -> None:
    node.start()
    try:
        time.sleep(1)  # the first look at what is old begins with the node
        _send(node, folders, rates)
    finally:
        node.__exit__()


def _send(node: RetainingNode, folders: Sequence[Path], rates: dict[str, list[float]]) -> None:
    sent, name = send_at_once(node, folders), "deleting" if node.is_deleting else "not deleting"
    rates.setdefault(f"acknowledged, {name}", []).append(sent.objects / sent.acknowledged_s)
    rates.setdefault(f"filed, {name}", []).append(sent.objects / sent.filed_s)


def _the_rest(node: RetainingNode, data_dir: Path) -> dict[str, float]:
    """Let the node delete what is left, with nothing else to do."""
    there, node.is_deleting, began = left(data_dir), True, time.perf_counter()
    node.start()
    try:
        while left(data_dir):
            if time.perf_counter() - began > _END_S:
                raise RuntimeError(f"the node did not delete what is old; see {node.folder / 'log'}")
            time.sleep(0.5)
    finally:
        node.__exit__()
    return {"deleted with nothing else to do, a second": there / (time.perf_counter() - began)}


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"objects": 600, "kib": 1, "rounds": 1, "associations": 2, "count": 2})
    parser.add_argument("--objects", type=int, default=100_000, help="old objects, in studies of 100")
    parser.add_argument("--kib", type=int, default=16, help="size of an old object")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--associations", type=int, default=8, help="studies in a round, each on its own")
    parser.add_argument("--count", type=int, default=20, help="objects of a study")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(options, Path(name))
    for what, value in figures.items():
        print(f"{what:<44} {value:>10.2f}")
    keep(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

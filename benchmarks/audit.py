"""What the audit trail costs: a node with it and one without, side by side; and many writers on one database.

    python -m benchmarks.audit [--parts intake delivery writers] [--rounds 5] [--associations 8] [--count 20]
        [--results 40] [--writers 4] [--studies 66] [--seconds 5] [--database URL] [--quick] [--json FILE]

Intake: every round sends new studies, one to an association, to both nodes, in turns; rates as in `benchmarks.intake`.
Delivery: every round results (a report and a segmentation each) come into being in both nodes, while their PACS,
DCMTK's storescp, is held; then it is let go, one after the other, in turns. Seconds count from there to each arrival.
Writers: so many processes enter studies of four objects as fast as they can, in turns with a trail (each study is
noted, a person acts after every 33rd, what is noted is entered after every 66th), without, and with as many rows in as
many transactions that are like its records and prove nothing: what INSERT costs by itself. Then they do nothing but
acts by people, four at a time in each. `--database` is an empty one (PostgreSQL); by default SQLite.

Each is also told for a second of processor time, which a busy machine changes less (a database server's own is not in
it). Ratios are those of neighbours in one round; their median counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.audit_delivery import AuditedNode, both_nodes, delivery
from benchmarks.audit_writers import acts_by_people, studies_entered
from benchmarks.command_line import keep, parser_of
from benchmarks.loads import LOADS, write_load

_PARTS = ("intake", "delivery", "writers")


# --- intake --------------------------------------------------------------------------------------------------------


def intake(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return objects a second, acknowledged and filed, and filed for a second of the node's processor time, with and
    without, in each round; a round before these warms both up."""
    rates: dict[str, list[float]] = {}
    with both_nodes(folder) as nodes:
        for number in range(options.rounds + 1):
            folders = _fresh_files(folder / "load", options, number)
            for one in nodes if number % 2 else reversed(nodes):
                _send(one, folders, rates if number else {})
    return rates


def _fresh_files(folder: Path, options: argparse.Namespace, number: int) -> list[Path]:
    folders = [folder / str(one) for one in range(options.associations)]
    for place, one in enumerate(folders):
        write_load(one, LOADS["mr"], options.count, number * options.associations + place + 1)
    os.sync()
    return folders


def _send(node: AuditedNode, folders: Sequence[Path], rates: dict[str, list[float]]) -> None:
    command = ["storescu", "-R", "-aec", node.ae_title, "127.0.0.1", str(node.port), "+sd"]
    objects = sum(len(list(folder.iterdir())) for folder in folders)
    began, began_s = time.perf_counter(), node.processor_s()
    senders = [subprocess.Popen([*command, str(folder)], env={**os.environ, "TCP_NODELAY": "1"}) for folder in folders]
    statuses = [sender.wait() for sender in senders]
    if any(statuses):
        raise RuntimeError(f"a sender failed; see {node.folder / 'log'}")
    acknowledged_s = time.perf_counter() - began
    node.drain()
    filed_s, processor_s = time.perf_counter() - began, node.processor_s() - began_s
    rates.setdefault(f"acknowledged a second, {node.way}", []).append(objects / acknowledged_s)
    rates.setdefault(f"filed a second, {node.way}", []).append(objects / filed_s)
    rates.setdefault(f"filed a processor second, {node.way}", []).append(objects / processor_s)


# --- the answer ----------------------------------------------------------------------------------------------------


def _compared(rates: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each, and of the ratios of each pair in a round, with their quartiles."""
    figures = {name: statistics.median(values) for name, values in sorted(rates.items())}
    for one in sorted({name.rpartition(", ")[0] for name in rates}):
        for first, second in (("on", "off"), ("rows", "off"), ("on", "rows")):
            pairs = zip(rates.get(f"{one}, {first}", ()), rates.get(f"{one}, {second}", ()), strict=False)
            if ratios := sorted(a / b for a, b in pairs):
                told, quarter = f"{one}, {first} / {second}", len(ratios) // 4
                figures[told] = statistics.median(ratios)
                figures |= {f"{told}, lower quartile": ratios[quarter], f"{told}, upper quartile": ratios[-1 - quarter]}
    return figures


def measured(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the figures of the parts that are wanted."""
    rates: dict[str, list[float]] = {}
    for name, part in (("intake", intake), ("delivery", delivery), ("writers", studies_entered)):
        if name in options.parts:
            (folder / name).mkdir()
            rates |= part(options, folder / name)
    acts = acts_by_people(options, folder / "writers") if "writers" in options.parts else {}
    return _compared(rates) | acts


def main() -> int:
    """Measure and print."""
    quick = {"rounds": 1, "associations": 2, "count": 2, "results": 2, "writers": 2, "studies": 4, "seconds": 1}
    parser = parser_of(__doc__, quick)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--associations", type=int, default=8, help="studies in a round, each on its own")
    parser.add_argument("--count", type=int, default=20, help="objects of a study")
    parser.add_argument("--results", type=int, default=40, help="results in a round, of two objects each")
    parser.add_argument("--writers", type=int, default=4, help="processes on one database")
    parser.add_argument("--studies", type=int, default=66, help="studies that each of them enters in a turn")
    parser.add_argument("--seconds", type=int, default=5, help="how long they do acts by people")
    parser.add_argument("--database", default="", metavar="URL", help="an empty database; default: SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measured(options, Path(name))
    for what, value in figures.items():
        print(f"{what:<72} {value:>10.2f}")
    keep(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

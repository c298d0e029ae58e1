"""Taking studies in: the node, Orthanc, storescp and pynetdicom's server side by side, in interleaved rounds.

    python -m benchmarks.intake [--rounds 5] [--count 100] [--loads ct mr big] [--associations 1 4 16]
        [--quick] [--json FILE]

Senders are DCMTK's storescu with TCP_NODELAY=1, one process an association. Every round sends new instances, the same
ones to every receiver, one receiver after the other; the order turns from round to round. Rates count from the start
of the first sender to the end of the last. The node acknowledges before it files (durably): its second rate counts
until everything is filed and indexed. Orthanc is as shipped (synchronises files); storescp synchronises nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.command_line import keep, parser_of
from benchmarks.loads import LOADS, Load, write_load
from benchmarks.receivers import NAMES, PeakMemory, Receiver
from benchmarks.response_time import response_times_s

_RESPONSE_ASSOCIATIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One receiver, one load, one round."""

    receiver: str
    load: str
    associations: int
    round: int
    objects: int
    bytes: int
    acknowledged_s: float
    filed_s: float
    peak_rss_bytes: int
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Objects acknowledged per second."""
        return self.objects / self.acknowledged_s


class Bench:
    """Runs rounds against receivers that stay up, and keeps what was measured."""

    def __init__(self, folder: Path, receivers: Sequence[Receiver], count: int) -> None:
        self._folder = folder
        self._receivers = receivers
        self._count = count
        self._series = 0
        self.runs: list[Run] = []

    def round(self, load: Load, associations: int, number: int) -> None:
        """Send one set of new instances to every receiver in turn."""
        count = 1 if load.name == "big" else self._count
        folders = self._fresh_files(load, associations, count)
        for turn in range(len(self._receivers)):
            receiver = self._receivers[(turn + number) % len(self._receivers)]
            self.runs.append(self._send(receiver, load, folders, number))

    def response_round(self, load: Load, number: int) -> None:
        """Time single responses at four associations."""
        folders = self._fresh_files(load, _RESPONSE_ASSOCIATIONS, self._count)
        for turn in range(len(self._receivers)):
            receiver = self._receivers[(turn + number) % len(self._receivers)]
            began = time.perf_counter()
            times = sorted(response_times_s(receiver.port, receiver.ae_title, folders))
            took = time.perf_counter() - began
            receiver.drain()
            self.runs.append(
                Run(
                    receiver=receiver.name, load=f"{load.name}, each response", associations=_RESPONSE_ASSOCIATIONS,
                    round=number, objects=len(times), bytes=len(times) * load.pixel_bytes, acknowledged_s=took,
                    filed_s=took, peak_rss_bytes=receiver.rss_bytes(), p50_ms=statistics.median(times) * 1000,
                    p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))] * 1000,
                )
            )  # fmt: skip

    def _fresh_files(self, load: Load, associations: int, count: int) -> list[Path]:
        folders = [self._folder / f"{load.name}-{number}" for number in range(associations)]
        for folder in folders:
            self._series += 1
            write_load(folder, load, count, self._series)
        os.sync()  # writing them must not be paid for by the first receiver
        return folders

    def _send(self, receiver: Receiver, load: Load, folders: Sequence[Path], number: int) -> Run:
        command = ["storescu", "-R", "-aec", receiver.ae_title, "127.0.0.1", str(receiver.port), "+sd"]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        with PeakMemory(receiver) as memory:
            began = time.perf_counter()
            senders = [subprocess.Popen([*command, str(folder)], env=environment) for folder in folders]
            statuses = [sender.wait() for sender in senders]
            acknowledged = time.perf_counter() - began
            receiver.drain()
            filed = time.perf_counter() - began
        if any(statuses):
            raise RuntimeError(f"storescu to {receiver.name} ended with {statuses}; see {receiver.folder / 'log'}")
        objects = sum(len(list(folder.iterdir())) for folder in folders)
        return Run(
            receiver=receiver.name, load=load.name, associations=len(folders), round=number, objects=objects,
            bytes=objects * load.pixel_bytes, acknowledged_s=acknowledged, filed_s=filed,
            peak_rss_bytes=memory.peak_bytes,
        )  # fmt: skip


def report(runs: Sequence[Run]) -> str:
    """Return a table: medians with their spread, and the median of the rounds' ratios node / receiver."""
    lines = [
        f"{'load':<20} {'assoc':>5} {'receiver':<11} {'objects/s':>9} {'(min-max)':>13} {'MB/s':>6} {'filed/s':>8}"
        f" {'node/this':>9} {'peak RSS MB':>11} {'p50 ms':>7} {'p99 ms':>7}"
    ]
    for load, associations in dict.fromkeys((run.load, run.associations) for run in runs):
        here = [run for run in runs if (run.load, run.associations) == (load, associations)]
        node = {run.round: run.rate for run in here if run.receiver == "node"}
        for name in dict.fromkeys(run.receiver for run in here):
            mine = [run for run in here if run.receiver == name]
            rates = [run.rate for run in mine]
            ratios = [node[run.round] / run.rate for run in mine if run.round in node]
            lines.append(
                f"{load:<20} {associations:>5} {name:<11} {statistics.median(rates):>9.1f}"
                f" {f'({min(rates):.0f}-{max(rates):.0f})':>13}"
                f" {statistics.median(run.bytes / run.acknowledged_s for run in mine) / 1e6:>6.0f}"
                f" {statistics.median(run.objects / run.filed_s for run in mine):>8.1f}"
                f" {f'{statistics.median(ratios):.2f}' if ratios else '':>9}"
                f" {max(run.peak_rss_bytes for run in mine) / 1e6:>11.0f}"
                f" {statistics.median(run.p50_ms for run in mine):>7.1f}"
                f" {statistics.median(run.p99_ms for run in mine):>7.1f}"
            )
    return "\n".join(lines)


def measure(options: argparse.Namespace, folder: Path) -> list[Run]:
    """Start the receivers, run all rounds, and return what was measured; round 0 warms up and does not count."""
    receivers = [Receiver(name, folder / name) for name in options.receivers]
    bench = Bench(folder / "load", receivers, options.count)
    started: list[Receiver] = []
    try:
        started += [receiver.__enter__() for receiver in receivers]
        for load in (LOADS[name] for name in options.loads):
            for associations in [1] if load.name == "big" else options.associations:
                for number in range(options.rounds + 1):
                    bench.round(load, associations, number)
                    print(".", end="", flush=True, file=sys.stderr)
            if load.name != "big":
                for number in range(options.rounds + 1):
                    bench.response_round(load, number)
    finally:
        for receiver in receivers:
            receiver.__exit__()
    print(file=sys.stderr)
    return [run for run in bench.runs if run.round > 0]


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, {"rounds": 1, "count": 4, "loads": ["mr"], "associations": [2]})
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=100, help="objects an association sends in a round")
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--associations", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--receivers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure and print."""
    options = parsed()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        runs = measure(options, Path(name))
    print(report(runs))
    keep([asdict(run) for run in runs], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

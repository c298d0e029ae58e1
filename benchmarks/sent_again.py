"""Images that come again unchanged beside images that are new: what the node takes and files in a second of each.

    python -m benchmarks.sent_again [--rounds 5] [--count 1000] [--loads mr ct] [--quick] [--json FILE]

A router that is set up twice, a technologist who presses *send* once more: nothing of it is new. Every round sends one
set of new images, and the set of the round before once more; which goes first turns from round to round. The sender is
DCMTK's storescu with TCP_NODELAY=1. Images are acknowledged when the sender has ended, filed when the journal is empty.
"""

from __future__ import annotations

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
from benchmarks.receivers import Receiver

_NEW, _AGAIN = "new", "again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One set of images sent once: `what` is new or again; seconds count from the start of the sender."""

    load: str
    what: str
    round: int
    images: int
    acknowledged_s: float
    filed_s: float


def measure(folder: Path, load: Load, count: int, rounds: int) -> list[Run]:
    """Run all rounds against one node; the first set, and the round after it, warm up and do not count."""
    sets = [folder / "even", folder / "odd"]
    found = []
    with Receiver("node", folder / "receiver") as node:
        write_load(sets[0], load, count, 1)
        _send(node, sets[0])
        for number in range(rounds + 1):
            known, fresh = sets[number % 2], sets[1 - number % 2]
            write_load(fresh, load, count, number + 2)
            os.sync()  # writing them must not be paid for by the first that is sent
            turns = [(_NEW, fresh), (_AGAIN, known)]
            for what, images in turns if number % 2 else reversed(turns):
                acknowledged_s, filed_s = _send(node, images)
                found.append(
                    Run(load=load.name, what=what, round=number, images=count, acknowledged_s=acknowledged_s,
                        filed_s=filed_s)
                )  # fmt: skip
                print(".", end="", flush=True, file=sys.stderr)
    return [run for run in found if run.round > 0]


def _send(node: Receiver, images: Path) -> tuple[float, float]:
    command = ["storescu", "-R", "-aec", node.ae_title, "127.0.0.1", str(node.port), "+sd", str(images)]
    began = time.perf_counter()
    subprocess.run(command, env={**os.environ, "TCP_NODELAY": "1"}, check=True)
    acknowledged_s = time.perf_counter() - began
    node.drain()
    return acknowledged_s, time.perf_counter() - began


def ratios(runs: Sequence[Run]) -> dict[str, float]:
    """Return the median of the rounds' own ratios again / new, of the time until all is acknowledged and filed."""
    found = {}
    for load in dict.fromkeys(run.load for run in runs):
        by_round: dict[int, dict[str, Run]] = {}
        for run in (one for one in runs if one.load == load):
            by_round.setdefault(run.round, {})[run.what] = run
        for moment in ("acknowledged_s", "filed_s"):
            shares = [getattr(one[_AGAIN], moment) / getattr(one[_NEW], moment) for one in by_round.values()]
            found[f"{load}, {moment.removesuffix('_s')}, again / new"] = statistics.median(shares)
    return found


def report(runs: Sequence[Run]) -> str:
    """Return a table: medians with their spread, and the ratios."""
    lines = [f"{'load':<6} {'images':<6} {'acknowledged/s':>14} {'(min-max)':>13} {'filed/s':>8} {'(min-max)':>13}"]
    for load, what in dict.fromkeys((run.load, run.what) for run in runs):
        mine = [run for run in runs if (run.load, run.what) == (load, what)]
        taken = [run.images / run.acknowledged_s for run in mine]
        filed = [run.images / run.filed_s for run in mine]
        lines.append(
            f"{load:<6} {what:<6} {statistics.median(taken):>14.0f} {f'({min(taken):.0f}-{max(taken):.0f})':>13}"
            f" {statistics.median(filed):>8.0f} {f'({min(filed):.0f}-{max(filed):.0f})':>13}"
        )
    return "\n".join([*lines, *(f"{name:<40} {value:5.2f}" for name, value in ratios(runs).items())])


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"rounds": 1, "count": 4, "loads": ["mr"]})
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="images in a set")
    parser.add_argument("--loads", nargs="+", choices=["mr", "ct"], default=["mr", "ct"])
    options = parser.parse_args()
    runs = []
    for name in options.loads:
        with tempfile.TemporaryDirectory() as folder:
            runs += measure(Path(folder), LOADS[name], options.count, options.rounds)
    print(file=sys.stderr)
    print(report(runs))
    keep({"runs": [asdict(run) for run in runs], "ratios": ratios(runs)}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

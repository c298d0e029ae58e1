"""From process start to a listening port and to the first C-ECHO answered: the node beside Orthanc, in turn.

    python -m benchmarks.startup [--rounds 5] [--quick] [--json FILE]

Prints each one's times, medians and their ratio. Orthanc is left out, with a word, where it is not installed.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.command_line import keep, parser_of
from benchmarks.peers import listens, node_command, orthanc_command
from dicom_node.dimse.negotiation import Remote
from dicom_node.dimse.probe import echo
from tests.peers.process import free_port

_LIMIT_S = 60.0
_MOMENTS = ("listens", "answers C-ECHO")


def seconds_to_start(command: list[str], title: str, port: int) -> tuple[float, float]:
    """Start `command`; return the seconds until its port listens and until it answers C-ECHO, and end it."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not listens(port):
            if time.monotonic() - started > _LIMIT_S:
                raise TimeoutError(f"{command[0]} did not listen within {_LIMIT_S:.0f} s")
            time.sleep(0.005)
        listening_s = time.monotonic() - started
        echo(Remote("127.0.0.1", port, title, "BENCH", _LIMIT_S))
        return listening_s, time.monotonic() - started
    finally:
        process.kill()
        process.wait()


def measure(rounds: int) -> dict[str, list[float]]:
    """Start each in turn, `rounds` times; the first node start makes the database, the others find it."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts: dict[str, Callable[[int], list[str]]] = {"node": lambda port: node_command(folder, port)}
        if shutil.which("Orthanc"):
            starts["orthanc"] = lambda port: orthanc_command(folder, port)
        for round_number in range(rounds + 1):
            for who, command in starts.items():
                port = free_port()
                title = "AINODE" if who == "node" else "BENCHPACS"
                first = ", first start" if round_number == 0 else ""
                for what, took_s in zip(_MOMENTS, seconds_to_start(command(port), title, port), strict=True):
                    times.setdefault(f"{who} {what}{first}", []).append(took_s)
    return times


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__, {"rounds": 1})
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    times = measure(options.rounds)
    for who, values in times.items():
        print(f"{who:<36} median {statistics.median(values):.2f} s   all {' '.join(f'{v:.2f}' for v in values)}")
    for what in _MOMENTS if f"orthanc {_MOMENTS[0]}" in times else ():
        ratio = statistics.median(times[f"node {what}"]) / statistics.median(times[f"orthanc {what}"])
        print(f"{'node / orthanc, ' + what:<36} {ratio:.2f}")
    keep(times, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

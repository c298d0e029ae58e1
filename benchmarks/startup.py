"""From process start to the first C-ECHO answered: the node beside Orthanc, in turn, in one run.

    python -m benchmarks.startup [--rounds 5] [--json FILE]

Prints each one's times, medians and their ratio. Orthanc is left out, with a word, where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import free_port, node_command, orthanc_command
from dicom_node.errors import DeliveryError
from dicom_node.send.echo import echo

_LIMIT_S = 60.0


def seconds_to_echo(command: list[str], title: str, port: int) -> float:
    """Start `command`, return the seconds until it answers C-ECHO, and end it."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.monotonic() - started < _LIMIT_S:
            try:
                echo("127.0.0.1", port, title, "BENCH", 2.0)
                return time.monotonic() - started
            except DeliveryError:
                time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    raise TimeoutError(f"{command[0]} did not answer within {_LIMIT_S:.0f} s")


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
                took_s = seconds_to_echo(command(port), "AINODE" if who == "node" else "BENCHPACS", port)
                label = f"{who}, first start" if round_number == 0 else who
                times.setdefault(label, []).append(took_s)
    return times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times = measure(options.rounds)
    for who, values in times.items():
        print(f"{who:<22} median {statistics.median(values):.2f} s   all {' '.join(f'{v:.2f}' for v in values)}")
    if "orthanc" in times:
        ratio = statistics.median(times["node"]) / statistics.median(times["orthanc"])
        print(f"{'node / orthanc':<22} {ratio:.2f}")
    else:
        print("Orthanc is not installed: no ratio.")
    if options.json:
        options.json.write_text(json.dumps(times))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Several modalities that send at once, each its own study on an association of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads import LOADS, write_load
from benchmarks.receivers import Receiver


@dataclass(frozen=True, slots=True)
class Sent:
    """What all of them sent together, in how many seconds it was acknowledged, and filed."""

    objects: int
    acknowledged_s: float
    filed_s: float


def fresh_studies(folder: Path, associations: int, count: int, first_series: int, step: int = 1) -> list[Path]:
    """Write a study of `count` images for each association; its number is never used twice in a run."""
    folders = [folder / str(place) for place in range(associations)]
    for place, one in enumerate(folders):
        write_load(one, LOADS["mr"], count, first_series + step * place)
    os.sync()
    return folders


def send_at_once(receiver: Receiver, folders: Sequence[Path]) -> Sent:
    """Send every folder at the same time and wait until all is filed. Raises `RuntimeError` where a sender failed."""
    command = ["storescu", "-R", "-aec", receiver.ae_title, "127.0.0.1", str(receiver.port), "+sd"]
    objects = sum(len(list(folder.iterdir())) for folder in folders)
    began = time.perf_counter()
    senders = [subprocess.Popen([*command, str(folder)], env={**os.environ, "TCP_NODELAY": "1"}) for folder in folders]
    statuses = [sender.wait() for sender in senders]
    if any(statuses):
        raise RuntimeError(f"a sender failed; see {receiver.folder / 'log'}")
    acknowledged_s = time.perf_counter() - began
    receiver.drain()
    return Sent(objects, acknowledged_s, time.perf_counter() - began)

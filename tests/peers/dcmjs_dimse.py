"""The `dcmjs-dimse` package of Node.js as a modality: an implementation of DIMSE that shares nothing with ours."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.npm import installed
from tests.support.needs import tool

PEER = Path(__file__).with_name("dcmjs")


@dataclass(frozen=True)
class Told:
    """What the receiver answered; `stored` in the order of the files; `said` is the log."""

    echo: int | None
    stored: list[int]
    errors: list[str]
    said: str


def send(port: int, *paths: Path, calling: str = "MOD1", called: str = "AINODE") -> Told:
    """Make a C-ECHO and store the files over one association."""
    environment = os.environ | {"NODE_PATH": str(installed(PEER) / "node_modules")}
    done = subprocess.run(
        [tool("node", "nodejs"), str(PEER / "send.cjs"), str(port), calling, called, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
        env=environment,
    )
    *said, last = done.stdout.splitlines()
    answer = json.loads(last)
    return Told(answer["echo"], answer["stored"], answer["errors"], "\n".join([*said, done.stderr]))

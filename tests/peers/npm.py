"""Packages of Node.js that a peer needs, installed once into ``.node/``; the lock file pins versions and hashes."""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.needs import REPOSITORY, absent, tool

_MANIFESTS = ("package.json", "package-lock.json")
_INSTALL_LIMIT_S = 280


def installed(peer: Path) -> Path:
    """Return the folder with the packages of the peer in this folder; a new lock file installs anew."""
    node = tool("node", "nodejs")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    if int(re.findall(r"\d+", version)[0]) < 20:
        absent(f"the peer {peer.name} needs Node 20 or newer, found {version.strip()}")
    manifests = {name: (peer / name).read_bytes() for name in _MANIFESTS}
    folder = REPOSITORY / ".node" / f"{peer.name}-{hashlib.sha256(b''.join(manifests.values())).hexdigest()[:12]}"
    finished = folder / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        if not finished.exists():
            _install(peer.name, manifests, folder)
            finished.touch()
    return folder


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other workers of the same test run out."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(name: str, manifests: Mapping[str, bytes], folder: Path) -> None:
    for manifest, data in manifests.items():
        (folder / manifest).write_bytes(data)
    command = [tool("npm", "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False)
    if done.returncode != 0:
        absent(f"npm could not install the peer {name}: {done.stderr[-400:]}")

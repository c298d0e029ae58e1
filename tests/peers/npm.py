"""Packages of Node.js that a peer needs, installed once into ``.node/``; the lock file pins versions and hashes."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from tests.needs import REPOSITORY, absent, tool

_MANIFESTS = ("package.json", "package-lock.json")
_INSTALL_LIMIT_S = 280


def installed(peer: Path) -> Path:
    """Return the folder with the packages of the peer in this folder; a new lock file installs anew."""
    node, npm = tool("node", "nodejs"), tool("npm", "npm")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    if int(re.findall(r"\d+", version)[0]) < 20:
        absent(f"the peer {peer.name} needs Node 20 or newer, found {version.strip()}")
    manifests = {name: (peer / name).read_bytes() for name in _MANIFESTS}
    folder = REPOSITORY / ".node" / f"{peer.name}-{hashlib.sha256(b''.join(manifests.values())).hexdigest()[:12]}"
    finished = folder / "installed"
    if not finished.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in manifests.items():
            (folder / name).write_bytes(data)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S, check=False
        )
        if done.returncode != 0:
            absent(f"npm could not install the peer {peer.name}: {done.stderr[-400:]}")
        finished.touch()
    return folder

"""A bare Debian in a folder, made by debootstrap: the node is installed there by the pages' commands, in a chroot.

Every command has mounts and processes of its own (unshare), so that nothing is left mounted whatever happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.peers.process import Process
from tests.support.needs import absent, tool

RELEASE = "bookworm"
#: Where a checkout lies in there.
CHECKOUT = "/srv/dicom-node"
_PACKAGES = ("ca-certificates", "make", "python3", "python3-venv", "sqlite3")
_ENTER = """mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"
while [ "$1" != -- ]; do mkdir -p "$0$1"; mount --bind "$1" "$0$1"; shift; done
shift; exec chroot "$0" "$@"
"""


@dataclass(frozen=True, slots=True)
class DebianRoot:
    """A root folder, and what commands in it are told of the package index of this machine."""

    root: Path
    #: Folders of this machine that pip looks into.
    index: Sequence[str] = ()

    def command(self, *command: str) -> list[str]:
        """Return what runs a command in there; nothing of it outlives it."""
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, str(self.root)]
        return [
            *enter,
            *self.index,
            "--",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            *_pip_variables(),
            *command,
        ]

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command in there and return what it printed; `fails`: it must."""
        done = subprocess.run(
            self.command(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, f"{command}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def script(self, text: str) -> str:
        """Run what a page shows."""
        return self.run("bash", "-euo", "pipefail", "-c", text)

    def start(self, log: Path, *command: str) -> Process:
        """Start a program in there that serves."""
        return Process(self.command(*command), log)

    def take_checkout(self, files: Sequence[str], repository: Path) -> Path:
        """Copy the files that git holds to where a clone would lie, and return the folder."""
        place = self.root / CHECKOUT.lstrip("/")
        for name in files:
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, target, follow_symlinks=False)
        return place


@contextmanager
def debian_root() -> Iterator[DebianRoot]:
    """Make a bare Debian, with what the page says is needed and no more; it goes at the end."""
    if os.getuid() != 0:
        absent("only root can make a Debian root")
    folder = Path(tempfile.mkdtemp(prefix="dicom-node-debian-", dir="/var/tmp"))
    try:
        command = [tool("debootstrap", "debootstrap"), "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
        subprocess.run([*command, RELEASE, str(folder)], check=True, capture_output=True)
        folder.chmod(0o755)  # it is the "/" of everybody in there
        yield DebianRoot(folder, _give_package_index(folder))
    finally:
        shutil.rmtree(folder)


def _pip_variables() -> list[str]:
    return [f"{name}={text}" for name, text in os.environ.items() if name.startswith("PIP_")]


def _give_package_index(root: Path) -> list[str]:
    """Let pip in there find what pip finds here: its settings, certificates, resolver; return its folders."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    named = {word.strip("'\"") for line in listed.splitlines() for word in line.partition("=")[2].split()}
    paths = {Path(urlsplit(one).path) for one in named if one.startswith(("/", "file:///"))}
    for path in (*paths, Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf"), Path("/etc/resolv.conf")):
        if path.is_file():
            target = root / str(path).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    return sorted(str(path) for path in paths if path.is_dir())

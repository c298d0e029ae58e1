"""A bare Debian below a folder: what `debootstrap` makes, and commands in it as root, as a new user would type them.

A layer over it, or over this machine, takes what is written and leaves what is below. No systemd runs there; a
`systemctl` of the tests does what the maintainer scripts and the pages ask of it, and starts what the unit starts, as
its user. Mirrors are those of this machine's apt.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.process import is_running, wait_until
from tests.support.needs import absent, tool

_SYSTEMCTL = Path(__file__).with_name("systemctl.sh")
_PID_FILE, _LOG = "run/dicom-node.pid", "var/log/dicom-node.log"
_INSIDE = """
set -e
root=$0
if [ -n "$LOWER" ]; then
  root=$0.whole
  mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$0,workdir=$0.work" "$root"
fi
mount --bind /proc "$root/proc"
mount --rbind /dev "$root/dev"
for one in $LENT; do
  if [ -d "$one" ]; then mkdir -p "$root$one"; else mkdir -p "$(dirname "$root$one")"; touch "$root$one"; fi
  mount --bind "$one" "$root$one"
done
unset LOWER LENT
exec chroot "$root" "$@"
"""
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BareRoot:
    """A Debian of its own; its network is that of this machine. With `lower` it is a layer, whose files `path` has."""

    path: Path
    lower: Path | None = None
    #: Folders and files of this machine that are there, too, at the same place.
    lent: Sequence[Path] = ()

    @classmethod
    def over(cls, lower: Path, path: Path, lent: Sequence[Path] = ()) -> BareRoot:
        """Make a layer."""
        for name in ("", ".work", ".whole"):
            path.with_name(path.name + name).mkdir()
        path.chmod(0o755)
        return cls(path, lower, lent)

    def __truediv__(self, inside: str) -> Path:
        return self.path / inside.lstrip("/")

    def attempt(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the shell as root, and return how it ended."""
        command = ["unshare", "--mount", "sh", "-c", _INSIDE, str(self.path), "bash", "-euo", "pipefail", "-c", script]
        mounts = {"LOWER": str(self.lower or ""), "LENT": " ".join(map(str, self.lent))}
        # What it leaves running must not hold the pipe.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd="/",
                env={**_ENVIRONMENT, **_proxies(), **mounts, **environment}, check=False,
            )  # fmt: skip
            said.seek(0)
            return subprocess.CompletedProcess(command, ended.returncode, said.read(), "")

    def run(self, script: str, **environment: str) -> str:
        """Run a script that must succeed, and return what it said."""
        ended = self.attempt(script, **environment)
        assert ended.returncode == 0, f"{script}\n{ended.stdout}{self.log()}"
        return ended.stdout

    def install(self, *packages: str) -> None:
        self.run(f"apt-get -qq install -y --no-install-recommends {' '.join(packages)}")

    def pretend_systemd(self) -> None:
        """Let the maintainer scripts find a system that runs."""
        # In its own place: apt gives the scripts a path without /usr/local.
        place = self / "usr/bin/systemctl"
        place.rename(place.with_name("systemctl.real"))
        shutil.copy(_SYSTEMCTL, place)
        place.chmod(0o755)
        (self / "run/systemd/system").mkdir(parents=True, exist_ok=True)

    @property
    def service(self) -> int | None:
        """The process of the service, `None` when there is none."""
        with contextlib.suppress(FileNotFoundError):
            process_id = int((self / _PID_FILE).read_text(encoding="ascii"))
            return process_id if is_running(process_id) else None
        return None

    def log(self) -> str:
        """The end of what the service said."""
        place = self / _LOG
        return "\n".join(place.read_text("utf-8", "replace").splitlines()[-30:]) if place.exists() else ""


@contextmanager
def layers_folder() -> Iterator[Path]:
    """Give a folder for layers; skip where none can be laid over another root."""
    if os.getuid() != 0:
        absent("only root can lay one root over another")
    with tempfile.TemporaryDirectory(prefix="dicom-node-layers-", dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        if (tried := BareRoot.over(Path("/"), place / "tried").attempt("true")).returncode:
            pytest.skip(f"no root can be laid over that of this machine: {tried.stdout}")
        yield place


@contextmanager
def bare_root() -> Iterator[BareRoot]:
    """Make one, or skip and say why it cannot be made here."""
    if os.getuid() != 0:
        absent("only root can make a root of its own")
    tool("debootstrap", "debootstrap")
    place = Path(tempfile.mkdtemp(prefix="dicom-node-root-", dir="/var/tmp"))
    place.chmod(0o755)
    root = BareRoot(place)
    try:
        _bootstrap(place)
        yield root
    finally:
        if (running := root.service) is not None:
            os.kill(running, signal.SIGTERM)
            wait_until(lambda: not is_running(running), 90, "the end of the service", 0.2)
        shutil.rmtree(place)


def _bootstrap(place: Path) -> None:
    mirrors = _mirrors()
    if not mirrors:
        absent("apt of this machine names no mirror of Debian")
    address, suite = next(one for one in mirrors if "-" not in one[1])
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(place), address],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        absent(f"debootstrap makes no root here: {made.stdout[-500:]}{made.stderr[-500:]}")
    lines = [f"deb {address} {suite} main\n" for address, suite in mirrors]
    (place / "etc/apt/sources.list").write_text("".join(lines), encoding="utf-8")
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), place / "etc" / name)
    # It lives for minutes: nothing has to outlast a power cut.
    (place / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n", encoding="utf-8")
    BareRoot(place).run("apt-get -qq update")


def _mirrors() -> Sequence[tuple[str, str]]:
    """Where apt of this machine finds Debian: address and suite."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Origin: Debian"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return [(address, suite) for address, suite in (line.split() for line in dict.fromkeys(told.splitlines()))]


def _proxies() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy")}

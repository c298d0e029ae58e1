"""A tree that `make install` builds below a folder that every user can reach, with the libraries of these tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from tests.support.needs import REPOSITORY, absent
from tools.service_libraries import service_libraries

#: Another user than that of the tests, on every system.
SERVICE_USER = "nobody"
_SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True, slots=True)
class InstalledTree:
    """What lies below `root` as it will lie below ``/``."""

    root: Path

    @property
    def release(self) -> Path:
        return (self.root / "opt/dicom-node/current").resolve()

    @property
    def config(self) -> Path:
        return self.root / "etc/dicom-node/node.toml"

    @property
    def data_dir(self) -> Path:
        return self.root / "var/lib/dicom-node"

    @property
    def unit(self) -> Path:
        return self.root / "etc/systemd/system/dicom-node.service"

    def program(self, *arguments: str) -> list[str]:
        """The command line that was installed; its first line names the place where the tree will lie."""
        return [str(self.release / "bin/python"), str(self.release / "bin/dicom-node"), *arguments]

    def run(self, *arguments: str, user: str | None = SERVICE_USER) -> subprocess.CompletedProcess[str]:
        """Run a command of the node as another user, with nothing of this environment."""
        return subprocess.run(
            self.program(*arguments), user=user, group="nogroup" if user else None, extra_groups=[] if user else None,
            cwd=self.data_dir, env={"PATH": "/usr/bin:/bin", "DICOM_NODE__NODE__DATA_DIR": str(self.data_dir)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def make(target: str, root: Path, *variables: str, checkout: Path = REPOSITORY) -> str:
    """Run `make install` or `make uninstall` for a tree, and return what it said."""
    command = ["make", "-C", str(checkout), "--no-print-directory", target, f"DESTDIR={root}", *variables]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def installed_tree() -> Iterator[InstalledTree]:
    """Install below a folder; the libraries of a service, and no others, are those of the tests' environment."""
    root = Path(tempfile.mkdtemp(prefix="dicom-node-installed-", dir="/var/tmp"))
    try:
        root.chmod(0o755)
        make("install", root, "PIP_ARGS=--no-deps", f"PYTHON={_python()}")
        tree = InstalledTree(root)
        (site,) = tree.release.glob("lib/python3*/site-packages")
        for name, one in service_libraries().items():
            if not list(site.glob(f"{name}-*.dist-info")):  # an environment comes with some of its own
                _put_into(site, one)
        yield tree
    finally:
        shutil.rmtree(root)


def _put_into(site: Path, library: Distribution) -> None:
    """Put the files of a library that a program imports into another environment: as links, where the disk is one."""
    here = Path(str(library.locate_file("")))
    for file in library.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        place = site / file
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.hardlink_to(here / file)
        except OSError:
            shutil.copy2(here / file, place)


def _python() -> Path:
    """A Python that any user can run, and that the libraries were built for."""
    for one in (_SYSTEM_PYTHON, Path(sys.executable).resolve()):
        asked = [str(one), "-c", "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            told = subprocess.run(
                asked, capture_output=True, text=True, check=True, user=SERVICE_USER if os.getuid() == 0 else None
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        if told.stdout.strip() == sysconfig.get_python_version():
            return one
    absent(f"no Python {sysconfig.get_python_version()} with ensurepip here that every user can run")
    raise AssertionError


def _environment() -> dict[str, str]:
    """Without what an outer make, or these tests, would say to an installation."""
    return {name: text for name, text in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "PYTHONPATH"}}

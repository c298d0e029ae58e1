"""The Debian package, made of this checkout: in full, or quickly about a tree that holds hardly anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from dicom_node import __version__
from tests.support.needs import REPOSITORY, tool
from tests.unit.test_packaging import tracked_files


def build_package(out: Path, *, checkout: Path = REPOSITORY, stage: Path | None = None) -> Path:
    """Make the package as `make deb` does, or of a tree that is there, and return it."""
    tool("dh", "debhelper")
    environment = {**os.environ, "OUT": str(out), "SBOM_PYTHON": sys.executable}
    environment.pop("PYTHONPATH", None)
    if stage is not None:
        environment["STAGE"] = str(stage)
    command = [checkout / "deploy/package.sh"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert made.returncode == 0, made.stdout + made.stderr[-4000:]
    return Path(made.stdout.removeprefix("Made: ").strip())


def checkout_of_version(version: str, place: Path) -> Path:
    """Copy the sources, and give them another version."""
    for name in tracked_files():
        if not name.startswith("tests/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, place / name, follow_symlinks=False)
    for file in ("pyproject.toml", "dicom_node/__init__.py"):
        text = (place / file).read_text(encoding="utf-8")
        (place / file).write_text(text.replace(f'"{__version__}"', f'"{version}"', 1), encoding="utf-8")
    return place


def stub_tree(place: Path) -> Path:
    """What `make install` lays down, with a program that does nothing and no library."""
    release = place / "opt/dicom-node/releases" / __version__
    for folder in ("etc/dicom-node", "etc/systemd/system", "var/lib/dicom-node", release / "bin"):
        (place / folder).mkdir(parents=True)
    (release / "bin/python").symlink_to(Path("/usr/bin/python3").resolve())
    program = release / "bin/dicom-node"
    program.write_text(f"#!/opt/dicom-node/releases/{__version__}/bin/python\n", encoding="utf-8")
    program.chmod(0o755)
    (place / "opt/dicom-node/current").symlink_to(f"releases/{__version__}")
    shutil.copy(REPOSITORY / "deploy/node.toml", place / "etc/dicom-node")
    shutil.copy(REPOSITORY / "deploy/systemd/dicom-node.service", place / "etc/systemd/system")
    return place

"""The Debian package, made of this checkout: in full, or quickly about a tree that holds hardly anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from dicom_node import __version__
from tests.support.needs import REPOSITORY, tool


def build_package(out: Path, *, stage: Path | None = None, version: str = __version__) -> Path:
    """Make the package as `make deb` does, but packed loosely; or of a tree that is there, and of another version."""
    tool("dh", "debhelper")
    environment = {name: text for name, text in os.environ.items() if name not in {"MAKEFLAGS", "PYTHONPATH"}}
    environment |= {"OUT": str(out), "SBOM_PYTHON": sys.executable, "COMPRESSION": "-Zgzip -z1", "VERSION": version}
    if stage is not None:
        environment["STAGE"] = str(stage)
    command = [REPOSITORY / "deploy/package.sh"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert made.returncode == 0, made.stdout + made.stderr[-4000:]
    return Path(made.stdout.removeprefix("Made: ").strip())


def tree_of_version(version: str, package: Path, place: Path) -> Path:
    """Unpack a package, and let the node in it be of another version, with the same libraries."""
    subprocess.run(["dpkg-deb", "--extract", package, place], check=True)
    release = (place / "opt/dicom-node/current").resolve().rename(place / "opt/dicom-node/releases" / version)
    (place / "opt/dicom-node/current").unlink()
    (place / "opt/dicom-node/current").symlink_to(f"releases/{version}")
    said = [one for one in (release / "bin").iterdir() if one.is_file() and one.read_bytes()[:2] == b"#!"]
    (code,) = release.glob("lib/python3*/site-packages/dicom_node/__init__.py")
    for file in (*said, code):
        text = file.read_text(encoding="utf-8")
        for form in ("releases/{}/", '"{}"'):
            text = text.replace(form.format(__version__), form.format(version))
        file.write_text(text, encoding="utf-8")
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

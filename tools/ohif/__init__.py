"""The published build of the OHIF viewer, fetched from npm once and checked: `python -m tools.ohif [FOLDER]`."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_PINNED = Path(__file__).with_name("package.json")
_DOWNLOAD_LIMIT_S = 280


class NotFetched(Exception):
    """The viewer could not be had; the text says why."""


def folder_in(place: Path) -> Path:
    """Return where the viewer's files are, or will be, below a folder; its name tells the version."""
    name = str(_pinned()["package"]).replace("/", "-").replace("@", "-").strip("-")
    return place / name / "dist"


def fetch(place: Path) -> Path:
    """Fetch the pinned build into a folder, unless it is there; return where its files are. Raises `NotFetched`."""
    files, pinned = folder_in(place), _pinned()
    if (files / "index.html").exists():
        return files
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as work:
        _unpack(_downloaded(pinned["package"], pinned["integrity"], Path(work)), Path(work))
        # Somebody else may have been quicker.
        if not files.parent.exists():
            (Path(work) / "package").rename(files.parent)
    return files


def _pinned() -> dict[str, str]:
    return dict(json.loads(_PINNED.read_text(encoding="utf-8"))["config"])


def _downloaded(package: str, integrity: str, into: Path) -> Path:
    command = ["npm", "pack", package, "--pack-destination", str(into), "--ignore-scripts"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFetched(f"npm could not fetch {package}: {error}") from error
    if done.returncode != 0:
        raise NotFetched(f"npm could not fetch {package}: {done.stderr[-400:]}")
    (archive,) = into.glob("*.tgz")
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != integrity:
        raise NotFetched(f"{package} is not what was pinned: {found}")
    return archive


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as packed:
        members = [one for one in packed if one.name.startswith("package/dist/") and not one.name.endswith(".map")]
        packed.extractall(into, members, filter="data")


def main(arguments: list[str]) -> None:
    """Fetch the viewer into the folder named, or into `.node` here, and say how to serve it."""
    try:
        files = fetch(Path(arguments[0] if arguments else ".node").resolve())
    except NotFetched as error:
        sys.exit(str(error))
    sys.stdout.write(f'The viewer is in {files}\nIn node.toml:\n\n[viewer]\nohif = "{files}"\n')

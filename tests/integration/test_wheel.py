"""The wheel: built from what git holds, installed alone into an empty environment, and read by what pip reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dicom_node import __version__
from tests.support.needs import REPOSITORY
from tests.unit.test_packaging import LINKED, PROJECT, tracked_files

_ASK = """
import importlib.metadata as metadata, json, sys
one = metadata.distribution("dicom-node")
print(json.dumps({"version": one.version, "requires": one.requires, "extras": one.metadata.get_all("Provides-Extra"),
    "licence": one.metadata["License-Expression"], "python": one.metadata["Requires-Python"],
    "commands": [entry.name for entry in one.entry_points if entry.group == "console_scripts"]}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked_files():
        if name.startswith(("dicom_node", *LINKED)) or "/" not in name:
            target = folder / "sources" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), "./sources"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_an_installed_wheel_asks_for_ranges_and_offers_its_extras(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")], check=True)
    python = tmp_path / "empty/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    told = json.loads(subprocess.run([python, "-c", _ASK], check=True, capture_output=True, text=True).stdout)

    assert told["version"] == __version__
    assert set(told["extras"]) == set(PROJECT["optional-dependencies"])
    assert (told["licence"], told["python"], told["commands"]) == ("Apache-2.0", ">=3.11", ["dicom-node"])
    needed = [one for one in map(Requirement, told["requires"]) if one.marker is None]
    assert {one.name.lower() for one in needed} == {Requirement(one).name.lower() for one in PROJECT["dependencies"]}
    assert [str(one) for one in needed if "==" in str(one.specifier)] == []


def test_the_wheel_holds_the_node_and_nothing_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    tops = {name.partition("/")[0] for name in names}
    python = {name for name in tracked_files() if name.endswith(".py") and name.startswith(("dicom_node/", *LINKED))}
    linked = {f"dicom_node/{name}" if name.startswith(LINKED) else name for name in python}

    assert tops == {"dicom_node", f"dicom_node-{__version__}.dist-info"}
    assert linked - set(names) == set()

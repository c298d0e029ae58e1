"""The folders at the top are the package: links, imports, the wheel, and what must never be committed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.needs import REPOSITORY
from tools.service_libraries import service_libraries

LINKED = ("config", "fhir", "inference", "sr_writer")
#: What developers need includes what the documentation is built with.
OWN_EXTRA = "dicom-node[docs,traces]"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()


def tracked_files() -> list[str]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is not a git checkout")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={REPOSITORY}", "ls-files", "-z"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("name", LINKED)
def test_a_link_leads_to_the_folder_at_the_top(name: str) -> None:
    link = REPOSITORY / "dicom_node" / name

    assert link.is_symlink(), f"dicom_node/{name} is not a link; clone with: git clone -c core.symlinks=true"
    assert link.readlink() == Path("..", name)
    assert link.resolve() == REPOSITORY / name


def test_both_packages_called_fhir_import_from_the_repository_root() -> None:
    code = (
        "import fhir.resources.R4B.bundle, dicom_node.fhir, sys;"
        "assert not {'torch', 'monai'} & set(sys.modules), 'a builder loads the model libraries'"
    )

    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("name", LINKED)
def test_setuptools_packs_the_linked_folders(name: str) -> None:
    include = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]

    # Python 3.12 and newer make environments without it.
    setuptools = pytest.importorskip("setuptools")
    found = setuptools.find_packages(str(REPOSITORY), include=include["include"])

    assert f"dicom_node.{name}" in found
    assert not [package for package in found if not package.startswith("dicom_node")]


def test_the_package_says_that_it_is_typed_and_packs_the_mark() -> None:
    """PEP 561: without `py.typed` in the wheel, type checkers ignore every annotation of an installed package."""
    packed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]

    assert (REPOSITORY / "dicom_node" / "py.typed").read_bytes() == b""
    assert "py.typed" in packed["*"]


def test_every_folder_with_python_in_it_is_a_package() -> None:
    folders = {
        path.parent
        for top in ("dicom_node", *LINKED)
        for path in (REPOSITORY / top).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    #: Alembic finds its migrations by path.
    bare = {folder for folder in folders if not (folder / "__init__.py").exists() and folder.name != "versions"}

    assert bare == set()


def test_no_patient_data_is_committed() -> None:
    suspicious = [
        name
        for name in tracked_files()
        if Path(name).suffix.lower() in {".dcm", ".dicom", ".ima", ".nii", ".mha", ".nrrd"} or _is_dicom(name)
    ]

    assert suspicious == []


def _is_dicom(name: str) -> bool:
    path = REPOSITORY / name
    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def test_the_constraints_pin_a_version_of_every_declared_requirement_that_it_allows() -> None:
    extras = PROJECT["optional-dependencies"]
    run = [*PROJECT["dependencies"], *extras["inference"], *extras["bundles"], *extras["onnx"], *extras["huggingface"]]
    declared = [Requirement(one) for one in {*run, *extras["traces"], *extras["dev"], *extras["docs"]} - {OWN_EXTRA}]
    pinned = pinned_versions()

    assert [str(one) for one in declared if not one.specifier.contains(pinned[canonicalize_name(one.name)])] == []
    assert "torchvision<0" in CONSTRAINTS


def test_a_program_that_imports_the_node_is_held_to_no_single_version_and_a_tool_of_development_is() -> None:
    extras = PROJECT["optional-dependencies"]
    tools = {*extras["dev"], *extras["docs"]} - {OWN_EXTRA}
    libraries = {*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)} - tools - {OWN_EXTRA}

    assert [one for one in libraries if {"=="} & {part.operator for part in Requirement(one).specifier}] == []
    assert [one for one in tools if {part.operator for part in Requirement(one).specifier} != {"=="}] == []


def test_what_a_service_is_made_of_is_pinned_by_the_constraints() -> None:
    """But for what the environment itself is made with."""
    assert set(service_libraries()) - set(pinned_versions()) <= {"setuptools"}


def pinned_versions() -> dict[str, str]:
    lines = (line.split("==") for line in CONSTRAINTS if "==" in line)
    return {canonicalize_name(name): version for name, version in lines}

"""What the service is made of: the distributions that `dicom-node[inference]` needs, as they are installed here.

Read from the metadata of the environment that this runs in, which may hold more: tools for tests.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).resolve().parents[1]
PROJECT = _ROOT / "pyproject.toml"
SERVICE_EXTRAS = ("inference",)
#: The default build of torch on Linux brings them, its CPU build does not: what is told here holds for both.
_OF_GPUS = ("nvidia-", "cuda-", "triton")


def service_libraries() -> Mapping[str, Distribution]:
    """Return every distribution that the service needs, directly or by others, by its normalised name."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in SERVICE_EXTRAS for one in project["optional-dependencies"][extra]),
    ]
    found: dict[str, Distribution] = {}
    waiting = [(one, "") for one in map(Requirement, wanted)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name.startswith(_OF_GPUS) or not _applies(requirement, extra):
            continue
        found.setdefault(name, _installed(requirement))
        for asked in ("", *requirement.extras):
            if (name, asked) not in seen:
                seen.add((name, asked))
                waiting += [(one, asked) for one in map(Requirement, found[name].requires or ())]
    return dict(sorted(found.items()))


def licence_table() -> str:
    """Return each library of the service with the version that is tested and what it says of its licence."""
    pinned = dict(
        line.split("==")
        for line in (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    rows = [
        f"| {one.name} | {versions.get(name, 'any')} | {licence_of(one)} |" for name, one in service_libraries().items()
    ]
    return "\n".join(["| library | version | licence, in its own words |", "|---|---|---|", *rows])


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _installed(requirement: Requirement) -> Distribution:
    try:
        return distribution(requirement.name)
    except PackageNotFoundError as error:
        raise SystemExit(f"{requirement} is not installed in this environment; run: make setup") from error


def licence_of(one: Distribution) -> str:
    """Return what a distribution says of its licence: an SPDX expression, a word of its own, or its classifiers."""
    metadata = one.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = list(_classified(one))
    text = str(metadata.get("License") or "")
    if "\n" not in text.strip() and text.strip() not in {"", "UNKNOWN"}:
        return text.strip()
    return ", ".join(classifiers) or "see its files"


def _classified(one: Distribution) -> Iterator[str]:
    for line in one.metadata.get_all("Classifier") or ():
        if line.startswith("License :: "):
            name = line.rpartition(" :: ")[2]
            if name != "OSI Approved":
                yield name

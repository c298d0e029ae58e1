"""The project's own source, parsed once in a test session for all tests that read it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.needs import REPOSITORY

#: The folders of the product as they lie in the repository; `dicom_node/` links to the last four.
PRODUCT = ("dicom_node", "inference", "sr_writer", "fhir", "config")


@cache
def source_of(path: Path) -> str:
    """Return the text of a module, UTF-8."""
    return path.read_text(encoding="utf-8")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return the module itself and all that is in it, in the order of `ast.walk`."""
    return tuple(ast.walk(ast.parse(source_of(path))))


@cache
def modules_of(*packages: str) -> tuple[Path, ...]:
    """Return the modules of these folders of the repository in order, each once (not behind a link as well)."""
    return tuple(_modules(packages))


def _modules(packages: tuple[str, ...]) -> Iterator[Path]:
    for package in packages:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                yield path

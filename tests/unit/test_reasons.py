"""The table of reasons is complete: every code the node can give stands in it, and nothing else does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dicom_node.core.reasons import REASONS
from tests.support.needs import REPOSITORY

#: What carries a code, and at which place.
CARRIERS = {"NotAnalysable": 0, "Exclusion": 0, "Declined": 0, "_require_one_value": 2}
PACKAGES = ("dicom_node", "inference", "sr_writer", "fhir")


def sources() -> Iterator[ast.AST]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if path.name != "reasons.py" and not _behind_link(path):
                yield ast.parse(path.read_text(encoding="utf-8"))


def _behind_link(path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents)


def given_codes() -> set[str]:
    found = set()
    for tree in sources():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CARRIERS:
                place = CARRIERS[call.func.id]
                argument = call.args[place] if len(call.args) > place else None
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
    return found


def test_every_reason_that_is_given_is_in_the_table() -> None:
    assert given_codes() - {one.code for one in REASONS} == set()


def test_every_reason_in_the_table_is_given_somewhere() -> None:
    texts = {
        node.value
        for tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert {one.code for one in REASONS} - texts == set()


def test_codes_are_unique_and_fit_their_column() -> None:
    codes = [one.code for one in REASONS]

    assert len(codes) == len(set(codes))
    assert all(code.isupper() and len(code) <= 64 for code in codes)

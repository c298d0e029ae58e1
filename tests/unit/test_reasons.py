"""The table of reasons is complete: every code the node can give stands in it, and nothing else does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dicom_node.core.reasons import REASONS
from dicom_node.inference.cards.folders import find_models
from tests.support.source_code import PRODUCT, modules_of, nodes_of

#: What carries a code, and at which place.
CARRIERS = {"NotAnalysable": 0, "Exclusion": 0, "Declined": 0, "_require_one_value": 2}


def nodes() -> Iterator[ast.AST]:
    for path in modules_of(*PRODUCT):
        if path.name != "reasons.py":
            yield from nodes_of(path)


def given_codes() -> set[str]:
    found = set()
    for call in nodes():
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CARRIERS:
            place = CARRIERS[call.func.id]
            argument = call.args[place] if len(call.args) > place else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.add(argument.value)
    return found


def test_every_reason_that_is_given_is_in_the_table() -> None:
    assert given_codes() - {one.code for one in REASONS} == set()


def test_every_reason_in_the_table_is_given_somewhere() -> None:
    texts = {node.value for node in nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    checks = {one.code for card in find_models().values() for one in card.checks}

    assert {one.code for one in REASONS} - texts - checks == set()


def test_every_code_of_a_check_in_a_shipped_card_is_in_the_table() -> None:
    checks = {one.code for card in find_models().values() for one in card.checks}

    assert checks - {one.code for one in REASONS} == set()


def test_codes_are_unique_and_fit_their_column() -> None:
    codes = [one.code for one in REASONS]

    assert len(codes) == len(set(codes))
    assert all(code.isupper() and len(code) <= 64 for code in codes)

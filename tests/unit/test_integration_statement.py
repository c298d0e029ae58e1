"""The IHE integration statement claims only what a test shows, and says plainly what it is not."""

from __future__ import annotations

import ast
import re

import pytest

from dicom_node import MANUFACTURER, PRODUCT_NAME, __version__
from tests.support.needs import REPOSITORY
from tests.support.source_code import nodes_of
from tools.generated_docs import DOCS

PAGE = (DOCS / "reference" / "integration-statement.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NAMED = sorted(set(_TEST.findall(PAGE)))


def rows(heading: str) -> list[str]:
    """Return the lines of the table of a section, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_a_claim_names_exists(path: str, name: str) -> None:
    assert name in {node.name for node in nodes_of(REPOSITORY / path) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("heading", ["Transactions", "Content of results"])
def test_every_claim_names_a_test(heading: str) -> None:
    claims = rows(heading)

    assert len(claims) >= 3
    assert [claim for claim in claims if not _TEST.search(claim)] == []


def test_the_statement_is_about_this_product_and_version() -> None:
    assert f"| {MANUFACTURER} | {PRODUCT_NAME} | {__version__} |" in PAGE


def test_the_statement_says_that_nobody_else_has_tested_it() -> None:
    assert "**Self-declared. Not tested at a Connectathon**" in PAGE


def test_what_is_offered_is_claimed_and_what_is_not_offered_is_not() -> None:
    conformance = (DOCS / "reference" / "conformance.md").read_text(encoding="utf-8")

    assert "Storage Commitment, Push Model | SCP; SCU for results" in conformance
    assert any(line.startswith("| Storage Commitment, RAD-10, of results |") for line in rows("Transactions"))
    assert "**Consistent Time**" in PAGE.partition("## What is missing")[2]
    assert "Evidence Creator, **in part**" in PAGE

"""docs/reference/fhir-resources.md explains every element that its examples show, and shows JSON that can be read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tools.generated_docs import DOCS

PAGE = (DOCS / "reference" / "fhir-resources.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
#: What every resource of R4 may have; said in a sentence below the tables where it means something.
_OF_ALL = {"resourceType", "id", "meta"}


def explained(kind: str) -> set[str]:
    """The elements that the tables of a type name, of `meta.tag` the first word."""
    tables = re.findall(rf"^\| {kind}\b[^|]*\| what it says \|\n(.*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    heads = [line.split("|")[1] for table in tables for line in table.splitlines()]
    return {name for head in heads for name in re.findall(r"`(\w+)", head)}


@pytest.mark.parametrize("kind", sorted({one["resourceType"] for one in EXAMPLES}))
def test_every_element_of_an_example_is_explained(kind: str) -> None:
    shown = {element for one in EXAMPLES if one["resourceType"] == kind for element in one}

    assert shown - _OF_ALL - explained(kind) == set()


def test_no_example_holds_base64_that_nobody_reads() -> None:
    assert re.findall(r'"data": "(?!\S{24}… \(cut here\)")', PAGE) == []
    assert PAGE.count("(cut here)") > 4


def test_the_examples_hold_what_the_page_promises() -> None:
    statuses = {(one["resourceType"], one.get("status")) for one in EXAMPLES}

    assert {("DiagnosticReport", "preliminary"), ("DiagnosticReport", "entered-in-error")} <= statuses
    assert [one for one in EXAMPLES if "us-core" in str(one.get("meta", {}).get("profile"))]
    assert [one for one in EXAMPLES if one.get("docStatus") == "preliminary"]
    assert [one for one in EXAMPLES if "Not analysed" in one.get("conclusion", "")]
    assert [one for one in EXAMPLES if one.get("activity", {}).get("coding", [{}])[0].get("code") == "UPDATE"]

"""Regular expressions that come by the network: which may keep the node busy for ever, however they are spelt."""

from __future__ import annotations

import re

import pytest

from dicom_node.operate.expressions import ends_soon

FOR_EVER = (
    "(a+)+$", "a*a*a*a*b", "a+?a+?a+?a+?b", r"(a+|\\)+b", "(?x)(a+) +$", ".?" * 25 + "#", "a{0,64}" * 10 + "b",
    "(ab|a|b)*c", "(a|aa)" * 30, "(?:(?:a?b?c?){3}){20}d", "(?=(a+)+b)a", "(x)?(?(1)(a+)+|(b+)+)c", "(?i:(a+)+)",
    "(" * 3000 + ")" * 3000, "a{99999999999}",
)  # fmt: skip
SOON = (
    "", "chest|thorax", r"\bCT\b.*\b(chest|thorax|lung)\b", "^(?:ab)+$", "[a-z]{1,12} ?[0-9]+", ".*chest.*contrast.*",
    "lung(?!.*recon)", "(?P<part>chest) (?P=part)", "^.{64}$", "(?:[0-9]{3}){4}",
)  # fmt: skip


@pytest.mark.parametrize("pattern", FOR_EVER, ids=range(len(FOR_EVER)))
def test_an_expression_that_goes_back_without_end_is_told_however_it_is_spelt(pattern: str) -> None:
    assert not ends_soon(pattern)


@pytest.mark.parametrize("pattern", SOON, ids=range(len(SOON)))
def test_an_expression_as_people_write_it_ends_soon(pattern: str) -> None:
    assert ends_soon(pattern)
    re.search(pattern, "a" * 512)


def test_what_is_no_expression_is_not_judged() -> None:
    with pytest.raises(re.error):
        ends_soon("(a")

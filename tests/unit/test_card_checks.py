"""Numbers that a model leaves about its own answer, held against the `[[check]]` of its card."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from dicom_node.core.errors import ModelUnavailable, NotAnalysable, SettingsError
from dicom_node.inference.answers.plausible import hold_checks
from dicom_node.inference.cards.card import SHIPPED_MODELS, ModelCard, load_card
from dicom_node.inference.cards.fields import CardFields
from dicom_node.inference.cards.outputs import read_check

BRAIN = load_card(SHIPPED_MODELS / "mr-brain-volumes")


def whole() -> dict[str, float]:
    """Figures in the middle of what every check expects."""
    found: dict[str, float] = {}
    for one in BRAIN.checks:
        low, high = one.plausible.low, one.plausible.high
        found[one.figure] = (low + high) / 2 if low is not None and high is not None else (low or high or 0.0)
    return {**found, "total-ml": 1300.0}


def test_an_answer_whose_figures_are_those_of_a_brain_passes() -> None:
    hold_checks(BRAIN, whole())


@pytest.mark.parametrize("place", range(len(BRAIN.checks)), ids=[f"{one.figure} {one.code}" for one in BRAIN.checks])
def test_each_check_refuses_on_both_of_its_sides_and_its_limits_pass(place: int) -> None:
    check = BRAIN.checks[place]
    alone = dataclasses.replace(BRAIN, checks=(check,))
    for limit, step in ((check.plausible.low, -1e-3), (check.plausible.high, 1e-3)):
        if limit is None:
            continue
        hold_checks(alone, {check.figure: limit})
        with pytest.raises(NotAnalysable, match=re.escape(check.label)) as refusal:
            hold_checks(alone, {check.figure: limit * (1 + step)})
        assert refusal.value.reason == check.code


def test_the_gravest_gives_the_reason_and_all_are_told() -> None:
    with pytest.raises(NotAnalysable) as refusal:
        hold_checks(BRAIN, {**whole(), "mean-probability": 0.6, "hippocampus-ml": 40.0})

    assert refusal.value.reason == "UNSURE_OUTLINES"
    assert "0.6" in str(refusal.value)
    assert "hippocampi" in str(refusal.value) or "hippocampus" in str(refusal.value)


def test_what_is_no_brain_needs_no_sides() -> None:
    with pytest.raises(NotAnalysable) as refusal:
        hold_checks(BRAIN, {"total-ml": 0.0, "mean-probability": 0.0})
    assert refusal.value.reason == "NO_BRAIN"


def test_a_figure_that_is_missing_is_an_error_of_the_model() -> None:
    figures = whole()
    del figures["clusters"]
    with pytest.raises(ModelUnavailable, match="'clusters'"):
        hold_checks(BRAIN, figures)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('figure = "a"\nlabel = "A"\ncode = "A_CODE"', "min or max"),
        ('figure = "a"\nlabel = "A"\ncode = "a code"\nmin = 1', "capital letters"),
        ('label = "A"\ncode = "A_CODE"\nmin = 1', "figure"),
    ],
)
def test_a_check_that_could_not_be_held_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        read_check(CardFields(Path("card.toml"), tomllib.loads(text), "check[0]."))


def test_the_card_outlines_seventeen_structures_and_measures_those_that_are_worth_it() -> None:
    def structure(key: str) -> str:
        return key.removeprefix("left-").removeprefix("right-")

    assert len({structure(one.key) for one in BRAIN.segments}) == 17
    unmeasured = {structure(one.key) for one in BRAIN.segments if not one.measure}
    assert unmeasured == {"inferior-horn", "accumbens", "ventral-diencephalon"}
    assert all((one.side is not None) == one.key.startswith(("left-", "right-")) for one in BRAIN.segments)


def test_the_card_says_what_the_numbers_are_not() -> None:
    card: ModelCard = BRAIN
    said = f"{card.intended_use} {card.limits}".lower()
    assert "research" in said
    assert "4.2 ml" in said
    assert "6.1 ml" in said
    assert "human connectome project" in said
    assert "percentile" not in said
    assert "atroph" not in said

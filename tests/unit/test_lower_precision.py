"""Answers in a lower precision held against those in float32, as a card tolerates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_node.governance.golden import GoldenOutcome
from dicom_node.governance.lower_precision import held_to_float32
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card

CARD = replace(load_card(SHIPPED_MODELS / "cxr-pneumonia"), precision="bfloat16", precision_tolerance=0.02)


def outcome(probability: float | None = 0.4, volume_ml: float = 200.0, presence: str = "PRESENT") -> GoldenOutcome:
    finding: dict[str, Any] = {
        "key": "mass",
        "presence": presence,
        "probability": probability,
        "measurements": [{"label": "Volume", "value": volume_ml}],
    }
    return GoldenOutcome("a study", "a.toml", [], {"state": "DONE", "findings": [finding]})


def test_what_lies_within_the_tolerance_is_told_with_the_largest_distance() -> None:
    (held,) = held_to_float32(CARD, [outcome(0.405, 202.0)], [outcome()])

    assert held.differences == []
    assert held.told == ["bfloat16 is at most 0.0099 from float32, in Volume of mass (1); 0.02 is tolerated"]


@pytest.mark.parametrize(
    ("lower", "told"),
    [
        (outcome(0.43), "at most 0.03 from float32, in the probability of mass; 0.02 is tolerated"),
        (outcome(volume_ml=210.0), "at most 0.048 from float32, in Volume of mass (1)"),
        (outcome(presence="ABSENT"), "in bfloat16 it says DONE; mass ABSENT 1, in float32 DONE; mass PRESENT 1"),
    ],
)
def test_what_lies_beyond_it_is_a_difference_with_its_figures(lower: GoldenOutcome, told: str) -> None:
    (held,) = held_to_float32(CARD, [lower], [outcome()])

    (difference,) = held.differences
    assert told in difference


def test_a_study_that_was_not_answered_keeps_what_is_said_of_it() -> None:
    died = GoldenOutcome("a study", "a.toml", ["it ran out of memory"], {})

    assert held_to_float32(CARD, [died], [outcome()]) == [died]

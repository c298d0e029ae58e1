"""What calibrated scores let expect, held against labels; and when reviewers disagree more than before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from dicom_node.core.drift.agreement_chart import FEWEST_REVIEWS, weeks_of
from dicom_node.core.drift.estimate import estimates

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)


def rows_of(scores: np.ndarray, threshold: float = 0.5) -> list[dict[str, float | str]]:
    return [
        {"score.x": float(score), "presence.x": "PRESENT" if score >= threshold else "ABSENT"} for score in scores
    ]  # fmt: skip


def judged(scores: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> Mapping[str, float]:
    """Return what labels say."""
    ranks = stats.rankdata(scores)
    positive, negative = labels.sum(), (~labels).sum()
    area = (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative)
    called = scores >= threshold
    return {"auroc": area, "sensitivity": called[labels].mean(), "specificity": (~called)[~labels].mean()}


@pytest.mark.parametrize("shape", [(0.4, 0.6), (2.0, 2.0), (1.0, 5.0)])
def test_calibrated_scores_tell_what_labels_would_say(shape: tuple[float, float]) -> None:
    rng = np.random.default_rng(4)
    scores = np.round(rng.beta(*shape, size=20_000), 2)
    labels = rng.random(len(scores)) < scores
    found = estimates(rows_of(scores))["x"]
    for name, value in judged(scores, labels).items():
        assert getattr(found, name) == pytest.approx(value, abs=0.015)
    assert found.prevalence == pytest.approx(labels.mean(), abs=0.01)


def test_a_model_that_is_less_sure_is_expected_to_do_worse() -> None:
    rng = np.random.default_rng(4)
    sure, unsure = rng.beta(0.3, 0.3, size=500), rng.beta(3, 3, size=500)
    before, after = estimates(rows_of(sure))["x"], estimates(rows_of(unsure))["x"]
    assert before.auroc is not None
    assert after.auroc is not None
    assert before.auroc > 0.9
    assert after.auroc < 0.8


def test_images_beyond_the_known_looks_are_left_out_and_few_cases_say_nothing() -> None:
    rng = np.random.default_rng(4)
    rows = [row | {"looks.distance": 0.5 if place % 2 else 1.2} for place, row in enumerate(rows_of(rng.random(60)))]
    found = estimates(rows)["x"]
    assert (found.cases, found.beyond_known) == (30, 30)
    assert estimates(rows[:30]) == {}
    assert estimates([{"score.x": 0.0, "presence.x": "ABSENT"}] * 30)["x"].auroc is None


def test_reviewers_who_disagree_as_before_give_no_signal_and_those_who_disagree_more_do() -> None:
    def week(number: int, disagreed: int, reviewed: int = 40) -> list[tuple[datetime, bool]]:
        return [(MONDAY + timedelta(days=7 * number), place < disagreed) for place in range(reviewed)]

    decided = [*week(0, 3), *week(1, 5), *week(2, 16), *week(3, 4)]
    found = weeks_of((20, 200), decided, MONDAY + timedelta(days=28))
    assert [one.is_signal for one in found] == [False, False, True, False]
    assert [(one.reviewed, one.disagreed) for one in found] == [(40, 3), (40, 5), (40, 16), (40, 4)]
    assert found[0].low == 0
    assert 9 <= found[0].high <= 13
    assert len(weeks_of((20, 200), decided, MONDAY + timedelta(days=27))) == 4 - 1, "a week that goes on says nothing"
    assert weeks_of((1, FEWEST_REVIEWS - 1), decided, MONDAY + timedelta(days=28)) == []


def test_the_limits_hold_in_all_but_three_of_a_thousand_weeks() -> None:
    rng = np.random.default_rng(6)
    signals = 0
    for _ in range(1500):
        share = rng.uniform(0.02, 0.3)
        reference = (int(rng.binomial(60, share)), 60)
        disagreed = int(rng.binomial(25, share))
        decided = [(MONDAY, place < disagreed) for place in range(25)]
        signals += sum(one.is_signal for one in weeks_of(reference, decided, MONDAY + timedelta(days=14)))
    assert signals <= 12

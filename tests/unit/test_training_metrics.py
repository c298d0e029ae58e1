"""Figures of a classifier against values known by hand or by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.special import expit

from dicom_node.inference.training.figures import metrics
from dicom_node.inference.training.figures.metrics import Scored


def scored(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None) -> Scored:
    labels = np.asarray(labels, dtype=bool)
    names = np.arange(labels.size) if patients is None else np.asarray(patients)
    return Scored(labels=labels, scores=np.asarray(scores, dtype=float), patients=names.astype(str))


def drawn(count: int, temperature: float = 1.0) -> Scored:
    """Labels drawn from known log odds, which are then stated `temperature` times too extreme."""
    random = np.random.default_rng(7)
    log_odds = random.normal(0.0, 2.0, count)
    return scored(random.uniform(size=count) < expit(log_odds), log_odds * temperature)


def test_auroc_counts_the_pairs_in_the_right_order() -> None:
    assert metrics.auroc(scored([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])) == pytest.approx(0.75)


def test_a_tie_counts_half_in_the_auroc() -> None:
    assert metrics.auroc(scored([0, 1], [0.5, 0.5])) == pytest.approx(0.5)


def test_auroc_of_one_class_is_not_a_number() -> None:
    assert np.isnan(metrics.auroc(scored([1, 1], [0.2, 0.3])))


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=40))
def test_auroc_equals_the_count_over_all_pairs(pairs: list[tuple[bool, int]]) -> None:
    ill = [score for label, score in pairs if label]
    healthy = [score for label, score in pairs if not label]
    expected = np.mean([(a > b) + 0.5 * (a == b) for a in ill for b in healthy]) if ill and healthy else float("nan")
    found = metrics.auroc(scored([label for label, _ in pairs], [score for _, score in pairs]))
    assert found == pytest.approx(expected, nan_ok=True)


def test_sensitivity_counts_a_score_on_the_threshold_as_ill() -> None:
    sample = scored([1, 1, 1, 1, 0, 0], [0.9, 0.5, 0.4, 0.1, 0.5, 0.2])
    assert metrics.sensitivity(sample, 0.5) == pytest.approx(0.5)
    assert metrics.specificity(sample, 0.5) == pytest.approx(0.5)


def test_the_threshold_is_the_highest_with_the_wanted_sensitivity() -> None:
    sample = scored([1] * 20 + [0], [*np.linspace(0.05, 1.0, 20), 0.5])
    threshold = metrics.threshold_for_sensitivity(sample, 0.95)
    assert metrics.sensitivity(sample, threshold) == pytest.approx(0.95)
    assert metrics.sensitivity(sample, np.nextafter(threshold, 1.0)) < 0.95


def test_no_threshold_is_chosen_without_an_ill_image() -> None:
    with pytest.raises(ValueError, match="both classes"):
        metrics.threshold_for_sensitivity(scored([0, 0], [0.1, 0.2]), 0.95)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_log_odds_is_found_again(temperature: float) -> None:
    assert metrics.fit_temperature(drawn(40_000, temperature)) == pytest.approx(temperature, rel=0.03)


def test_the_shift_that_spoilt_the_log_odds_is_found_again() -> None:
    spoilt = drawn(40_000, temperature=2.0)
    moved = Scored(labels=spoilt.labels, scores=spoilt.scores + 1.5, patients=spoilt.patients)
    assert metrics.fit_shift(spoilt) == pytest.approx(0.0, abs=0.05)
    assert metrics.fit_shift(moved) == pytest.approx(1.5, abs=0.05)


def test_calibration_lowers_the_error_and_keeps_the_order() -> None:
    spoilt = drawn(20_000, temperature=4.0)
    before = metrics.probabilities(spoilt, 1.0)
    after = metrics.probabilities(spoilt, metrics.fit_temperature(spoilt))
    assert metrics.expected_calibration_error(after) < 0.015 < metrics.expected_calibration_error(before)
    assert metrics.brier_score(after) < metrics.brier_score(before)
    assert metrics.auroc(after) == pytest.approx(metrics.auroc(before), abs=1e-6)


def test_calibration_error_and_brier_score_of_a_constant_answer() -> None:
    constant = scored([1, 0, 0, 0], [0.75, 0.75, 0.75, 0.75])
    assert metrics.expected_calibration_error(constant) == pytest.approx(0.5)
    assert metrics.brier_score(constant) == pytest.approx((0.25**2 + 3 * 0.75**2) / 4)


def test_the_interval_of_a_share_agrees_with_the_normal_approximation() -> None:
    sample = scored([1] * 400 + [0], [1.0] * 320 + [0.0] * 81)
    interval = metrics.bootstrap_interval(lambda drawn: metrics.sensitivity(drawn, 0.5), sample)
    half_width = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert interval.value == pytest.approx(0.8)
    assert interval.low == pytest.approx(0.8 - half_width, abs=0.01)
    assert interval.high == pytest.approx(0.8 + half_width, abs=0.01)


def test_images_of_one_patient_are_drawn_together() -> None:
    scores = [1.0] * 320 + [0.0] * 80
    alone = metrics.bootstrap_interval(lambda s: metrics.sensitivity(s, 0.5), scored([1] * 400, scores))
    in_tens = scored([1] * 400, scores, np.repeat(np.arange(40), 10))
    grouped = metrics.bootstrap_interval(lambda s: metrics.sensitivity(s, 0.5), in_tens)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)


def test_equal_seeds_give_equal_intervals() -> None:
    sample = drawn(200)
    first, again = (metrics.bootstrap_interval(metrics.auroc, sample, resamples=50, seed=3) for _ in range(2))
    assert first == again

"""When a difference counts as drift: tests held against scipy's own, and how often chance alone is called drift."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from dicom_node.core.drift.features import is_output, sound_features
from dicom_node.core.drift.plan import LOOKS, WINDOWS_DAYS, DriftPlan
from dicom_node.operate.drift.comparison import NONE, Sample, compared, sample_of

BEGAN = datetime(2026, 1, 5, tzinfo=UTC)


def numbers_of(*values: float) -> Sample:
    return sample_of([{"score": value} for value in values])


def kernels_of(**counts: int) -> Sample:
    return sample_of([{"kernel": name} for name, number in counts.items() for _ in range(number)])


def test_numbers_are_compared_as_scipy_does_and_never_called_surer_than_they_are() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.3, 1.0):
        before, after = rng.normal(size=200), rng.normal(shift, size=40)
        found = compared(numbers_of(*before), numbers_of(*after), "score")
        exact = stats.ks_2samp(before, after, method="exact")
        assert found is not None
        assert found.statistic == pytest.approx(exact.statistic)
        assert exact.pvalue <= found.p_value <= max(3 * exact.pvalue, exact.pvalue**0.8)
        assert (found.reference_n, found.window_n, found.test) == (200, 40, "ks")


def test_categories_are_compared_as_scipy_does() -> None:
    found = compared(kernels_of(A=120, B=60, C=20), kernels_of(A=30, B=40, C=10), "kernel")
    expected = stats.chi2_contingency([[120, 60, 20], [30, 40, 10]], correction=False)
    assert found is not None
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(2 * expected.pvalue)
    assert found.shift == pytest.approx((abs(0.6 - 0.375) + abs(0.3 - 0.5) + abs(0.1 - 0.125)) / 2)


def test_small_cells_are_merged_and_a_category_never_seen_before_is_found_among_them_all_the_same() -> None:
    small = compared(kernels_of(A=197, B=1, C=1, D=1), kernels_of(A=50), "kernel")
    assert small is not None
    assert small.p_value > 0.5
    unseen = compared(kernels_of(A=200), kernels_of(A=27, new=3), "kernel")
    exact = stats.fisher_exact([[0, 200], [3, 27]], alternative="less").pvalue
    assert unseen is not None
    assert exact < 0.01
    assert unseen.p_value == pytest.approx(2 * exact)
    assert unseen.shift == pytest.approx(0.1)


def test_a_category_that_is_not_told_any_more_is_a_category_and_a_missing_number_is_none() -> None:
    before, after = kernels_of(A=100), sample_of([{"score": 0.5}] * 30)
    found = compared(before, after, "kernel")
    assert found is not None
    assert (found.window_n, found.shift, found.p_value < 1e-9) == (30, 1.0, True)
    assert sample_of([{"kernel": "A"}, {"score": 1.0}]).categories["kernel"] == {"A": 1, NONE: 1}
    assert compared(numbers_of(*range(50)), sample_of([{"kernel": "A"}] * 30), "score") is None


def test_chance_alone_is_called_drift_less_often_than_the_plan_allows() -> None:
    rng, plan, features = np.random.default_rng(5), DriftPlan(smallest_shift=0.0), 2
    p_values = [
        found.p_value
        for _ in range(2000)
        for reference, window in [(_sample(rng, 200), _sample(rng, 40))]
        for found in (compared(reference, window, name) for name in reference.features)
        if found is not None
    ]
    assert len(p_values) == 4000
    for level in (0.001, 0.01, 0.05):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * np.sqrt(level / 4000)
    limit = plan.false_alarms / (LOOKS * len(WINDOWS_DAYS) * features)
    assert plan.is_drift((limit * 0.99, 0.5), 28, features, stands=False)
    assert not plan.is_drift((limit * 1.01, 0.5), 28, features, stands=False)


def _sample(rng: np.random.Generator, number: int) -> Sample:
    rare = int(rng.binomial(number, 0.3))
    kernels = {"kernel": {"A": number - rare, "B": rare}}
    return Sample(results=number, numbers={"score": np.sort(rng.normal(size=number))}, categories=kernels)


def test_what_is_too_small_to_matter_is_no_drift_and_what_stands_ends_only_when_it_is_clearly_over() -> None:
    plan = DriftPlan()
    assert not plan.is_drift((1e-30, 0.09), 28, 10, stands=False)
    assert plan.is_drift((1e-30, 0.1), 28, 10, stands=False)
    assert not plan.is_drift((1e-30, 0.14), 7, 10, stands=False), "a week differs from others by itself"
    assert plan.is_drift((1e-30, 0.16), 7, 10, stands=False)
    assert plan.is_drift((0.009, 0.06), 28, 10, stands=True)
    assert not plan.is_drift((0.009, 0.04), 28, 10, stands=True)
    assert not plan.is_drift((0.02, 0.3), 28, 10, stands=True)


def test_a_reference_is_of_whole_weeks_and_of_results_enough() -> None:
    plan = DriftPlan(reference_days=10, reference_results=4)
    one_a_day = [BEGAN + timedelta(days=day, hours=9) for day in range(30)]
    assert plan.reference_ends(BEGAN, one_a_day[:3]) is None
    assert plan.reference_ends(BEGAN, one_a_day) == BEGAN + timedelta(days=14)
    one_a_week = [BEGAN + timedelta(days=7 * week, hours=9) for week in range(30)]
    assert plan.reference_ends(BEGAN, one_a_week) == BEGAN + timedelta(days=28)


def test_of_what_a_worker_says_only_finite_numbers_and_short_words_are_kept() -> None:
    said = {
        "score.x": 0.5, "tag.KVP": float("nan"), "tag.Rows": 10**400, "": 1, 7: 1,
        "tag.ConvolutionKernel": "A\x00B" * 90, "outcome": ["DONE"], "x" * 200: 1.0,
    }  # fmt: skip
    assert sound_features(said) == {"score.x": 0.5, "tag.ConvolutionKernel": ("AB" * 90)[:64]}
    assert len(sound_features({f"score.{number}": 1 for number in range(1000)})) == 64
    assert sound_features(None) == {}
    assert [is_output(name) for name in ("score.x", "outcome", "measure.lung.Volume", "pixels.mean", "tag.KVP")] == [
        True, True, True, False, False,
    ]  # fmt: skip

"""Two samples of the same features compared: numbers by Kolmogorov-Smirnov, categories by chi-square.

Only `scipy.special` is used: `scipy.stats` would cost the serving process a second and 60 MB for three functions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, kolmogorov

from dicom_node.core.drift.plan import FEWEST_VALUES

Floats = NDArray[np.float64]
#: Cells that are expected to hold fewer are merged: the approximation is too rough for them (Cochran).
_SMALLEST_CELL = 5.0
#: What is said of a result that lacks a category which others have.
NONE = "(none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Values of many results by feature: sorted numbers, or how often each category came."""

    results: int
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        """Those with values enough to be compared, in order of their names."""
        numbers = [name for name, values in self.numbers.items() if len(values) >= FEWEST_VALUES]
        categories = [name for name, counts in self.categories.items() if sum(counts.values()) >= FEWEST_VALUES]
        return sorted(numbers + categories)

    def size(self, feature: str) -> int:
        """Return how many values of a feature there are."""
        if feature in self.numbers:
            return len(self.numbers[feature])
        return sum(self.categories.get(feature, {}).values())


def sample_of(rows: Iterable[Mapping[str, float | str]]) -> Sample:
    """Gather the features of results. A category that a result lacks is one of its own; a number is left out."""
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    categories: defaultdict[str, Counter[str]] = defaultdict(Counter)
    results = 0
    for row in rows:
        results += 1
        for name, value in row.items():
            if isinstance(value, str):
                categories[name][value] += 1
            else:
                numbers[name].append(float(value))
    for counts in categories.values():
        lacking = results - counts.total()
        counts.update({NONE: lacking} if lacking else {})
    return Sample(
        results=results,
        numbers={name: np.sort(np.asarray(values, dtype=np.float64)) for name, values in numbers.items()},
        categories={name: dict(counts) for name, counts in categories.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleComparison:
    """How one feature differs between reference and window: `statistic` of the test, `shift` 0 to 1, and how likely
    so much is by chance."""

    feature: str
    test: str
    reference_n: int
    window_n: int
    statistic: float
    shift: float
    p_value: float


def compared(reference: Sample, window: Sample, feature: str) -> SampleComparison | None:
    """Compare one feature of the reference; `None` where the window has too few values."""
    sizes = (reference.size(feature), window.size(feature))
    if feature in reference.categories:
        counts = window.categories.get(feature, {NONE: window.results} if window.results else {})
        if sum(counts.values()) < FEWEST_VALUES:
            return None
        test, (statistic, shift, p_value) = "chi2", _by_chi_square(reference.categories[feature], counts)
        sizes = (sizes[0], sum(counts.values()))
    else:
        if sizes[1] < FEWEST_VALUES:
            return None
        test, (statistic, shift, p_value) = "ks", _by_ks(reference.numbers[feature], window.numbers[feature])
    return SampleComparison(
        feature=feature, test=test, reference_n=sizes[0], window_n=sizes[1], statistic=statistic, shift=shift,
        p_value=p_value,
    )  # fmt: skip


def _by_ks(reference: Floats, window: Floats) -> tuple[float, float, float]:
    """Return D twice and its asymptotic p-value, which is never smaller than the exact one by much, and larger where
    values repeat."""
    at = np.concatenate([reference, window])
    below = np.searchsorted(reference, at, side="right") / len(reference)
    distance = float(np.abs(below - np.searchsorted(window, at, side="right") / len(window)).max())
    scale = math.sqrt(len(reference) * len(window) / (len(reference) + len(window)))
    return distance, distance, float(kolmogorov(scale * distance))


def _by_chi_square(reference: Mapping[str, int], window: Mapping[str, int]) -> tuple[float, float, float]:
    """Return chi-square, the half sum of the differences of shares, and a p-value.

    Small cells are merged. A category that the reference never had would vanish among them, so it is tested by itself,
    exactly (Fisher, one-sided); the smaller of both p-values counts twice.
    """
    sizes = np.array([sum(reference.values()), sum(window.values())], dtype=np.float64)
    names = sorted({*reference, *window})
    counts = np.array([[one.get(name, 0) for name in names] for one in (reference, window)], dtype=np.float64)
    kept = _merged(counts, _SMALLEST_CELL * sizes.sum() / sizes.min())
    expected = np.outer(sizes, kept.sum(axis=0)) / sizes.sum()
    statistic = float(((kept - expected) ** 2 / expected).sum())
    p_value = float(chdtrc(kept.shape[1] - 1, statistic)) if kept.shape[1] > 1 else 1.0
    unseen = int(sum(number for name, number in window.items() if not reference.get(name)))
    shift = float(np.abs(counts[0] / sizes[0] - counts[1] / sizes[1]).sum() / 2)
    return statistic, shift, min(1.0, 2 * min(p_value, _all_in_window(unseen, int(sizes[0]), int(sizes[1]))))


def _merged(counts: Floats, smallest: float) -> Floats:
    """Return the cells (2, categories) with the rarest put together until none holds fewer than `smallest`."""
    ordered = counts[:, np.argsort(counts.sum(axis=0), kind="stable")]
    while ordered.shape[1] > 1 and ordered[:, 0].sum() < smallest:
        both = ordered[:, :2].sum(axis=1, keepdims=True)
        ordered = np.column_stack([both, ordered[:, 2:]])
        ordered = ordered[:, np.argsort(ordered.sum(axis=0), kind="stable")]
    return ordered


def _all_in_window(number: int, reference: int, window: int) -> float:
    """Return how likely it is that this many, if spread by chance over both samples, all lie in the window."""
    if not number:
        return 1.0
    ways = math.lgamma(window + 1) - math.lgamma(window - number + 1)
    return math.exp(ways - math.lgamma(reference + window + 1) + math.lgamma(reference + window - number + 1))

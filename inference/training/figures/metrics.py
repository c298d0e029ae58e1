"""Figures of a two-class classifier: discrimination, calibration, operating point, and intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a classifier said about each image; the three arrays are (images,) and aligned.

    `scores` may be logits or probabilities; higher means more likely ill. `patients` are the groups that the
    bootstrap draws: images of one patient are not independent.
    """

    labels: BoolArray
    scores: FloatArray
    patients: NDArray[np.str_]

    def take(self, indices: NDArray[np.intp]) -> Scored:
        """Return the images at these indices; an index may come more than once."""
        return Scored(labels=self.labels[indices], scores=self.scores[indices], patients=self.patients[indices])

    def with_scores(self, scores: FloatArray) -> Scored:
        """Return the same images with other scores (images,)."""
        return Scored(labels=self.labels, scores=scores, patients=self.patients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A point estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def auroc(scored: Scored) -> float:
    """Return the area under the ROC curve, 0..1: the chance that an ill image scores above a healthy one.

    Ties count half. Not a number when only one class is there.
    """
    ill, healthy = int(scored.labels.sum()), int((~scored.labels).sum())
    if not ill or not healthy:
        return float("nan")
    rank_sum = float(rankdata(scored.scores)[scored.labels].sum())
    return (rank_sum - ill * (ill + 1) / 2) / (ill * healthy)


def sensitivity(scored: Scored, threshold: float) -> float:
    """Return the share of ill images whose score is at or above `threshold`."""
    return _share(scored.scores[scored.labels] >= threshold)


def specificity(scored: Scored, threshold: float) -> float:
    """Return the share of healthy images whose score is below `threshold`."""
    return _share(scored.scores[~scored.labels] < threshold)


def brier_score(scored: Scored) -> float:
    """Return the mean squared error of the probabilities, 0 (perfect) to 1."""
    return float(np.mean((scored.scores - scored.labels) ** 2))


def expected_calibration_error(scored: Scored, *, bins: int = 15) -> float:
    """Return the mean distance between stated probability and observed frequency, over equal-width bins."""
    bin_of = np.minimum((scored.scores * bins).astype(np.intp), bins - 1)
    gaps = [
        abs(float(scored.scores[bin_of == index].mean() - scored.labels[bin_of == index].mean()))
        * float(np.mean(bin_of == index))
        for index in np.unique(bin_of)
    ]
    return sum(gaps)


def fit_temperature(scored: Scored) -> float:
    """Return the temperature by which to divide the logits so that their likelihood is greatest (Guo et al. 2017).

    `scored.scores` are log odds: ill logit minus healthy logit. The search is bounded to 0.05..20.
    """
    signed = np.where(scored.labels, scored.scores, -scored.scores)

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / np.exp(log_temperature)).mean())

    best = minimize_scalar(negative_log_likelihood, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(best.x))


def fit_shift(scored: Scored) -> float:
    """Return what to subtract from the log odds so that, with the best temperature, their likelihood is greatest.

    Augmentation moves all logits of a network a little; a temperature alone cannot move them back (Platt 1999).
    """
    signs = np.where(scored.labels, 1.0, -1.0)

    def negative_log_likelihood(shift_and_log_temperature: FloatArray) -> float:
        shift, log_temperature = shift_and_log_temperature
        return float(np.logaddexp(0.0, -signs * (scored.scores - shift) / np.exp(log_temperature)).mean())

    best = minimize(negative_log_likelihood, x0=np.zeros(2), method="Nelder-Mead")
    return float(best.x[0])


def probabilities(scored: Scored, temperature: float, shift: float = 0.0) -> Scored:
    """Turn log odds, less `shift`, into calibrated probabilities."""
    return scored.with_scores(np.asarray(expit((scored.scores - shift) / temperature), dtype=np.float64))


def threshold_for_sensitivity(scored: Scored, wanted: float) -> float:
    """Return the highest threshold that still finds at least the `wanted` share of the ill images."""
    ill_scores = np.sort(scored.scores[scored.labels])[::-1]
    if not ill_scores.size:
        raise ValueError("No ill image to choose a threshold on; the validation set needs both classes.")
    needed = max(1, int(np.ceil(wanted * ill_scores.size - 1e-9)))
    return float(ill_scores[needed - 1])


def bootstrap_interval(
    statistic: Callable[[Scored], float], scored: Scored, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the statistic with its 95 % percentile interval; whole patients are drawn with replacement.

    Draws on which the statistic is undefined (one class only) do not count.
    """
    random = np.random.default_rng(seed)
    _, group_of = np.unique(scored.patients, return_inverse=True)
    groups = [np.flatnonzero(group_of == group) for group in range(int(group_of.max()) + 1)]

    draws = np.empty(resamples)
    for draw in range(resamples):
        chosen = random.integers(len(groups), size=len(groups))
        draws[draw] = statistic(scored.take(np.concatenate([groups[group] for group in chosen])))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Interval(value=statistic(scored), low=float(low), high=float(high))


def _share(hits: BoolArray) -> float:
    return float(hits.mean()) if hits.size else float("nan")

"""When a difference between the reference and a window counts as drift, however often one looks. Pure.

Every day each feature of a stream (the results of one route, scanner and model version) is compared in two windows of
whole weeks, so that a weekend is in each. Of all these comparisons of a quarter, `false_alarms` in all may call drift
where there is none: each p-value is multiplied by their number (Bonferroni). That holds however the comparisons hang
together, and windows that slide by a day hang together closely. What is too small to matter is no drift, however sure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

#: How often each feature is looked at in a quarter: once a day.
LOOKS = 91
#: Of whole weeks; the short one sees what is gross within days, the long one what is small.
WINDOWS_DAYS = (7, 28)
#: A window with fewer values says nothing.
FEWEST_VALUES = 20
#: What stands goes on to stand until it is less sure than this, so that it does not come and go.
_ENDS_ABOVE_P = 0.01
#: By so much more a difference must be in the short window: found by simulation (benchmarks/drift.py).
_OF_A_WEEK = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPlan:
    """How long the reference is, in whole weeks and results, and what counts as drift.

    `false_alarms` is how many are expected at most in a quarter, of one stream. `smallest_shift` is the smallest
    difference that matters, 0 to 1: of two distributions (Kolmogorov-Smirnov D), or of two sets of shares (half the
    sum of their differences).
    """

    reference_days: int = 56
    reference_results: int = 200
    false_alarms: float = 0.1
    smallest_shift: float = 0.1

    def reference_ends(self, began: datetime, times: Sequence[datetime]) -> datetime | None:
        """Return when the reference is long enough, given when its results came, in order; `None`: not yet.

        It is of whole weeks, as the windows are.
        """
        if len(times) < self.reference_results:
            return None
        enough = (times[self.reference_results - 1] - began) / timedelta(days=7)
        weeks = max(math.ceil(self.reference_days / 7), math.floor(enough) + 1)
        return began + timedelta(weeks=weeks)

    def corrected(self, p_value: float, features: int) -> float:
        """Return how many comparisons of a quarter would look like this without any drift; at most 1."""
        return min(1.0, p_value * LOOKS * len(WINDOWS_DAYS) * features)

    def smallest_in(self, window_days: int) -> float:
        """Return the smallest shift that counts in a window: results of one day hang together, by who scans and who
        comes, so that a week differs from others by more than the p-value of single results allows for."""
        return self.smallest_shift * (_OF_A_WEEK if window_days == min(WINDOWS_DAYS) else 1.0)

    def is_drift(self, compared: tuple[float, float], window_days: int, features: int, *, stands: bool) -> bool:
        """Tell whether a difference, its p-value and its shift, is drift; what `stands` already ends only when it is
        clearly over."""
        p_value, shift = compared
        smallest = self.smallest_in(window_days)
        if stands and p_value <= _ENDS_ABOVE_P and shift >= smallest / 2:
            return True
        return shift >= smallest and self.corrected(p_value, features) <= self.false_alarms

"""Whether reviewers disagree more, or less, than they did: a control chart of weeks. Pure.

Its limits are those of a week's disagreements if nothing changed, by what is known of the share from the reference
(beta-binomial, Jeffreys' prior): 0.135 % on each side, as three sigma are. A short reference gives wide limits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

_TAIL = 0.00135
_WEEKS = 12
#: Reviews that a reference needs before limits are drawn.
FEWEST_REVIEWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedWeek:
    """One week from its Monday on; `is_signal` where the disagreements lie outside `low` to `high`."""

    week: date
    reviewed: int
    disagreed: int
    low: int
    high: int

    @property
    def is_signal(self) -> bool:
        """Whether so many, or so few, are no chance."""
        return not self.low <= self.disagreed <= self.high


def weeks_of(
    reference: tuple[int, int], decided: Iterable[tuple[datetime, bool]], before: datetime
) -> list[ReviewedWeek]:
    """Return the latest whole weeks with reviews; `reference` is how many disagreed, of how many. Each decision is its
    time and whether it disagreed with the model."""
    disagreed, total = reference
    if total < FEWEST_REVIEWS:
        return []
    counted: Counter[tuple[date, bool]] = Counter((_monday(at), is_other) for at, is_other in decided)
    mondays = sorted({week for week, _ in counted if week + timedelta(days=7) <= before.astimezone(UTC).date()})
    found = []
    for week in mondays[-_WEEKS:]:
        number = counted[week, True] + counted[week, False]
        low, high = _limits(number, disagreed + 0.5, total - disagreed + 0.5)
        found.append(ReviewedWeek(week=week, reviewed=number, disagreed=counted[week, True], low=low, high=high))
    return found


def _monday(at: datetime) -> date:
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def _limits(number: int, alpha: float, beta: float) -> tuple[int, int]:
    """Return the fewest and the most disagreements of so many reviews that are still chance."""
    below, low, high = 0.0, 0, number
    for count in range(number + 1):
        mass = math.exp(_log_mass(count, number, alpha, beta))
        if below + mass <= _TAIL:
            low = count + 1
        if below < 1 - _TAIL <= below + mass:
            high = count
        below += mass
    return low, high


def _log_mass(count: int, number: int, alpha: float, beta: float) -> float:
    ways = math.lgamma(number + 1) - math.lgamma(count + 1) - math.lgamma(number - count + 1)
    return ways + _log_beta(count + alpha, number - count + beta) - _log_beta(alpha, beta)


def _log_beta(left: float, right: float) -> float:
    return math.lgamma(left) + math.lgamma(right) - math.lgamma(left + right)

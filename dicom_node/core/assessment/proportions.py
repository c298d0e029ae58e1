"""Shares with their uncertainty: how many of how many, and between which bounds the true share lies. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Of the standard normal distribution, for 95 % on both sides.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Proportion:
    """`count` of `total`, and Wilson's 95 % interval; of nothing there is no share, and every share is possible."""

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(f"{self.count} of {self.total} is no proportion.")

    @property
    def share(self) -> float | None:
        """The share, 0 to 1."""
        return self.count / self.total if self.total else None

    @property
    def low(self) -> float:
        """Lower bound of the interval."""
        return self._bounds()[0]

    @property
    def high(self) -> float:
        """Upper bound of the interval."""
        return self._bounds()[1]

    def _bounds(self) -> tuple[float, float]:
        """Return the score interval of Wilson (1927), which holds for few cases and for shares near 0 and 1 too
        (Newcombe, Statistics in Medicine 1998;17:857, method 3)."""
        if not self.total:
            return 0.0, 1.0
        share, squared = self.count / self.total, _Z * _Z
        middle = share + squared / (2 * self.total)
        half = _Z * math.sqrt(share * (1 - share) / self.total + squared / (4 * self.total**2))
        scale = 1 + squared / self.total
        low = 0.0 if self.count == 0 else (middle - half) / scale  # exact at the ends, not but for rounding
        high = 1.0 if self.count == self.total else (middle + half) / scale
        return low, high

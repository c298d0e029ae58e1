"""How long a destination that takes nothing is left in peace: by the time it is away, not by what waits for it."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: How often a destination that is away is asked whether it is back: after a sixtieth of the time it has been away for,
#: between these bounds in seconds.
_ASK_EVERY_S = 5.0
_ASK_SELDOM_S = 30.0
_ASKED_PER_DOUBLING = 60.0


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait after the n-th failure in a row: doubling from `first_s` up to `longest_s`, a tenth shaken."""

    first_s: float
    longest_s: float

    def wait_s(self, failures: int) -> float:
        """Return the wait after `failures` (at least 1) failures in a row."""
        return self._shaken(self.first_s * 2.0 ** min(failures - 1, 30))

    def wait_after_s(self, away_s: float) -> float:
        """Return the wait for what has been away for so long; the time away doubles with each wait."""
        return self._shaken(max(self.first_s, away_s))

    def _shaken(self, seconds: float) -> float:
        return min(seconds, self.longest_s) * random.uniform(0.9, 1.1)  # noqa: S311 - spreads retries, guards nothing


class Outage:
    """A time in which a destination takes nothing. All times are seconds of a clock that is never set.

    Between attempts it is asked whether it is there; when it answers after it had not, the next attempt is due at once.
    """

    def __init__(self, back_off: BackOff, began_at: float) -> None:
        self._back_off = back_off
        self.began_at = began_at
        self._answered = False
        self._attempt_at = self._ask_at = began_at

    def attempt_failed(self, now: float, *, answered: bool, at_least_s: float = 0.0) -> None:
        """Wait again; `answered` tells whether the destination was there at all, `at_least_s` is its own wish."""
        self._answered = answered
        self._attempt_at = now + max(self._back_off.wait_after_s(now - self.began_at), at_least_s)
        self._ask_at = now + self._ask_wait_s(now)

    def asked(self, now: float, *, answered: bool) -> None:
        """Note whether it was there when it was asked."""
        if answered and not self._answered:
            self._attempt_at = now
        self._answered = answered
        self._ask_at = now + self._ask_wait_s(now)

    def is_attempt_due(self, now: float) -> bool:
        """Tell whether a delivery is to be attempted."""
        return now >= self._attempt_at

    def is_to_be_asked(self, now: float) -> bool:
        """Tell whether the destination is to be asked whether it is there."""
        return now >= self._ask_at

    def _ask_wait_s(self, now: float) -> float:
        often_s = min(_ASK_EVERY_S, self._back_off.first_s)
        return min(max((now - self.began_at) / _ASKED_PER_DOUBLING, often_s), _ASK_SELDOM_S)

"""What failed sign-ins cost whoever tries again: those who guess wait, and nobody else does."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from dicom_node.core.calls.limits import network_of
from dicom_node.core.errors import SignInDelayed

_WINDOW_S = 60.0
_MOST_KEPT = 4096


class FailureLimit:
    """At most `per_minute` failures from one address (one /64 network for IPv6); safe to share between threads."""

    def __init__(
        self, per_minute: int = 10, max_addresses: int = _MOST_KEPT, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._max_addresses = max_addresses
        self._clock_s = clock_s
        self._failures_at: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Return how long this address must wait before its next try; 0 when it may try now."""
        with self._lock:
            times = self._failures_at.get(network_of(address))
            if times is None or len(times) < self._per_minute:
                return 0.0
            return max(0.0, times[0] + _WINDOW_S - self._clock_s())

    def failed(self, address: str) -> None:
        """Count a failure. Of too many addresses the one that has been quiet longest is forgotten."""
        with self._lock:
            key = network_of(address)
            times = self._failures_at.setdefault(key, deque(maxlen=self._per_minute))
            times.append(self._clock_s())
            self._failures_at.move_to_end(key)
            while len(self._failures_at) > self._max_addresses:
                self._failures_at.popitem(last=False)


class LockOut:
    """After five wrong passwords one by one, each waits twice as long as the one before, from 15 s to 15 minutes.

    What is locked is a pair: a name, and the address or the known browser where it was tried. Anywhere else its owner
    signs in as before. A try counts when it begins, so that many at once are no way around. Safe to share.
    """

    FREE = 5
    FIRST_WAIT_S = 15.0
    LONGEST_WAIT_S = 900.0
    FORGOTTEN_AFTER_S = 3600.0

    def __init__(self, most_kept: int = _MOST_KEPT, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._most_kept = most_kept
        self._clock_s = clock_s
        self._tries: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()  # how many, and when the last
        self._lock = threading.Lock()

    def begin(self, name: str, place: str) -> None:
        """Count a try. Raises `SignInDelayed`; what is refused does not count."""
        with self._lock:
            now, pair = self._clock_s(), (name, place)
            tries, last_at = self._tries.pop(pair, (0, now))
            if now - last_at > self.FORGOTTEN_AFTER_S:
                tries = 0
            wait_s = self._wait_s(tries) - (now - last_at)
            self._tries[pair] = (tries, last_at) if wait_s > 0 else (tries + 1, now)
            while len(self._tries) > self._most_kept:
                self._tries.popitem(last=False)
        if wait_s > 0:
            raise delayed(wait_s)

    def succeeded(self, name: str, place: str) -> None:
        """Forget what failed before."""
        with self._lock:
            self._tries.pop((name, place), None)

    def _wait_s(self, tries: int) -> float:
        if tries < self.FREE:
            return 0.0
        return min(self.FIRST_WAIT_S * 2.0 ** min(tries - self.FREE, 10), self.LONGEST_WAIT_S)


def delayed(wait_s: float) -> SignInDelayed:
    """Return the refusal to look at a try now."""
    return SignInDelayed(f"Too many sign-ins failed here. Try again in {math.ceil(wait_s)} s.", wait_s)

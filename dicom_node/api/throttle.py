"""Slows down guessing: counts failed log-ins per address within the last minute, in bounded memory."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

_WINDOW_S = 60.0


class FailureLimit:
    """At most `per_minute` failures from one address (one /64 network for IPv6); safe to share between threads."""

    def __init__(
        self, per_minute: int = 10, max_addresses: int = 4096, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = per_minute
        self._max_addresses = max_addresses
        self._clock_s = clock_s
        self._failures_at: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Return how long this address must wait before its next try; 0 when it may try now."""
        with self._lock:
            times = self._failures_at.get(_group(address))
            if times is None or len(times) < self._per_minute:
                return 0.0
            return max(0.0, times[0] + _WINDOW_S - self._clock_s())

    def failed(self, address: str) -> None:
        """Count a failure. Of too many addresses the one that has been quiet longest is forgotten."""
        with self._lock:
            key = _group(address)
            times = self._failures_at.setdefault(key, deque(maxlen=self._per_minute))
            times.append(self._clock_s())
            self._failures_at.move_to_end(key)
            while len(self._failures_at) > self._max_addresses:
                self._failures_at.popitem(last=False)


def _group(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address

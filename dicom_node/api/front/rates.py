"""How often somebody may ask: a rate for each person or key, and one for each address of those who show nothing.

Whoever shows a credential is counted by who they are, and never by their address: behind one proxy or router is a whole
hospital, and one who asks without end there must not shut the others out. Wrong credentials have a limit of their own.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from dicom_node.api.answers.problems import ProblemError
from dicom_node.core.calls.limits import network_of
from dicom_node.core.principal import Principal

_WINDOW_S = 60.0
#: Of what one person may ask, an address of those who show nothing that is known may ask so much.
_STRANGERS_SHARE = 10


class Rate:
    """At most `per_minute` for each key, of which a whole minute's worth may come at once; safe to share.

    Kept is one moment for each key: when all it has used would have come back (generic cell rate algorithm).
    """

    def __init__(self, per_minute: int, max_keys: int = 4096, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._cost_s = _WINDOW_S / per_minute if per_minute else 0.0
        self._max_keys = max_keys
        self._clock_s = clock_s
        self._even_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> float:
        """Count one; or return how many seconds must pass before the next, and count nothing."""
        if not self._cost_s:
            return 0.0
        with self._lock:
            now = self._clock_s()
            even_at = max(now, self._even_at.get(key, now)) + self._cost_s
            if (wait_s := even_at - now - _WINDOW_S) > 1e-9:
                return wait_s
            self._even_at[key] = even_at
            self._even_at.move_to_end(key)
            while len(self._even_at) > self._max_keys:  # of too many the one that has been quiet longest is forgotten
                self._even_at.popitem(last=False)
            return 0.0


class Rates:
    """The rates of one API. `per_minute` 0 is none."""

    def __init__(self, per_minute: int) -> None:
        self._people = Rate(per_minute)
        self._strangers = Rate(math.ceil(per_minute / _STRANGERS_SHARE))

    def count_person(self, principal: Principal) -> None:
        """Raises `ProblemError` 429 when they have asked too often."""
        _refuse(self._people.wait_s(principal.identity), principal.name)

    def count_unknown(self, address: str) -> None:
        """Count one whose session nobody knows as one who shows nothing. Raises `ProblemError` 429."""
        _refuse(self.stranger_waits_s(address), "This address")

    def stranger_waits_s(self, address: str) -> float:
        """Count one who shows nothing; or return for how long their address has to wait."""
        return self._strangers.wait_s(network_of(address))


def too_often(who: str, wait_s: float) -> tuple[str, dict[str, str]]:
    """Return the detail and the headers of a refusal."""
    whole_s = max(1, math.ceil(wait_s))
    text = f"{who} asks more often than api.requests_per_minute allows. Try again in {whole_s} s."
    return text, {"Retry-After": str(whole_s)}


def _refuse(wait_s: float, who: str) -> None:
    if wait_s > 0:
        detail, headers = too_often(who, wait_s)
        raise ProblemError(429, detail, headers)

"""Callers that do not get in: what they make the log say is bounded, and those who go on are not heard any more."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.core.calls.limits import network_of

_WINDOW_S = 60.0
#: Of what one address is refused in a minute, so much is told line by line; above the other number it is worn out.
_LINES, _REFUSALS = 5, 30
_MAX_ADDRESSES = 4096
#: Of all addresses together so many lines are told in a minute: one caller may have 65536 networks of IPv6.
_ALL_LINES = 200
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Minute:
    ends_at: float
    count: int = 0


class Strangers:
    """Refusals by address (one /64 network for IPv6), minute by minute. Thread-safe."""

    def __init__(
        self,
        clock_s: Callable[[], float] = time.monotonic,
        tell: Callable[[str, str, str, int], None] = lambda *_: None,
    ) -> None:
        """`tell` hears of whatever a line tells: AE title and address, why, and how often."""
        self._clock_s = clock_s
        self._tell = tell
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()
        self._lines = _Minute(0.0)
        self._lock = threading.Lock()

    def refused(self, event: str, host: str, **more: object) -> None:
        """Note that this address was turned away; a line of the log tells it, while its share of the minute lasts."""
        if self._counted(host) <= _LINES and self._has_a_line():
            _log.warning(event, extra={"host": host, **more})
            self._tell(str(more.get("calling_ae_title", "")), host, str(more.get("why", event)), 1)

    def is_worn_out(self, host: str) -> bool:
        """Tell whether this address was refused so often that it need not be heard before its minute is over."""
        with self._lock:
            minute = self._minutes.get(network_of(host))
            return minute is not None and minute.count >= _REFUSALS and minute.ends_at > self._clock_s()

    def drop(self, host: str) -> None:
        """Count a connection that was closed unheard."""
        self._counted(host)

    def tell_rest(self) -> None:
        """Say of each address whose minute is over how much was not told line by line. To be called now and again."""
        for address, count in self._over():
            if count > _LINES and self._has_a_line():
                _log.warning("more connections were refused", extra={"host": address, "count": count - _LINES})
                self._tell("", address, "more connections were refused", count - _LINES)

    def _has_a_line(self) -> bool:
        """Tell whether the log has a line left in this minute; a new one says how many the last one had not."""
        with self._lock:
            now, over = self._clock_s(), self._lines
            if over.ends_at <= now:
                self._lines = _Minute(now + _WINDOW_S)
            self._lines.count += 1
            untold = over.count - _ALL_LINES if over is not self._lines else 0
            has_line = self._lines.count <= _ALL_LINES
        if untold > 0:
            _log.warning("lines on refused connections were left out", extra={"count": untold})
        return has_line

    def _counted(self, host: str) -> int:
        """Count one refusal; return how many there are in this minute of the address."""
        self.tell_rest()
        with self._lock:
            ends_at = self._clock_s() + _WINDOW_S
            minute = self._minutes.setdefault(network_of(host), _Minute(ends_at))
            minute.count += 1
            return minute.count

    def _over(self) -> list[tuple[str, int]]:
        """Forget the minutes that are over, and the oldest of too many; return address and count of each."""
        now, over = self._clock_s(), []
        with self._lock:
            while self._minutes:
                address, minute = next(iter(self._minutes.items()))  # they began in this order
                if minute.ends_at > now and len(self._minutes) <= _MAX_ADDRESSES:
                    break
                del self._minutes[address]
                over.append((address, minute.count))
        return over

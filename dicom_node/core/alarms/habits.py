"""When a scanner is silent for longer than its habit, by hour of the week. Pure.

Of each hour of the week it is known in how many of the last weeks something came in it. A silence is as surprising as
the hours in it were busy: the sum of -ln(1 - share), the logarithm of how seldom such a silence came about if each hour
were drawn by itself. Nights and weekends, in which nothing ever came, count nothing. And because hours are not
independent (a scanner may be used every other week), it must also be longer than the silences at this hour of the weeks
before; the longest of them is left out, for it may have been a fault itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

#: From so many weeks before it was heard last a habit is learned; one of which nothing is heard for longer has ended.
LEARNED_WEEKS = 8
#: A silence that would come about by chance once in e⁹, 8,000, times.
_SURPRISE = 9.0
_HOUR, _WEEK = timedelta(hours=1), timedelta(weeks=1)


@dataclass(frozen=True, slots=True)
class Silence:
    """A scanner that has been silent since `last_at` for longer than it is used to."""

    last_at: datetime
    expected_hours: float


def silence(
    heard: Sequence[datetime], watched: Collection[datetime], now: datetime, zone: tzinfo | None, least_weeks: float
) -> Silence | None:
    """Judge the times at which something came from a scanner; `None`: it is not silent, or not known for so long.

    `watched` are the beginnings of the hours in which the node was there; before the first of them it is taken to have
    been. `zone` is that by which the scanner is used.
    """
    if not heard:
        return None
    last, first = max(heard), min(heard)
    if last - first < least_weeks * _WEEK or now - last > LEARNED_WEEKS * _WEEK:
        return None
    hours = {hour_of(one) for one in heard}
    seen = _Watched(frozenset(watched))
    missed = [hour for hour in _hours(hour_of(last) + _HOUR, hour_of(now)) if hour in seen]
    shares = _shares(hours, max(hour_of(first), hour_of(last) - LEARNED_WEEKS * _WEEK), hour_of(last), seen, zone)
    expected = [shares.get(_slot(hour, zone), 0.0) for hour in missed]
    if sum(-math.log1p(-share) for share in expected) < _SURPRISE:
        return None
    gaps = sorted(_gap(hours, hour_of(now) - week * _WEEK) for week in range(1, LEARNED_WEEKS + 1))
    if len(missed) <= gaps[-2]:
        return None
    return Silence(last, sum(expected))


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the hour, in UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class _Watched:
    """The hours in which the node was there."""

    def __init__(self, hours: frozenset[datetime]) -> None:
        self._hours = hours
        self._first = min(hours, default=None)

    def __contains__(self, hour: datetime) -> bool:
        return self._first is None or hour < self._first or hour in self._hours


def _shares(
    heard: Collection[datetime], begin: datetime, end: datetime, seen: _Watched, zone: tzinfo | None
) -> dict[tuple[int, int], float]:
    """Return for each hour of the week in which share of the weeks something came; one more week is supposed without,
    so that a few weeks promise less than many."""
    all_of, heard_of = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for hour in _hours(begin, end + _HOUR):
        if hour in seen:
            slot = _slot(hour, zone)
            all_of[slot] += 1
            heard_of[slot] += hour in heard
    return {slot: heard_of[slot] / (number + 1) for slot, number in all_of.items()}


def _slot(hour: datetime, zone: tzinfo | None) -> tuple[int, int]:
    local = hour.astimezone(zone)
    return local.weekday(), local.hour


def _gap(heard: Collection[datetime], at: datetime) -> int:
    """Return how many hours before `at` nothing had come."""
    gap = 0
    while gap < LEARNED_WEEKS * 7 * 24 and at - (gap + 1) * _HOUR not in heard:
        gap += 1
    return gap


def _hours(begin: datetime, end: datetime) -> list[datetime]:
    """Return the beginnings of the hours from `begin` until before `end`."""
    return [begin + number * _HOUR for number in range(max(0, (end - begin) // _HOUR))]

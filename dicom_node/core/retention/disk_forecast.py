"""When the disk will be full, foretold from how full it was day by day. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

_MEGABYTE = 1 << 20

#: Below so many days of samples nothing is foretold, and beyond so many days none is looked at.
FEWEST_DAYS, MOST_DAYS = 5, 60
#: What would last longer than this is no forecast but a guess.
_FURTHEST_DAYS = 3650.0


@dataclass(frozen=True, slots=True)
class DiskSample:
    """How full the disk was on a day, counted from any day on."""

    day: int
    used_bytes: int
    total_bytes: int


class Growth(StrEnum):
    """How the disk has filled lately."""

    TOO_FEW_DAYS = "TOO_FEW_DAYS"
    NOT_GROWING = "NOT_GROWING"
    GROWING = "GROWING"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskForecast:
    """When the disk will be full, as it grew lately, in `text`, and in figures: `days` and `full_on` of one that is
    GROWING, `samples` on how many days it was looked at."""

    growth: Growth
    text: str
    samples: int
    bytes_per_day: int = 0
    days: float | None = None
    full_on: datetime | None = None


def forecast(samples: Iterable[DiskSample], free_bytes: int, now: datetime) -> DiskForecast:
    """Foretell from daily samples when nothing is free any more.

    The slope is the median of those between all pairs of days (Theil-Sen): a day on which somebody copied something
    large, or made room, changes it little.
    """
    found = sorted({one.day: one for one in samples}.values(), key=lambda one: one.day)[-MOST_DAYS:]
    if len(found) < FEWEST_DAYS:
        text = f"Not enough data: the disk was looked at on {len(found)} of the {FEWEST_DAYS} days that it takes."
        return DiskForecast(growth=Growth.TOO_FEW_DAYS, text=text, samples=len(found))
    slope = _median(_slopes(found))
    days = free_bytes / slope if slope > 0 else _FURTHEST_DAYS
    if days >= _FURTHEST_DAYS:
        text = f"Not growing, as of {len(found)} days."
        return DiskForecast(growth=Growth.NOT_GROWING, text=text, samples=len(found), bytes_per_day=round(slope))
    full_on = now + timedelta(days=days)
    text = f"Full on {full_on:%Y-%m-%d}, in {days:.0f} days: it grows by {slope / _MEGABYTE:,.0f} MB a day."
    return DiskForecast(
        growth=Growth.GROWING,
        text=text,
        samples=len(found),
        bytes_per_day=round(slope),
        days=round(days, 1),
        full_on=full_on,
    )


def _slopes(samples: list[DiskSample]) -> Iterator[float]:
    for place, later in enumerate(samples):
        for earlier in samples[:place]:
            yield (later.used_bytes - earlier.used_bytes) / (later.day - earlier.day)


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
